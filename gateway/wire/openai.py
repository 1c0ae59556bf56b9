"""The OpenAI face: chat and responses with memory, completions, models, and everything else under `/v1` passed
through."""

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from aiohttp import web

from gateway.config import Config
from gateway.errors import UpstreamFailed
from gateway.exchange import Replayed, read_error
from gateway.identity import identify
from gateway.pipeline import Pipeline
from gateway.store.owners import Owner
from gateway.turn import Ask
from gateway.upstream.client import Upstream
from gateway.upstream.tee import decoder_of
from gateway.wire.affinity import Affinity
from gateway.wire.answers import relay, send
from gateway.wire.body import Pieces
from gateway.wire.dialects.chat import ChatDialect, read_chat
from gateway.wire.dialects.placing import model_of
from gateway.wire.dialects.responses import ResponsesDialect, conversation_of, read_response
from gateway.wire.guard import parse_json, principal_of, read_body
from gateway.wire.models import ModelList
from gateway.wire.turns import turn_of
from gateway.wire.upstream_paths import UpstreamPath, parse_path

__all__ = ["OpenAIFace"]

_JSON = "application/json"


class OpenAIFace:
    def __init__(self, config: Config, pipeline: Pipeline, models: ModelList, affinity: Affinity) -> None:
        self._config = config
        self._pipeline = pipeline
        self._models = models
        self._affinity = affinity
        self._chat, self._responses = ChatDialect(), ResponsesDialect()

    def routes(self) -> list[web.AbstractRouteDef]:
        """With and without `/v1`: base URLs come both ways."""
        found: list[web.AbstractRouteDef] = []
        for prefix in ("/v1", ""):
            found += [
                web.post(f"{prefix}/chat/completions", self.chat),
                web.post(f"{prefix}/responses", self.respond),
                web.post(f"{prefix}/completions", self.completions),
                web.get(f"{prefix}/models", self.models, allow_head=False),
                web.get(f"{prefix}/models/{{id:.+}}", self.model, allow_head=False),
                web.route("*", f"{prefix}/responses/{{tail:.+}}", self.pass_through),
            ]
        found += [web.post(f"/{name}", self.pass_through) for name in ("embeddings", "moderations")]
        found.append(web.route("*", "/v1/{tail:.+}", self.pass_through))
        return found

    async def chat(self, request: web.Request) -> web.StreamResponse:
        raw, body = await self._json(request)
        ask = read_chat(body, self._config.limits.messages)
        turn = turn_of(request, raw, body, ask, dialect=self._chat, config=self._config)
        return await send(request, await self._pipeline.open(turn), self._config.server.keep_alive)

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """The upstream may hold what was said before; which one, and in which conversation, is known by the id."""
        raw, body = await self._json(request)
        principal = principal_of(request)
        ask = read_response(body, self._config.limits.messages)
        user = self._user(request, ask)
        conversation = conversation_of(body)
        is_own_account = self._is_own_account(self._pipeline.forwarder.route(ask.model).upstream)
        before = None
        for continued in (conversation, body.get("previous_response_id")):
            before = await self._affinity.get(principal, continued, user, is_own_account=is_own_account) or before
        if before is not None:
            ask = replace(ask, upstream=before.upstream, session_hint=ask.session_hint or before.session)
        turn = turn_of(request, raw, body, ask, dialect=self._responses, config=self._config)
        exchange = await self._pipeline.open(turn)
        if exchange.attempts:  # a model's answer, no plugin's
            session = turn.identity.session_id if turn.identity else None
            owner = Owner(principal.tenant, user, exchange.upstream, session)
            exchange.on_id = partial(self._affinity.put, owner=owner)
            if conversation is not None and exchange.status < 400:
                self._affinity.put(conversation, owner)
        return await send(request, exchange, self._config.server.keep_alive)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        raw, body = await self._json(request)
        model, stream = model_of(body), bool(body.get("stream"))
        ask = Ask(model=model, stream=stream)
        turn = turn_of(request, raw, body, ask, dialect=self._chat, config=self._config)
        return await send(
            request, await self._pipeline.open(replace(turn, identity=None)), self._config.server.keep_alive
        )

    async def models(self, request: web.Request) -> web.StreamResponse:
        listed = await self._models.cards(request.headers)
        return web.Response(body=orjson.dumps({"object": "list", "data": listed}), content_type=_JSON)

    async def model(self, request: web.Request) -> web.StreamResponse:
        card = await self._models.card(request.match_info["id"], request.headers)
        return web.Response(body=orjson.dumps(card), content_type=_JSON)

    async def pass_through(self, request: web.Request) -> web.StreamResponse:
        """Everything else under `/v1`: inference freely, what an upstream keeps by its owner or by right."""
        principal = principal_of(request)
        path = request.rel_url.raw_path.removeprefix("/v1")
        meaning = parse_path(path)
        user = self._user(request, Ask(model="", stream=False))
        upstream = self._pipeline.forwarder.upstreams[0]
        is_own_account = self._is_own_account(upstream)
        meaning.check(principal, request.method, is_own_account=is_own_account)
        owner = await self._affinity.get(principal, meaning.owned_id, user, is_own_account=is_own_account)
        if owner is not None:
            upstream = self._named(owner.upstream) or upstream
        pieces = Pieces(request, self._config.limits)
        body: bytes | AsyncIterator[bytes] | None = pieces.read() if request.body_exists else None
        if request.content_type == _JSON and request.body_exists:
            body, parsed = await self._json(request)
            if request.method == "POST" and isinstance(parsed, dict) and isinstance(parsed.get("model"), str):
                return await self._passed_by_model(request, body, parsed, user)
        return await self._passed(request, upstream, body, pieces, meaning)

    async def _passed_by_model(
        self, request: web.Request, raw: bytes, parsed: dict[str, Any], user: str | None
    ) -> web.StreamResponse:
        """To the upstream that has the model of the body, or keeps what the body continues."""
        forwarder = self._pipeline.forwarder
        route = forwarder.route(parsed["model"])
        is_own_account = self._is_own_account(route.upstream)
        for continued in (parsed.get("previous_response_id"), conversation_of(parsed)):
            owner = await self._affinity.get(principal_of(request), continued, user, is_own_account=is_own_account)
            if owner is not None:
                route = route.only(owner.upstream)
        served = await forwarder.send_chat(
            route,
            path=request.rel_url.raw_path.removeprefix("/v1"),
            query_string=request.rel_url.raw_query_string,
            client_headers=request.headers,
            raw=raw,
        )
        return await relay(request, served.incoming, served.upstream, forwarder.secrets(served.upstream))

    async def _passed(
        self,
        request: web.Request,
        upstream: Upstream,
        body: bytes | AsyncIterator[bytes] | None,
        pieces: Pieces,
        meaning: UpstreamPath,
    ) -> web.StreamResponse:
        forwarder = self._pipeline.forwarder
        try:
            incoming = await forwarder.pass_through(
                upstream,
                method=request.method,
                path=request.rel_url.raw_path.removeprefix("/v1"),
                query_string=request.rel_url.raw_query_string,
                client_headers=request.headers,
                body=body,
            )
        except UpstreamFailed:
            if pieces.failure is not None:  # it was the client who did not keep to the end
                raise pieces.failure from None
            raise
        if request.method == "POST" and meaning.makes_conversation and incoming.status < 400:
            incoming = Replayed(incoming, await read_error(incoming))
            self._note_conversation(request, upstream, incoming)
        return await relay(request, incoming, upstream, forwarder.secrets(upstream))

    def _note_conversation(self, request: web.Request, upstream: Upstream, incoming: Replayed) -> None:
        """Whoever makes a conversation owns it."""
        decoded = decoder_of(incoming.headers).whole(incoming.body)
        try:
            made = orjson.loads(decoded or b"")
        except orjson.JSONDecodeError:
            return
        if isinstance(made, dict) and isinstance(made.get("id"), str):
            user = self._user(request, Ask(model="", stream=False))
            self._affinity.put(made["id"], Owner(principal_of(request).tenant, user, upstream.name, None))

    def _is_own_account(self, upstream: Upstream) -> bool:
        """True if an upstream gets no credentials of ours: then it keeps its clients apart by theirs."""
        return not self._pipeline.forwarder.secrets(upstream)

    def _named(self, name: str) -> Upstream | None:
        return next((one for one in self._pipeline.forwarder.upstreams if one.name == name), None)

    def _user(self, request: web.Request, ask: Ask) -> str | None:
        """Who is named by the key, the headers or the body."""
        named = identify(principal_of(request), request.headers, ask, self._config.memory.default_user)
        return None if named is None else named.user_id

    async def _json(self, request: web.Request) -> tuple[bytes, Any]:
        raw = await read_body(request, self._config.limits)
        return raw, parse_json(raw, self._config.limits)
