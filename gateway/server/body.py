"""Streams a request body through, chunk by chunk: of any length, with a timeout for each chunk."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from gateway.config import LimitsConfig
from gateway.errors import BadRequest, GatewayError, TooLarge

__all__ = ["Pieces"]


class Pieces:
    """The chunks of a request body. `failure` is the error that `read` raised, if any.

    The size is limited only for compressed bodies, which aiohttp decompresses.
    """

    def __init__(self, request: web.Request, limits: LimitsConfig) -> None:
        self._request = request
        self._timeout = limits.body_timeout
        self._max_bytes = limits.body_mb * 2**20 if "content-encoding" in request.headers else None
        self.failure: GatewayError | None = None

    async def read(self) -> AsyncIterator[bytes]:
        """Yield the chunks. Raises BadRequest or TooLarge, which close the connection."""
        size = 0
        while True:
            try:
                async with asyncio.timeout(self._timeout):
                    chunk = await self._request.content.readany()
            except TimeoutError:
                raise self._record_failure(BadRequest("the body did not arrive in time", code="body_timeout")) from None
            except web.RequestPayloadError:
                raise self._record_failure(
                    BadRequest("the body is not what its headers say", code="bad_body")
                ) from None
            if not chunk:
                return
            size += len(chunk)
            if self._max_bytes is not None and size > self._max_bytes:
                raise self._record_failure(TooLarge(f"the body has more than {self._max_bytes // 2**20} MiB"))
            yield chunk

    def _record_failure(self, failure: GatewayError) -> GatewayError:
        failure.headers = {"connection": "close"}
        self.failure = failure
        return failure
