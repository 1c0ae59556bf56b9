"""The outermost layer: authentication, request limits and error responses.

One middleware around every route: request id, key, rights, limits, errors in the caller's own format. All routes need
authentication except the open paths of an API. Framework errors and malformed HTTP are handled alike; no response has a
traceback, and no log line contains the bytes of a request.
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

from gateway.concurrency.offload import offload
from gateway.config import Config, LimitsConfig, is_loopback
from gateway.errors import (
    BadRequest,
    Forbidden,
    GatewayError,
    NotFound,
    TooLarge,
    Unauthenticated,
    UnsupportedEncoding,
)
from gateway.formats import json_splice
from gateway.formats.errors import openai_error_body
from gateway.identity import Keyring
from gateway.server.apis import Api, Apis, error_response, normalized_path
from gateway.server.limits import RequestLimiter, RequestSlot, set_slot, slot_of
from gateway.server.sign_in import SignIns, check_console_request, session_token
from gateway.telemetry import Telemetry
from gateway.turn import Principal, Right

__all__ = [
    "Guard",
    "Protocol",
    "parse_json",
    "principal_of",
    "read_body",
    "read_json",
    "request_id_of",
    "session_of",
    "set_request_id",
    "with_expectations",
]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log = logging.getLogger("gateway.wire")
_SEND_BUFFER = 64 * 1024  # bytes in the socket send buffer of one client
_ENCODINGS = "send the body plain, or with gzip or deflate"
_DECODED_BY_SERVER = ("", "identity", "gzip", "deflate")
_CORS_HEADERS = (
    "authorization, content-type, x-gateway-key, x-memory-user, x-memory-session, x-memory-mode, "
    "x-memory-budget, x-memory-selectivity, x-memory-task, idempotency-key, openai-organization, openai-project, "
    "openai-beta, x-api-key, "
    "anthropic-version, anthropic-beta, anthropic-dangerous-direct-browser-access, "
    "mcp-protocol-version, mcp-method, mcp-name"
)
_UNIQUE_HEADERS: Final = (
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
# an escaped surrogate pair, or a lone half, with all backslashes before it: only an odd number begins an escape
_SURROGATES = re.compile(
    rb"(?P<slashes>\\+)u(?:(?P<pair>[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|\xed[\xa0-\xbf][\x80-\xbf]"
)
_REPLACEMENT = "\ufffd".encode()
_PRINCIPAL: Final = web.RequestKey("principal", Principal)
_REQUEST_ID: Final = web.RequestKey("request_id", str)
_SESSION: Final = web.RequestKey("session", str)


def principal_of(request: web.Request) -> Principal:
    return request[_PRINCIPAL]


def request_id_of(request: web.Request) -> str:
    return request[_REQUEST_ID]


def session_of(request: web.Request) -> str | None:
    """The token of the console's session that a request is sent in; None if it has a key."""
    return request.get(_SESSION)


def set_request_id(request: web.Request, request_id: str) -> None:
    """Replace the request id by the id of its turn, where these differ."""
    request[_REQUEST_ID] = request_id


