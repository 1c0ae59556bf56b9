"""The OpenAI face: chat with memory, completions, models, and everything else under `/v1` passed through."""

import asyncio
import contextlib
import hashlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import orjson
from aiohttp import web

from gateway.config import Config
from gateway.errors import BadRequest, GatewayError, NotFound, UpstreamFailed
from gateway.exchange import Exchange, read_error, scrubbed
from gateway.identity import identify
from gateway.pipeline import Pipeline
from gateway.turn import Ask, MemoryMode, Principal, Right, Turn
from gateway.upstream import headers as header_lists
from gateway.upstream.client import Incoming, Upstream
from gateway.upstream.tee import wrap_error
from gateway.wire.alive import kept_alive
from gateway.wire.body import Pieces
from gateway.wire.dialects import ChatDialect, read_chat
from gateway.wire.guard import header_number, parse_json, principal_of, read_body, request_id_of, set_request_id

__all__ = ["OpenAIFace", "send"]

_STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_MODELS_FRESH = 60.0
_MODELS_TIMEOUT = 5.0
_MAX_BUDGET = 1_000_000
_JSON = "application/json"
_TEXTS = ("text/", _JSON)
_SEPARATORS = re.compile(r"[/\\]")


class OpenAIFace:
    def __init__(self, config: Config, pipeline: Pipeline) -> None:
        self._config = config
        self._pipeline = pipeline
        self._dialect = ChatDialect()
        self._models: dict[tuple[str, str], tuple[float, list[dict[str, Any]]]] = {}

    def routes(self) -> list[web.AbstractRouteDef]:
        """With and without `/v1`: base URLs come both ways."""
        found: list[web.AbstractRouteDef] = []
        for prefix in ("/v1", ""):
            found += [
                web.post(f"{prefix}/chat/completions", self.chat),
                web.post(f"{prefix}/completions", self.completions),
                web.get(f"{prefix}/models", self.models, allow_head=False),
                web.get(f"{prefix}/models/{{id:.+}}", self.model, allow_head=False),
            ]
        found += [web.post(f"/{name}", self.pass_through) for name in ("embeddings", "responses", "moderations")]
        found.append(web.route("*", "/v1/{tail:.+}", self.pass_through))
        return found

    async def chat(self, request: web.Request) -> web.StreamResponse:
        raw = await read_body(request, self._config.limits)
        body = parse_json(raw, self._config.limits)
        ask = read_chat(body, self._config.limits.messages)
        turn = self._turn(request, raw, body, ask)
        return await send(request, await self._pipeline.open(turn), self._config.server.keep_alive)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        raw = await read_body(request, self._config.limits)
        body = parse_json(raw, self._config.limits)
        model, stream = _model_of(body), bool(body.get("stream"))
        turn = replace(self._turn(request, raw, body, Ask(model=model, stream=stream)), identity=None)
        return await send(request, await self._pipeline.open(turn), self._config.server.keep_alive)

    async def models(self, request: web.Request) -> web.StreamResponse:
        listed = await self._listed(request.headers)
        return web.Response(body=orjson.dumps({"object": "list", "data": listed}), content_type=_JSON)

    async def model(self, request: web.Request) -> web.StreamResponse:
        wanted = request.match_info["id"]
        for card in await self._listed(request.headers):
            if card.get("id") == wanted:
                return web.Response(body=orjson.dumps(card), content_type=_JSON)
        raise NotFound(f"no upstream lists the model {wanted[:100]!r}", code="model_not_found", param="model")

    async def pass_through(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path.removeprefix("/v1")
        if not {".", ".."}.isdisjoint(_SEPARATORS.split(unquote(unquote(path)))):
            raise BadRequest("a path must not have dot segments", param="path")
        forwarder = self._pipeline.forwarder
        query, headers = request.rel_url.raw_query_string, request.headers
        body: bytes | AsyncIterator[bytes] | None = None
        pieces = Pieces(request, self._config.limits)
        if request.body_exists:
            body = pieces.read()
        if request.content_type == _JSON and request.body_exists:
            body = await read_body(request, self._config.limits)
            parsed = parse_json(body, self._config.limits)
            if request.method == "POST" and isinstance(parsed, dict) and isinstance(parsed.get("model"), str):
                route = forwarder.route(parsed["model"])
                served = await forwarder.send_chat(
                    route, path=path, query_string=query, client_headers=headers, raw=body
                )
                return await _relay(request, served.incoming, served.upstream, forwarder.secrets(served.upstream))
        try:
            incoming = await forwarder.pass_through(
                self._first(), method=request.method, path=path, query_string=query, client_headers=headers, body=body
            )
        except UpstreamFailed:
            if pieces.failure is not None:  # it was the client who did not keep to the end
                raise pieces.failure from None
            raise
        return await _relay(request, incoming, self._first(), forwarder.secrets(self._first()))

    def _first(self) -> Upstream:
        return self._pipeline.forwarder.upstreams[0]

    def _turn(self, request: web.Request, raw: bytes, body: dict[str, Any], ask: Ask) -> Turn:
        principal, headers = principal_of(request), request.headers
        mode = self._mode(principal, headers)
        identity = identify(principal, headers, ask, self._config.memory.default_user)
        now = time.time()
        return Turn(
            id=_turn_id(request, principal, identity.user_id if identity else "", raw),
            started=time.perf_counter(),
            received_at=now,
            principal=principal,
            path=request.rel_url.raw_path.removeprefix("/v1"),
            query_string=request.rel_url.raw_query_string,
            headers=headers,
            raw=raw,
            body=body,
            ask=ask,
            dialect=self._dialect,
            mode=mode,
            token_budget=header_number(headers, "x-memory-budget", _MAX_BUDGET),
            identity=identity if mode is not MemoryMode.OFF else None,
        )

    def _mode(self, principal: Principal, headers: Mapping[str, str]) -> MemoryMode:
        asked = headers.get("x-memory-mode", MemoryMode.ON).strip().lower()
        try:
            mode = MemoryMode(asked)
        except ValueError as error:
            raise BadRequest("x-memory-mode must be on, read, write or off", param="x-memory-mode") from error
        if not self._config.memory.enabled or Right.MEMORY not in principal.rights:
            return MemoryMode.OFF
        return mode

    async def _listed(self, headers: Mapping[str, str]) -> list[dict[str, Any]]:
        lists = await asyncio.gather(*(self._list(up, headers) for up in self._pipeline.forwarder.upstreams))
        names = [{"id": alias, "owned_by": "memory-gateway"} for alias in ("default", *self._config.models.aliases)]
        cards = [card for cards in lists for card in cards] + names
        return list({card["id"]: {"object": "model", "created": 0, **card} for card in reversed(cards)}.values())[::-1]

    async def _list(self, upstream: Upstream, headers: Mapping[str, str]) -> list[dict[str, Any]]:
        """An upstream's models, a minute old at most; the last ones known while it does not answer."""
        whose = "" if upstream.config.api_key else headers.get("authorization", "")
        key = (upstream.name, hashlib.sha256(whose.encode("utf-8", "surrogateescape")).hexdigest())
        fetched, cards = self._models.get(key, (0.0, _configured_models(upstream)))
        if fetched and time.monotonic() - fetched < _MODELS_FRESH:
            return cards
        try:
            async with asyncio.timeout(_MODELS_TIMEOUT):
                cards = await self._fetch_models(upstream, headers)
        except (GatewayError, TimeoutError, ValueError, KeyError, TypeError):
            return cards
        if len(self._models) > 1000:
            self._models.clear()
        self._models[key] = (time.monotonic(), cards)
        return cards

    async def _fetch_models(self, upstream: Upstream, headers: Mapping[str, str]) -> list[dict[str, Any]]:
        plain = {name: value for name, value in headers.items() if name.lower() in ("authorization", "x-gateway-key")}
        incoming = await self._pipeline.forwarder.pass_through(
            upstream, method="GET", path="/models", query_string="", client_headers=plain, body=None
        )
        try:
            if incoming.status != 200:
                raise UpstreamFailed("no list of models")
            listed = orjson.loads(b"".join([chunk async for chunk in incoming.chunks()]))
            return [card for card in listed["data"] if isinstance(card, dict) and isinstance(card["id"], str)]
        finally:
            incoming.close()


async def send(request: web.Request, exchange: Exchange, keep_alive: float | None = None) -> web.StreamResponse:
    """Write an exchange out. A stream that was cut ends with its error event and a broken connection. `keep_alive`:
    seconds of silence after which a stream gets a comment."""
    try:
        if not exchange.is_stream:
            body = await exchange.read()
            return web.Response(status=exchange.status, headers=exchange.headers, body=body)
        headers = {**exchange.headers, **_STREAM_HEADERS}
        chunks = exchange.chunks() if keep_alive is None else kept_alive(exchange.chunks(), keep_alive)
        return await _write_out(request, exchange.status, headers, chunks)
    finally:
        exchange.close()


async def _relay(
    request: web.Request, incoming: Incoming, upstream: Upstream, secrets: Sequence[bytes]
) -> web.StreamResponse:
    """Pass an answer on as it comes, without `secrets`; an error that is no JSON is wrapped."""
    try:
        headers = header_lists.down(incoming.headers)
        encoding = incoming.headers.get("content-encoding")
        if incoming.status >= 400 and not encoding:
            body = await read_error(incoming)
            if wrap_error(incoming.status, body, upstream.name) is not None:
                raise _no_json(incoming.status, upstream.name, headers)
            return web.Response(status=incoming.status, headers=headers, body=scrubbed(body, secrets))
        if encoding:
            headers["content-encoding"] = encoding
        length = incoming.headers.get("content-length")
        if length is not None:
            headers["content-length"] = length
        else:
            headers.update(_STREAM_HEADERS)
        is_text = length is None and headers.get("content-type", "").startswith(_TEXTS)
        chunks = _scrubbed(incoming.chunks(), secrets) if is_text else incoming.chunks()
        return await _write_out(request, incoming.status, headers, chunks)
    finally:
        incoming.close()


async def _write_out(
    request: web.Request, status: int, headers: dict[str, str], pieces: AsyncGenerator[bytes]
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    try:
        async with contextlib.aclosing(pieces) as chunks:
            async for chunk in chunks:
                await response.write(chunk)
    except GatewayError:
        _break_off(request)
        return response
    await response.write_eof()
    return response


async def _scrubbed(chunks: AsyncGenerator[bytes], secrets: Sequence[bytes]) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            yield scrubbed(chunk, secrets)


def _no_json(status: int, upstream: str, headers: Mapping[str, str]) -> GatewayError:
    """An upstream's error that no client could read, as one of ours in the caller's format."""
    kept = {name: value for name, value in headers.items() if name.startswith(("retry-after", "x-should-retry"))}
    error = UpstreamFailed(f"the upstream {upstream} answered {status} without a JSON error", headers=kept)
    error.status = status
    return error


def _break_off(request: web.Request) -> None:
    """Send what is buffered and close without the mark of a good end, so that no client takes it for one."""
    if request.transport is not None:
        request.transport.close()


def _model_of(body: Any) -> str:
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("`model` must be a string that names a model", param="model", code="missing_model")
    return model


def _configured_models(upstream: Upstream) -> list[dict[str, Any]]:
    names = [name for name in upstream.config.models if not set(name) & set("*?[")]
    return [{"id": name, "owned_by": upstream.name} for name in names]


def _turn_id(request: web.Request, principal: Principal, user: str, raw: bytes) -> str:
    """The request's id; with an `Idempotency-Key` the same one each time, so that a retry makes the same records."""
    key = request.headers.get("idempotency-key")
    if not key:
        return request_id_of(request)
    parts = "\0".join((principal.tenant, user, key, "")).encode("utf-8", "surrogateescape")
    made = hashlib.sha256(parts + raw).hexdigest()[:32]
    set_request_id(request, made)  # what the client is told is what explains the turn
    return made
