"""A proxy before an S3 server that counts requests, delays them, and fails as a test says."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Literal

import aiohttp
from aiohttp import web
from yarl import URL

__all__ = ["FaultyS3", "running_faulty_s3"]

Fault = Literal["", "503", "hang", "gone"]
_NOT_FORWARDED = ("connection", "keep-alive", "transfer-encoding", "expect")


class FaultyS3:
    """A running proxy. `counts`: requests by kind, which is `LIST` or the method; `delays`: seconds by kind; `fault`:
    how all requests fail now, if at all; `refused`: statuses by kind; `hides_conflicts`: as of a server that
    ignores conditions. `paths` are those of the counted requests."""

    def __init__(self, target: str) -> None:
        self.url = ""
        self.counts = Counter[str]()
        self.delays: dict[str, float] = {}
        self.refused: dict[str, int] = {}
        self.hides_conflicts = False
        self.paths: list[str] = []
        self.received_bytes = 0
        self._target = target
        self._fault: Fault = ""
        self._is_healthy = asyncio.Event()
        self._is_healthy.set()
        self._session: aiohttp.ClientSession | None = None

    @property
    def fault(self) -> Fault:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        if fault:
            self._is_healthy.clear()
        else:
            self._is_healthy.set()

    def forget(self) -> None:
        """Begin to count from zero."""
        self.counts.clear()
        self.paths.clear()
        self.received_bytes = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        kind = "LIST" if request.method == "GET" and "list-type" in request.query else request.method
        self.counts[kind] += 1
        self.paths.append(f"{kind} {request.raw_path}")
        body = await request.read()
        self.received_bytes += len(body)
        if self.fault == "gone":
            return await self._hang_up(request)
        if self.fault == "503":
            return web.Response(status=503, text="<Error><Code>SlowDown</Code></Error>")
        if self.fault == "hang":
            await self._is_healthy.wait()
            return await self._hang_up(request)
        if kind in self.refused:
            return web.Response(status=self.refused[kind])
        await asyncio.sleep(self.delays.get(kind, 0.0))
        return await self._forward(request, body)

    async def _forward(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        """Forward a request with the address that it was signed for."""
        assert self._session is not None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_FORWARDED}
        url = URL(self._target + request.raw_path, encoded=True)
        async with self._session.request(request.method, url, headers=headers, data=BytesIO(body)) as answer:
            if self.hides_conflicts and answer.status in (409, 412):
                return web.Response(headers={"etag": '"0"'})
            given = {name: value for name, value in answer.headers.items() if name.lower() not in _NOT_FORWARDED}
            if request.method == "HEAD":
                response = web.StreamResponse(status=answer.status, headers=given)
                await response.prepare(request)
                await response.write_eof()
                return response
            given = {name: value for name, value in given.items() if name.lower() != "content-length"}
            return web.Response(status=answer.status, headers=given, body=await answer.read())

    @staticmethod
    async def _hang_up(request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    async def open(self) -> None:
        timeout = aiohttp.ClientTimeout(total=60)
        self._session = aiohttp.ClientSession(auto_decompress=False, timeout=timeout)

    async def close(self) -> None:
        self.fault = ""
        if self._session is not None:
            await self._session.close()


@asynccontextmanager
async def running_faulty_s3(target: str) -> AsyncIterator[FaultyS3]:
    """Start a proxy before the server at `target`."""
    proxy = FaultyS3(target)
    await proxy.open()
    application = web.Application(client_max_size=2**30)
    application.router.add_route("*", "/{path:.*}", proxy.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield proxy
    finally:
        await proxy.close()
        with contextlib.suppress(asyncio.CancelledError):
            await runner.cleanup()
