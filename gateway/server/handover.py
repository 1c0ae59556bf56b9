"""Hands requests over to the owner of the store, that another worker got: all but chats, and what passes to
upstreams; of the console's pages these, too.

A request is handed over whole, before it is authenticated, counted or limited here: the owner does all of that, as if
the client had come to it. What depends on where a request comes from (`Host`, `Origin`, cookies) is in its headers; no
rule depends on the address of the peer.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from gateway.errors import BadRequest, GatewayError, MemoryUnavailable
from gateway.server.apis import Answerer, Apis, error_response, normalized_path
from gateway.server.guard import set_request_id
from gateway.server.owner_connection import OwnerConnection, OwnerLost
from gateway.server.sign_in import session_token
from gateway.telemetry import Telemetry

__all__ = ["Handover"]

_log = logging.getLogger("gateway.workers")
_PATIENCE: Final = 5.0  # seconds that a request waits for an owner that is away
_RETRY_PAUSE: Final = 0.05  # seconds
_MAX_WAITING: Final = 256  # requests that wait for an owner that is away
_CHECK_EVERY: Final = 1.0  # seconds that a client may take for a piece before it is checked whether the owner hung up
_RETRY: Final = {"retry-after": "1"}


class Handover:
    """The outermost middleware of a worker that does not own the store. `path`: of the owner's socket."""

    def __init__(self, path: str, apis: Apis, telemetry: Telemetry) -> None:
        self._path = path
        self._apis = apis
        self._telemetry = telemetry
        self._waiting = 0

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        answerer = self._apis.answerer_of(request.path)
        if answerer is Answerer.WORKER and session_token(request) is not None:
            answerer = Answerer.OWNER  # it alone knows the sessions of the console
        if answerer is Answerer.WORKER:
            return await handler(request)
        try:
            owner = await self._connect(0 if answerer is Answerer.OWNER_OR_WORKER else _PATIENCE)
        except OwnerLost as error:
            return self._refuse(request, error) if answerer is Answerer.OWNER else await handler(request)
        try:
            return await self._relay(request, owner)
        finally:
            owner.close()

    async def _connect(self, patience: float) -> OwnerConnection:
        """Connect to the owner, and wait for it if it is away. Raises OwnerLost."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            try:
                return await OwnerConnection.open(self._path)
            except OSError as error:
                if loop.time() >= deadline or self._waiting >= _MAX_WAITING:
                    raise OwnerLost("the owner of the store is away") from error
            self._waiting += 1
            try:
                await asyncio.sleep(_RETRY_PAUSE)
            finally:
                self._waiting -= 1

    async def _relay(self, request: web.Request, owner: OwnerConnection) -> web.StreamResponse:
        sending = asyncio.create_task(owner.send(request), name="handover-send")

        def end_wait(task: asyncio.Task[None]) -> None:
            if _bad_body(task) is not None:
                owner.close()

        sending.add_done_callback(end_wait)
        try:
            head = await owner.head()
            sending.remove_done_callback(end_wait)
            response = web.StreamResponse(status=head.status, reason=head.reason, headers=head.headers)
            if head.is_last:
                response.force_close()
            await response.prepare(request)
            if request.method != "HEAD" and head.status not in (204, 304):
                try:
                    async for piece in owner.body(head):
                        await _write(response, request, piece, owner)
                except OwnerLost:
                    _abort(request)  # only that shows the client that the answer is not complete
                    return response
            await response.write_eof()
            return response
        except OwnerLost as error:
            bad_body = _bad_body(sending)
            return self._refuse(request, error) if bad_body is None else self._respond(request, bad_body)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def _refuse(self, request: web.Request, cause: OwnerLost) -> web.Response:
        _log.warning("handover_failed", extra={"cause": str(cause)})
        message = "the process that manages the memories is not available now; try again"
        return self._respond(request, MemoryUnavailable(message, headers=dict(_RETRY)))

    def _respond(self, request: web.Request, error: GatewayError) -> web.Response:
        api = self._apis.of(normalized_path(request.path))
        set_request_id(request, os.urandom(16).hex())
        self._telemetry.bound("requests", api.name, str(error.status)).inc()
        return error_response(error, api)


async def _write(response: web.StreamResponse, request: web.Request, piece: bytes, owner: OwnerConnection) -> None:
    """Write a piece of the body. A client that does not read holds its connection only as long as the owner does.

    Raises OwnerLost."""
    try:
        async with asyncio.timeout(_CHECK_EVERY):
            await response.write(piece)
        return
    except TimeoutError:  # the piece is in the buffer
        pass
    while not owner.has_hung_up():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CHECK_EVERY):
                await request.writer.drain()
            return
    if request.transport is not None:
        request.transport.abort()
    raise OwnerLost("the owner of the store closed the connection")


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


def _bad_body(sending: "asyncio.Task[None]") -> BadRequest | None:
    """The error of a client's body that could not be read."""
    error = sending.exception() if sending.done() and not sending.cancelled() else None
    return error if isinstance(error, BadRequest) else None
