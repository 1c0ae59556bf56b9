"""The outer edge: who may come in, how large a request may be, and how an error looks.

One middleware round every route: request id, key, rights, limits, errors in the caller's own format. Auth covers every
route but a named list. Framework errors and broken HTTP get the same treatment; nothing answers with a traceback, and
no log line holds the bytes of a request.
"""

import asyncio
import logging
import os
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache, partial
from typing import Any, Final

import orjson
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError
from aiohttp.web_exceptions import HTTPException

from gateway import splice
from gateway.config import Config, LimitsConfig, is_loopback
from gateway.errors import (
    BadRequest,
    Forbidden,
    GatewayError,
    NotFound,
    TooLarge,
    UnsupportedEncoding,
)
from gateway.identity import Keyring
from gateway.offload import offload
from gateway.telemetry import Telemetry
from gateway.turn import Principal, Right
from gateway.wire.dialects import messages
from gateway.wire.dialects.chat import error_body
from gateway.wire.places import Place, Places, place_of, set_place

__all__ = [
    "Guard",
    "Protocol",
    "parse_json",
    "principal_of",
    "read_body",
    "read_json",
    "request_id_of",
    "set_request_id",
    "with_expectations",
]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger("gateway.wire")
_OPEN_ROUTES: Final = frozenset(("/", "/health", "/ready", "/metrics", "/openapi.json", "/docs"))
_SENT = 64 * 1024  # bytes that the system may hold for one client
_SLASHES = re.compile(r"/{2,}")
_ENCODINGS = "send the body plain, or with gzip or deflate"
_DECODED_BY_SERVER = ("", "identity", "gzip", "deflate")
_CORS_HEADERS = (
    "authorization, content-type, x-gateway-key, x-memory-user, x-memory-session, x-memory-mode, "
    "x-memory-budget, x-memory-selectivity, x-memory-task, idempotency-key, openai-organization, openai-project, "
    "openai-beta, x-api-key, "
    "anthropic-version, anthropic-beta, anthropic-dangerous-direct-browser-access"
)
_SINGLE: Final = (
    *(
        "x-memory-user",
        "x-memory-session",
        "x-memory-mode",
        "x-memory-budget",
        "x-memory-selectivity",
        "idempotency-key",
    ),
    *("x-gateway-key", "authorization", "x-api-key", "api-key"),
)
# a pair, or one half of it, behind all backslashes that stand before: only an odd number of them begins an escape
_HALVES = re.compile(
    rb"(?P<slashes>\\+)u(?:(?P<pair>[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|\xed[\xa0-\xbf][\x80-\xbf]"
)
_REPLACEMENT = "\ufffd".encode()
_PRINCIPAL: Final = web.RequestKey("principal", Principal)
_REQUEST_ID: Final = web.RequestKey("request_id", str)


def principal_of(request: web.Request) -> Principal:
    return request[_PRINCIPAL]


def request_id_of(request: web.Request) -> str:
    return request[_REQUEST_ID]


def set_request_id(request: web.Request, request_id: str) -> None:
    """Give the request the id of its turn, where that is one of its own."""
    request[_REQUEST_ID] = request_id


