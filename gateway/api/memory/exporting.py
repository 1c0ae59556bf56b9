"""Answers with memories as JSON lines."""

import contextlib

from aiohttp import web

from gateway.errors import GatewayError
from gateway.maintenance.selection import MemorySelection
from gateway.maintenance.transfer import Transfer

__all__ = ["stream_export"]


async def stream_export(
    request: web.Request, transfer: Transfer, selection: MemorySelection, *, with_vectors: bool
) -> web.StreamResponse:
    """Stream the selected memories as JSON lines. Raises MemoryUnavailable before the first line; later, the
    connection is cut."""
    pieces = transfer.export(selection, with_vectors=with_vectors)
    async with contextlib.aclosing(pieces):  # type: ignore[type-var]  # it is a generator
        first = await anext(pieces, b"")  # a failure before the first chunk becomes an ordinary error response
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        await response.prepare(request)
        await response.write(first)
        try:
            async for piece in pieces:
                await response.write(piece)
        except GatewayError:
            if request.transport is not None:
                request.transport.close()  # no end marker: the export is incomplete
            return response
    await response.write_eof()
    return response