class Guard:
    """The middleware, and the signal handler that completes the headers of each response."""

    def __init__(
        self, config: Config, keyring: Keyring, telemetry: Telemetry, apis: Apis, *, sign_ins: SignIns
    ) -> None:
        self._config = config
        self._sign_ins = sign_ins
        self._apis = apis
        self._keyring = keyring
        self._telemetry = telemetry
        self._places = RequestLimiter(config.limits)
        telemetry.in_flight.set_function(lambda: self._places.requests)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        path = request.path
        api = self._apis.of(normalized_path(path) if "//" in path else path)
        request[_REQUEST_ID] = request_id = os.urandom(16).hex()
        place = self._places.enter()
        set_slot(request, place)
        try:
            place.check()
            response = await self._answer(request, handler, api, place)
        except GatewayError as error:
            response = error_response(error, api)
        except HTTPException as error:
            response = error_response(_framework_error(error), api)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:  # noqa: BLE001 — the outermost handler: a bug of the gateway, logged with its traceback
            _log.exception("request_failed", extra={"request": request_id})
            if request.writer.output_size > 0 and request.transport is not None:
                request.transport.close()  # response in progress: only aborting it shows it is incomplete
            response = error_response(GatewayError("the gateway failed; the request id tells where to look"), api)
        finally:
            place.leave()
        self._telemetry.bound("requests", api.name, str(response.status)).inc()
        self._telemetry.bound("duration", api.name).observe(time.perf_counter() - began)
        return response

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set the headers that every response has, streams included. A response that the owner of the store wrote for
        this worker has them already, and no id here."""
        request_id = request.get(_REQUEST_ID)
        if request_id is not None:
            response.headers.setdefault("x-request-id", request_id)
            response.headers["x-gateway-request-id"] = request_id
            self._add_cors(request, response)

    async def _answer(self, request: web.Request, handler: Handler, api: Api, place: RequestSlot) -> web.StreamResponse:
        if request.method == "OPTIONS" and "origin" in request.headers:
            return web.Response(status=204)
        is_normal = "//" not in request.path
        if not self._apis.is_open(api if is_normal else self._apis.of(request.path)):
            self._authenticate(request, api)
            if not self._keyring.is_open:
                place.take_key(id(principal_of(request)))  # keyrings keep their principals: one object per key
        return await (handler(request) if is_normal else _handle_normalized_path(request))

    def _authenticate(self, request: web.Request, api: Api) -> None:
        if self._keyring.is_open and not _is_local(request.host):
            # DNS rebinding: a page of another site can reach this port under its own host name
            raise Forbidden("without auth.keys the gateway answers to localhost and 127.0.0.1 only")
        if self._keyring.is_open and not self._is_allowed_page(request):
            # CSRF: a page of another site can send requests, though not read responses; it must not write to a memory
            raise Forbidden("without auth.keys, pages of other sites are refused; see server.cors_origins")
        _check_duplicate_headers(request, (*_UNIQUE_HEADERS, *self._config.memory.user_headers))
        principal = self._find_principal(request)
        needed = api.right or Right.CHAT
        if not api.is_for_any_key and needed not in principal.rights:
            raise Forbidden(f"this key does not have the right `{needed}`")
        request[_PRINCIPAL] = principal

    def _find_principal(self, request: web.Request) -> Principal:
        """The principal of a request's key, or else of its session in the console. Raises Unauthenticated or
        Forbidden."""
        headers = request.headers
        token = None if self._keyring.is_open else session_token(request)
        if token is not None:
            check_console_request(headers, request.host)
            principal = self._sign_ins.principal(token)
            if principal is None:
                raise Unauthenticated("this session has ended: sign in to the console again")
            request[_SESSION] = token
            return principal
        return self._keyring.principal(headers)

    def _is_allowed_page(self, request: web.Request) -> bool:
        origin = request.headers.get("origin")
        return origin is None or origin == f"http://{request.host}" or self._is_allowed_origin(origin)

    def _is_allowed_origin(self, origin: str) -> bool:
        return not {origin, "*"}.isdisjoint(self._config.server.cors_origins)

    def _add_cors(self, request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get("origin")
        if origin is None or not self._is_allowed_origin(origin):
            return
        response.headers["access-control-allow-origin"] = origin
        varying = response.headers.get("vary")
        response.headers["vary"] = f"{varying}, origin" if varying else "origin"
        response.headers["access-control-expose-headers"] = "*"
        if request.method == "OPTIONS":
            requested = request.headers.get("access-control-request-headers", "")
            stainless = [
                name.strip() for name in requested.split(",") if name.strip().lower().startswith("x-stainless-")
            ]
            response.headers["access-control-allow-headers"] = ", ".join([_CORS_HEADERS, *stainless])
            response.headers["access-control-allow-methods"] = "GET, POST, PATCH, DELETE, OPTIONS"
            response.headers["access-control-max-age"] = "600"


class Protocol(web.RequestHandler):
    """aiohttp's connection handler, with HTTP protocol errors as JSON and without logs of raw bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Limit the send buffer, so that a slow client throttles the upstream and does not fill memory."""
        super().connection_made(transport)
        client_socket = transport.get_extra_info("socket")
        if client_socket is not None:
            client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

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
            body=openai_error_body(error.message, error.type, error.code, error.param),
            content_type="application/json",
        )
        response.force_close()
        return response


def _check_duplicate_headers(request: web.Request, names: Iterable[str]) -> None:
    """Raise BadRequest if a header that identifies the caller or user is repeated with different values."""
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


def with_expectations(routes: Iterable[web.AbstractRouteDef]) -> list[web.AbstractRouteDef]:
    """The same routes, which ignore an unknown `Expect` header instead of failing the request."""
    return [
        web.RouteDef(route.method, route.path, route.handler, {**route.kwargs, "expect_handler": _handle_expect})
        if isinstance(route, web.RouteDef)
        else route
        for route in routes
    ]


