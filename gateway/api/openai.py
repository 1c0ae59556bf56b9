"""HTTP handlers of the OpenAI API: chat and responses with memory, completions, models; everything else under `/v1` is
passed through."""

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from aiohttp import web

from gateway.api.affinity import StateGuard
from gateway.api.models import ModelList
from gateway.api.upstream_paths import UpstreamPath, parse_path
from gateway.config import Config
from gateway.errors import UpstreamFailed
from gateway.formats.base import ParsedRequest
from gateway.formats.chat import ChatFormat, read_chat
from gateway.formats.placing import model_of
from gateway.formats.responses import ResponsesFormat, conversation_of, read_response
from gateway.identity import named_user
from gateway.pipeline.pipeline import Pipeline
from gateway.server.body import Pieces
from gateway.server.forms import MultipartForm, read_form
from gateway.server.guard import principal_of, read_json
from gateway.server.limits import slot_of
from gateway.server.turns import Turns
from gateway.server.writer import relay, send
from gateway.storage.values import Owner
from gateway.upstream.client import Upstream
from gateway.upstream.decoder import decoder_of
from gateway.upstream.replay import Replayed, read_error
from gateway.upstream.routes import Route

__all__ = ["OpenAIFace"]

_JSON = "application/json"


class OpenAIFace:
    def __init__(self, config: Config, pipeline: Pipeline, models: ModelList, state: StateGuard, turns: Turns) -> None:
        self._turns = turns
        self._config = config
        self._pipeline = pipeline
        self._models = models
        self._state = state
        self._affinity = state.affinity
        self._chat, self._responses = ChatFormat(), ResponsesFormat()

    def routes(self) -> list[web.AbstractRouteDef]:
        """All routes with and without `/v1`: clients configure base URLs both ways."""
        routes: list[web.AbstractRouteDef] = []
        for prefix in ("/v1", ""):
            routes += [
                web.post(f"{prefix}/chat/completions", self.chat),
                web.post(f"{prefix}/responses", self.respond),
                web.post(f"{prefix}/completions", self.completions),
                web.get(f"{prefix}/models", self.models, allow_head=False),
                web.get(f"{prefix}/models/{{id:.+}}", self.model, allow_head=False),
                web.route("*", f"{prefix}/responses/{{tail:.+}}", self.pass_through),
            ]
        routes += [web.post(f"/{name}", self.pass_through) for name in ("embeddings", "moderations")]
        routes.append(web.route("*", "/v1/{tail:.+}", self.pass_through))
        return routes

    async def chat(self, request: web.Request) -> web.StreamResponse:
        raw, body = await self._read_json(request)
        ask = read_chat(body, self._config.limits.messages)
        await self._state.check_chat(request, raw, body, ask)
        await self._turns.prepare(request, ask)
        turn = self._turns.read(request, raw, body, ask, wire_format=self._chat)
        response = await self._pipeline.open(turn)
        response.on_answer = partial(self._turns.note_answer, turn)
        return await send(request, response, self._config.server.keep_alive)

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Handle `/v1/responses`. The upstream may store earlier messages: their id determines upstream and session."""
        raw, body = await self._read_json(request)
        ask = read_response(body, self._config.limits.messages)
        previous_owner = await self._state.check_chat(request, raw, body, ask)
        if previous_owner is not None:
            ask = replace(
                ask, upstream=previous_owner.upstream, session_hint=ask.session_hint or previous_owner.session
            )
        await self._turns.prepare(request, ask)
        turn = self._turns.read(request, raw, body, ask, wire_format=self._responses)
        response = await self._pipeline.open(turn)
        if not response.source.is_plugin:
            session = turn.identity.session_id if turn.identity else None
            owner = Owner(turn.principal.tenant, turn.user or None, response.source.upstream, session)
            response.on_id = partial(self._affinity.put, owner=owner)
            conversation = conversation_of(body)
            if conversation is not None and previous_owner is None and response.status < 400:
                self._affinity.put(conversation, owner)
        return await send(request, response, self._config.server.keep_alive)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        raw, body = await self._read_json(request)
        ask = ParsedRequest(model=model_of(body), stream=bool(body.get("stream")))
        await self._state.check_chat(request, raw, body, ask)
        await self._turns.prepare(request, ask)
        turn = self._turns.read(request, raw, body, ask, wire_format=self._chat)
        return await send(
            request, await self._pipeline.open(replace(turn, identity=None)), self._config.server.keep_alive
        )

    async def models(self, request: web.Request) -> web.StreamResponse:
        cards = await self._models.cards(request.headers)
        return web.Response(body=orjson.dumps({"object": "list", "data": cards}), content_type=_JSON)

    async def model(self, request: web.Request) -> web.StreamResponse:
        card = await self._models.card(request.match_info["id"], request.headers)
        return web.Response(body=orjson.dumps(card), content_type=_JSON)

    async def pass_through(self, request: web.Request) -> web.StreamResponse:
        """Forward all other `/v1` paths: inference for any key, stored state for its owner or a key with the right."""
        target_path = parse_path(request.rel_url.raw_path.removeprefix("/v1"))
        target_path.check_method(request.method)
        pieces = Pieces(request, self._config.limits)
        body: bytes | AsyncIterator[bytes] | None = pieces.read() if request.body_exists else None
        parsed: Any = None
        if request.body_exists and (request.content_type == _JSON or target_path.reads_json(request.headers)):
            body, parsed = await self._read_json(request)
        fields = parsed if isinstance(parsed, dict) else {}
        form = await self._read_form(request, pieces) if target_path.is_inference else None
        user = named_user(
            principal_of(request), request.headers, ParsedRequest(model="", stream=False), self._turns.users.known
        )
        model = (form.model if form else fields.get("model")) if request.method == "POST" else None
        route = self._pipeline.forwarder.route(model) if isinstance(model, str) else None
        upstreams = [target.upstream for target in route.targets] if route else self._pipeline.forwarder.upstreams[:1]
        principal, is_own_account = principal_of(request), self._state.is_own_account(request, upstreams)
        target_path.check(principal, request.method, is_own_account=is_own_account)
        all_upstreams = self._pipeline.forwarder.upstreams
        owner = await self._affinity.get(
            principal,
            target_path.owned_id,
            user,
            [upstream.name for upstream in all_upstreams],
            is_own_account=is_own_account,
        )
        if owner is not None:  # stored state lives at one upstream, regardless of the model
            upstreams, route = [upstream for upstream in all_upstreams if upstream.name == owner.upstream], None
        if isinstance(body, bytes):
            previous_owner = await self._state.check_body(request, body, fields, upstreams, user)
            if route is not None and not target_path.makes_conversation:
                return await self._forward_by_model(
                    request, body, route.only(previous_owner.upstream) if previous_owner else route
                )
        growth = 0
        if form is not None:
            name = route.targets[0].model if route is not None else None
            is_renamed = name is not None and name != form.model
            body = form.pieces(name if is_renamed else None)
            growth = form.growth(name) if name is not None and is_renamed else 0
        return await self._forward(request, upstreams[0], body, pieces, target_path, growth=growth)

    async def _read_form(self, request: web.Request, pieces: Pieces) -> MultipartForm | None:
        """Read the model of a multipart form; None for other bodies."""
        if request.method != "POST" or not request.body_exists or request.content_type != "multipart/form-data":
            return None
        return await read_form(request.headers["content-type"], pieces.read(), slot_of(request).take_bytes)

    async def _forward_by_model(self, request: web.Request, raw: bytes, route: Route) -> web.StreamResponse:
        """Forward to an upstream that serves the body's model."""
        forwarder = self._pipeline.forwarder
        served = await forwarder.send_chat(
            route,
            path=request.rel_url.raw_path.removeprefix("/v1"),
            query_string=request.rel_url.raw_query_string,
            client_headers=request.headers,
            raw=raw,
        )
        return await relay(request, served.incoming, served.upstream, forwarder.secrets(served.upstream))

    async def _forward(
        self,
        request: web.Request,
        upstream: Upstream,
        body: bytes | AsyncIterator[bytes] | None,
        pieces: Pieces,
        target_path: UpstreamPath,
        *,
        growth: int,
    ) -> web.StreamResponse:
        """Forward to one upstream. `growth`: how many bytes the body is longer than the client's."""
        forwarder = self._pipeline.forwarder
        try:
            incoming = await forwarder.pass_through(
                upstream,
                method=request.method,
                path=request.rel_url.raw_path.removeprefix("/v1"),
                query_string=request.rel_url.raw_query_string,
                client_headers=request.headers,
                body=body,
                growth=growth,
            )
        except UpstreamFailed:
            if pieces.failure is not None:  # the client's body failed, not the upstream
                raise pieces.failure from None
            raise
        if request.method == "POST" and target_path.makes_conversation and incoming.status < 400:
            incoming = Replayed(incoming, await read_error(incoming))
            self._note_conversation(request, upstream, incoming)
        return await relay(request, incoming, upstream, forwarder.secrets(upstream))

    def _note_conversation(self, request: web.Request, upstream: Upstream, incoming: Replayed) -> None:
        """Register the user who creates a conversation as its owner."""
        decoded = decoder_of(incoming.headers).whole(incoming.body)
        try:
            conversation = orjson.loads(decoded or b"")
        except orjson.JSONDecodeError:
            return
        if isinstance(conversation, dict) and isinstance(conversation.get("id"), str):
            user = self._turns.users.user_of(
                principal_of(request), request.headers, ParsedRequest(model="", stream=False)
            )
            self._affinity.put(conversation["id"], Owner(principal_of(request).tenant, user, upstream.name, None))

    async def _read_json(self, request: web.Request) -> tuple[bytes, Any]:
        return await read_json(request, self._config.limits)