class Guard:
    """The middleware, and the signal that completes the head of each answer."""

    def __init__(self, config: Config, keyring: Keyring, telemetry: Telemetry) -> None:
        self._config = config
        self._keyring = keyring
        self._telemetry = telemetry
        self._places = Places(config.limits)
        telemetry.in_flight.set_function(lambda: self._places.requests)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        path = request.path
        face = face_of(_SLASHES.sub("/", path) if "//" in path else path)
        request[_REQUEST_ID] = request_id = os.urandom(16).hex()
        place = self._places.enter()
        set_place(request, place)
        try:
            place.check()
            response = await self._answer(request, handler, face, place)
        except GatewayError as error:
            response = error_response(error, face)
        except HTTPException as error:
            response = error_response(_framework_error(error), face)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:  # noqa: BLE001 — the outermost handler: a fault of ours, logged whole
            _log.exception("request_failed", extra={"request": request_id})
            if request.writer.output_size > 0 and request.transport is not None:
                request.transport.close()  # an answer was begun: only breaking it says that it is not whole
            response = error_response(GatewayError("the gateway failed; the request id tells where to look"), face)
        finally:
            place.leave()
        self._telemetry.bound("requests", face, str(response.status)).inc()
        self._telemetry.bound("duration", face).observe(time.perf_counter() - began)
        return response

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """What stands at the head of every answer, streams included."""
        request_id = request.get(_REQUEST_ID)
        if request_id is not None:
            response.headers.setdefault("x-request-id", request_id)
            response.headers["x-gateway-request-id"] = request_id
        self._add_cors(request, response)

    async def _answer(self, request: web.Request, handler: Handler, face: str, place: Place) -> web.StreamResponse:
        if request.method == "OPTIONS" and "origin" in request.headers:
            return web.Response(status=204)
        if request.path not in _OPEN_ROUTES:
            self._let_in(request, face)
            if not self._keyring.is_open:
                place.take_key(id(principal_of(request)))  # keyrings keep their principals: an object stands for a key
        if "//" in request.path:
            return await _with_single_slashes(request)
        return await handler(request)

    def _let_in(self, request: web.Request, face: str) -> None:
        if self._keyring.is_open and not _is_local(request.host):
            # a page of another site can reach this port under a name of its own (DNS rebinding)
            raise Forbidden("without auth.keys the gateway answers to localhost and 127.0.0.1 only")
        if self._keyring.is_open and not self._is_own_page(request):
            # a page of another site can send, even where it cannot read: it must not write anybody's memory
            raise Forbidden("without auth.keys, pages of other sites are refused; see server.cors_origins")
        _check_single(request, (*_SINGLE, *self._config.memory.user_headers))
        principal = self._keyring.principal(request.headers)
        needed = Right.MEMORY if face == "memos" else Right.CHAT
        if needed not in principal.rights:
            raise Forbidden(f"this key does not have the right `{needed}`")
        request[_PRINCIPAL] = principal

    def _is_own_page(self, request: web.Request) -> bool:
        origin = request.headers.get("origin")
        return origin is None or origin == f"http://{request.host}" or self._is_allowed(origin)

    def _is_allowed(self, origin: str) -> bool:
        return not {origin, "*"}.isdisjoint(self._config.server.cors_origins)

    def _add_cors(self, request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get("origin")
        if origin is None or not self._is_allowed(origin):
            return
        response.headers["access-control-allow-origin"] = origin
        response.headers["vary"] = "origin"
        response.headers["access-control-expose-headers"] = "*"
        if request.method == "OPTIONS":
            asked = request.headers.get("access-control-request-headers", "")
            stainless = [name.strip() for name in asked.split(",") if name.strip().lower().startswith("x-stainless-")]
            response.headers["access-control-allow-headers"] = ", ".join([_CORS_HEADERS, *stainless])
            response.headers["access-control-allow-methods"] = "GET, POST, DELETE, OPTIONS"
            response.headers["access-control-max-age"] = "600"


class Protocol(web.RequestHandler):
    """aiohttp's connection, with errors of HTTP itself as JSON and without its log of raw bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound what the system holds for a client that reads slowly: the rest waits at the upstream."""
        super().connection_made(transport)
        made = transport.get_extra_info("socket")
        if made is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; there is no place for an error")
        if status >= 500:
            _log.error("connection_failed", exc_info=exc)
            error = GatewayError("the gateway failed")
        elif isinstance(exc, ContentEncodingError):
            status = UnsupportedEncoding.status
            error = UnsupportedEncoding(_ENCODINGS, param="content-encoding")
        else:
            error = GatewayError("this is no HTTP request that can be understood", code="bad_http")
            error.type = "invalid_request_error"
        response = web.Response(
            status=status,
            body=error_body(error.message, error.type, error.code, error.param),
            content_type="application/json",
        )
        response.force_close()
        return response


def _check_single(request: web.Request, names: Iterable[str]) -> None:
    """Raise BadRequest where a header that says who asks, or for whom, is there twice with different values."""
    headers = request.headers
    if len(set(map(str.lower, headers))) == len(headers):
        return
    for name in names:
        if len({value.strip() for value in headers.getall(name, ())}) > 1:
            raise BadRequest(f"{name} is sent more than once, with different values", code="invalid_id", param=name)


@lru_cache(maxsize=64)
def _is_local(host_header: str) -> bool:
    host, _, port = host_header.rpartition(":")
    return is_loopback(host if host and port.isdigit() else host_header)


def face_of(path: str) -> str:
    """Whose format a path speaks: `openai`, `anthropic`, `memos` or `ops`."""
    if path.startswith(("/product", "/api/openmem")):
        return "memos"
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "ops" if path in _OPEN_ROUTES else "openai"


def error_response(error: GatewayError, face: str) -> web.Response:
    """An error in the format of a face."""
    if face == "memos":
        body = orjson.dumps({"code": error.status, "message": error.message, "data": None})
    elif face == "anthropic":
        body = messages.error_body(error.message, messages.anthropic_type(error.status))
    else:
        body = error_body(error.message, error.type, error.code, error.param)
    return web.Response(status=error.status, body=body, headers=error.headers, content_type="application/json")


def with_expectations(routes: Iterable[web.AbstractRouteDef]) -> list[web.AbstractRouteDef]:
    """The same routes; an `Expect` header that nobody knows costs none of them its answer."""
    return [
        web.RouteDef(route.method, route.path, route.handler, {**route.kwargs, "expect_handler": _expected})
        if isinstance(route, web.RouteDef)
        else route
        for route in routes
    ]


async def _expected(request: web.Request) -> None:
    """`Expect: 100-continue` is answered; any other expectation is none that we know, and is passed over."""
    if request.headers.get("expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # it was no part of the answer


async def read_body(request: web.Request, limits: LimitsConfig) -> bytes:
    """The request's body, bounded in size and time. Raises BadRequest, TooLarge or UnsupportedEncoding."""
    most = limits.body_mb * 2**20
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in _DECODED_BY_SERVER:
        raise UnsupportedEncoding(_ENCODINGS, param="content-encoding")
    if (request.content_length or 0) > most:
        raise _too_large(limits)
    try:
        if request.content.is_eof():  # it came with the head, as most do: nothing to wait for
            return await _read_whole(request, limits)
        async with asyncio.timeout(limits.body_timeout):
            return await _read_whole(request, limits)
    except TimeoutError as error:
        raise BadRequest(
            "the body did not arrive in time", code="body_timeout", headers={"connection": "close"}
        ) from error
    except web.RequestPayloadError as error:
        raise BadRequest("the body is not what its headers say (length or encoding)", code="bad_body") from error


async def _read_whole(request: web.Request, limits: LimitsConfig) -> bytes:
    """The body, counted as it arrives. Raises TooLarge, Overloaded or TooManyRequests."""
    place, most = place_of(request), limits.body_mb * 2**20
    pieces: list[bytes] = []
    size = 0
    while piece := await request.content.readany():
        size += len(piece)
        if size > most:
            raise _too_large(limits)
        place.take_bytes(len(piece))
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def parse_json(raw: bytes, limits: LimitsConfig) -> Any:
    """JSON of bounded depth and number of values. Raises BadRequest."""
    if raw.count(b"[") + raw.count(b"{") > limits.json_depth or raw.count(b",") > limits.json_values:
        shape = splice.structure(raw)
        if sum(map(shape.count, (b",", b"[", b"{"))) > limits.json_values:
            raise BadRequest(f"the body has more than {limits.json_values} values", code="invalid_json")
        if splice.is_deeper(shape, limits.json_depth):
            raise BadRequest(f"the body is nested deeper than {limits.json_depth} levels", code="invalid_json")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        where = f" at line {error.lineno}, column {error.colno}" if raw else ""
        raise BadRequest(f"the body is not valid JSON{where}", code="invalid_json") from error
    return body


async def read_json(request: web.Request, limits: LimitsConfig) -> tuple[bytes, Any]:
    """The body and the JSON in it. Halves of surrogate pairs, which clients make when they cut a text in the middle of
    an emoji, are replaced, so that one damaged character does not end a conversation. Raises what `read_body` and
    `parse_json` raise."""
    raw = await read_body(request, limits)
    try:
        return raw, parse_json(raw, limits)
    except BadRequest:
        repaired = await offload(partial(_with_whole_characters, raw), len(raw))
        if repaired == raw:
            raise
        return repaired, parse_json(repaired, limits)


def _with_whole_characters(raw: bytes) -> bytes:
    return _HALVES.sub(_whole_character, raw)


def _whole_character(match: re.Match[bytes]) -> bytes:
    slashes = match["slashes"]
    if slashes is None:
        return _REPLACEMENT
    return match[0] if match["pair"] or len(slashes) % 2 == 0 else slashes[:-1] + _REPLACEMENT


async def _with_single_slashes(request: web.Request) -> web.StreamResponse:
    """The route that the path means: clients join a base URL that ends in a slash with a path that begins with one."""
    clean = request.clone(
        rel_url=request.rel_url.with_path(_SLASHES.sub("/", request.rel_url.raw_path), encoded=True, keep_query=True)
    )
    found = await request.app.router.resolve(clean)
    found.add_app(request.app)
    clean._match_info = found  # noqa: SLF001 — aiohttp has no public way to give a request another route
    return await found.handler(clean)


def _too_large(limits: LimitsConfig) -> TooLarge:
    return TooLarge(f"the body has more than {limits.body_mb} MiB", headers={"connection": "close"})


def _framework_error(error: HTTPException) -> GatewayError:
    if error.status == 404:
        return NotFound("there is no such path here; see the README for what is")
    made = GatewayError(error.reason or "the request cannot be served", code="http_error")
    made.status = error.status
    made.type = "invalid_request_error" if error.status < 500 else "internal_error"
    if error.status == 405:
        made.code = "method_not_allowed"
        made.headers = {"allow": error.headers.get("allow", "")}
    return made
