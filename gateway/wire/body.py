"""A request body that is passed through: of any length, piece by piece, each of which must come in time."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from gateway.config import LimitsConfig
from gateway.errors import BadRequest, GatewayError, TooLarge

__all__ = ["Pieces"]


class Pieces:
    """`failure` is what was wrong with the body, once `read` has raised for it. What was compressed (aiohttp undoes
    that) is bounded."""

    def __init__(self, request: web.Request, limits: LimitsConfig) -> None:
        self._request = request
        self._timeout = limits.body_timeout
        self._most = limits.body_mb * 2**20 if "content-encoding" in request.headers else None
        self.failure: GatewayError | None = None

    async def read(self) -> AsyncIterator[bytes]:
        """Raises BadRequest or TooLarge; the connection is closed then."""
        size = 0
        while True:
            try:
                async with asyncio.timeout(self._timeout):
                    piece = await self._request.content.readany()
            except TimeoutError:
                raise self._failed(BadRequest("the body did not arrive in time", code="body_timeout")) from None
            except web.RequestPayloadError:
                raise self._failed(BadRequest("the body is not what its headers say", code="bad_body")) from None
            if not piece:
                return
            size += len(piece)
            if self._most is not None and size > self._most:
                raise self._failed(TooLarge(f"the body has more than {self._most // 2**20} MiB"))
            yield piece

    def _failed(self, failure: GatewayError) -> GatewayError:
        failure.headers = {"connection": "close"}
        self.failure = failure
        return failure
