"""Writes responses to the client: the response of a turn, or an upstream response relayed as it is."""

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence

from aiohttp import web

from gateway.errors import GatewayError, UpstreamFailed
from gateway.formats.errors import replace_non_json
from gateway.pipeline.response import TurnResponse
from gateway.server.heartbeat import with_heartbeat
from gateway.upstream import headers as header_lists
from gateway.upstream.client import Incoming, Upstream
from gateway.upstream.decoder import decoder_of
from gateway.upstream.replay import read_error
from gateway.upstream.scrub import Scrubber, scrubbed

__all__ = ["relay", "send"]

_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_TEXTS = ("text/", "application/json")


async def send(request: web.Request, response: TurnResponse, keep_alive: float | None = None) -> web.StreamResponse:
    """Write a turn's response to the client. A truncated stream ends with its error event and an aborted connection.

    `keep_alive`: seconds of silence after which a stream gets a heartbeat comment.
    """
    try:
        if not response.is_stream:
            body = await response.read()
            return web.Response(status=response.status, headers=response.headers, body=body)
        headers = {**response.headers, **_STREAM_HEADERS}
        chunks = response.chunks()
        if keep_alive is not None and "content-encoding" not in response.headers:  # a comment damages compressed bytes
            chunks = with_heartbeat(chunks, keep_alive)
        return await _write_out(request, response.status, headers, chunks)
    finally:
        response.close()


async def relay(
    request: web.Request, incoming: Incoming, upstream: Upstream, secrets: Sequence[bytes]
) -> web.StreamResponse:
    """Relay an upstream response without `secrets`; an error that is not JSON is wrapped."""
    try:
        headers = header_lists.down(incoming.headers)
        encoding = incoming.headers.get("content-encoding")
        decoder = decoder_of(incoming.headers)
        if incoming.status >= 400 and decoder.can_decode:
            body = decoder.whole(await read_error(incoming)) or b""
            if replace_non_json(incoming.status, body, upstream.name) is not None:
                raise _non_json_error(incoming.status, upstream.name, headers)
            return web.Response(status=incoming.status, headers=headers, body=scrubbed(body, secrets))
        if encoding:
            headers["content-encoding"] = encoding
        length = incoming.headers.get("content-length")
        is_text = bool(secrets) and not encoding and headers.get("content-type", "").startswith(_TEXTS)
        if length is not None and not is_text:
            headers["content-length"] = length
        elif length is None:
            headers.update(_STREAM_HEADERS)
        chunks = _scrub_chunks(incoming.chunks(), secrets) if is_text else incoming.chunks()
        return await _write_out(request, incoming.status, headers, chunks)
    finally:
        incoming.close()


async def _write_out(
    request: web.Request, status: int, headers: dict[str, str], body_chunks: AsyncGenerator[bytes]
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    try:
        async with contextlib.aclosing(body_chunks) as chunks:
            async for chunk in chunks:
                await response.write(chunk)
    except GatewayError:
        _abort_connection(request)
        return response
    await response.write_eof()
    return response


async def _scrub_chunks(chunks: AsyncGenerator[bytes], secrets: Sequence[bytes]) -> AsyncGenerator[bytes]:
    scrubber = Scrubber(secrets)
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            if clean := scrubber.feed(chunk):
                yield clean
    if clean := scrubber.end():
        yield clean


def _non_json_error(status: int, upstream: str, headers: Mapping[str, str]) -> GatewayError:
    """Wrap an upstream error that is not JSON, which no client could parse, as a gateway error."""
    retry_headers = {
        name: value for name, value in headers.items() if name.startswith(("retry-after", "x-should-retry"))
    }
    error = UpstreamFailed(f"the upstream {upstream} answered {status} without a JSON error", headers=retry_headers)
    error.status = status
    return error


def _abort_connection(request: web.Request) -> None:
    """Flush the buffer and close without the end marker, so that no client takes the response for complete."""
    if request.transport is not None:
        request.transport.close()