async def _handle_expect(request: web.Request) -> None:
    """Answer `Expect: 100-continue`; ignore any other expectation."""
    if request.headers.get("expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # not part of the response


async def read_body(request: web.Request, limits: LimitsConfig) -> bytes:
    """Read the request's body, bounded in size and time. Raises BadRequest, TooLarge or UnsupportedEncoding."""
    max_bytes = limits.body_mb * 2**20
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in _DECODED_BY_SERVER:
        raise UnsupportedEncoding(_ENCODINGS, param="content-encoding")
    if (request.content_length or 0) > max_bytes:
        raise _too_large(limits)
    try:
        if request.content.is_eof():  # it arrived with the headers, as most do
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
    """Read the body, counting its bytes against the limits. Raises TooLarge, Overloaded or TooManyRequests."""
    place, max_bytes = slot_of(request), limits.body_mb * 2**20
    chunks: list[bytes] = []
    size = 0
    while chunk := await request.content.readany():
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(limits)
        place.take_bytes(len(chunk))
        chunks.append(chunk)
        if request.content.at_eof() and request.content.exception() is None:
            break
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def parse_json(raw: bytes, limits: LimitsConfig) -> Any:
    """Parse JSON of bounded depth and number of values. Raises BadRequest."""
    if raw.count(b"[") + raw.count(b"{") > limits.json_depth or raw.count(b",") > limits.json_values:
        shape = json_splice.structure(raw)
        if sum(map(shape.count, (b",", b"[", b"{"))) > limits.json_values:
            raise BadRequest(f"the body has more than {limits.json_values} values", code="invalid_json")
        if json_splice.is_deeper(shape, limits.json_depth):
            raise BadRequest(f"the body is nested deeper than {limits.json_depth} levels", code="invalid_json")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        where = f" at line {error.lineno}, column {error.colno}" if raw else ""
        raise BadRequest(f"the body is not valid JSON{where}", code="invalid_json") from error
    return body


async def read_json(request: web.Request, limits: LimitsConfig) -> tuple[bytes, Any]:
    """Read the body and parse its JSON. Raises the errors of `read_body` and `parse_json`.

    Lone surrogates, which clients produce by cutting a text in the middle of an emoji, are replaced by U+FFFD, so that
    one damaged character does not end a conversation.
    """
    raw = await read_body(request, limits)
    try:
        return raw, parse_json(raw, limits)
    except BadRequest:
        repaired = await offload(partial(_replace_lone_surrogates, raw), len(raw))
        if repaired == raw:
            raise
        return repaired, parse_json(repaired, limits)


def _replace_lone_surrogates(raw: bytes) -> bytes:
    return _SURROGATES.sub(_repair_surrogate, raw)


def _repair_surrogate(match: re.Match[bytes]) -> bytes:
    slashes = match["slashes"]
    if slashes is None:
        return _REPLACEMENT
    return match[0] if match["pair"] or len(slashes) % 2 == 0 else slashes[:-1] + _REPLACEMENT


async def _handle_normalized_path(request: web.Request) -> web.StreamResponse:
    """Route the path with its slashes collapsed: clients join `base/` and `/path`."""
    normalized = request.clone(
        rel_url=request.rel_url.with_path(normalized_path(request.rel_url.raw_path), encoded=True, keep_query=True)
    )
    match_info = await request.app.router.resolve(normalized)
    match_info.add_app(request.app)
    normalized._match_info = match_info  # noqa: SLF001 — aiohttp has no public way to give a request another route
    return await match_info.handler(normalized)


def _too_large(limits: LimitsConfig) -> TooLarge:
    return TooLarge(f"the body has more than {limits.body_mb} MiB", headers={"connection": "close"})


def _framework_error(error: HTTPException) -> GatewayError:
    if error.status == 404:
        return NotFound("there is no such path; docs/reference/http-api.md lists all paths")
    gateway_error = GatewayError(error.reason or "the request cannot be served", code="http_error")
    gateway_error.status = error.status
    gateway_error.type = "invalid_request_error" if error.status < 500 else "internal_error"
    if error.status == 405:
        gateway_error.code = "method_not_allowed"
        gateway_error.headers = {"allow": error.headers.get("allow", "")}
    return gateway_error
