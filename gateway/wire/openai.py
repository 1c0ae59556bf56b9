"""The OpenAI face: chat and responses with memory, completions, models, and everything else under `/v1` passed
through."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import unquote

import orjson
from aiohttp import web

from gateway.config import Config
from gateway.errors import BadRequest, NotFound, UpstreamFailed
from gateway.identity import identify
from gateway.pipeline import Pipeline
from gateway.turn import Ask, Principal
from gateway.upstream.client import Upstream
from gateway.wire.answers import relay, send
from gateway.wire.body import Pieces
from gateway.wire.dialects.chat import ChatDialect, read_chat
from gateway.wire.dialects.placing import model_of
from gateway.wire.dialects.responses import ResponsesDialect, conversation_of, read_response
from gateway.wire.guard import parse_json, principal_of, read_body
from gateway.wire.models import ModelList
from gateway.wire.states import State, States
from gateway.wire.turns import turn_of

__all__ = ["OpenAIFace"]

_JSON = "application/json"
_SEPARATORS = re.compile(r"[/\\]")
_STATE = re.compile(r"^/+(?:responses|conversations)/+([^/?]+)")
# what is read here, and never merely passed on
_OWN = frozenset(("chat/completions", "completions", "responses", "messages"))


class OpenAIFace:
    def __init__(self, config: Config, pipeline: Pipeline, models: ModelList) -> None:
        self._config = config
        self._pipeline = pipeline
        self._models = models
        self._states = States()
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
        before = self._states.get(principal, body.get("previous_response_id"), user) or self._states.get(
            principal, conversation, user
        )
        if before is not None:
            ask = replace(ask, upstream=before.upstream, session_hint=ask.session_hint or before.session)
        turn = turn_of(request, raw, body, ask, dialect=self._responses, config=self._config)
        exchange = await self._pipeline.open(turn)
        if exchange.attempts:  # a model's answer, no plugin's
            session = turn.identity.session_id if turn.identity else None
            state = State(principal.tenant, user, exchange.upstream, session)
            exchange.on_id = partial(self._states.put, state=state)
            if conversation is not None and exchange.status < 400:
                self._states.put(conversation, state)
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
        path = request.rel_url.raw_path.removeprefix("/v1")
        if request.method == "POST" and _plain(path) in _OWN:
            raise NotFound(f"ask for /v1/{_plain(path)} by exactly that path")
        if not {".", ".."}.isdisjoint(_SEPARATORS.split(unquote(unquote(path)))):
            raise BadRequest("a path must not have dot segments", param="path")
        forwarder = self._pipeline.forwarder
        query, headers = request.rel_url.raw_query_string, request.headers
        user = self._user(request, Ask(model="", stream=False))
        upstream = self._holding(unquote(path), principal_of(request), user)
        body: bytes | AsyncIterator[bytes] | None = None
        pieces = Pieces(request, self._config.limits)
        if request.body_exists:
            body = pieces.read()
        if request.content_type == _JSON and request.body_exists:
            body, parsed = await self._json(request)
            if request.method == "POST" and isinstance(parsed, dict) and isinstance(parsed.get("model"), str):
                route = forwarder.route(parsed["model"])
                before = self._states.get(principal_of(request), parsed.get("previous_response_id"), user)
                if before is not None:
                    route = route.only(before.upstream)
                served = await forwarder.send_chat(
                    route, path=path, query_string=query, client_headers=headers, raw=body
                )
                return await relay(request, served.incoming, served.upstream, forwarder.secrets(served.upstream))
        try:
            incoming = await forwarder.pass_through(
                upstream, method=request.method, path=path, query_string=query, client_headers=headers, body=body
            )
        except UpstreamFailed:
            if pieces.failure is not None:  # it was the client who did not keep to the end
                raise pieces.failure from None
            raise
        return await relay(request, incoming, upstream, forwarder.secrets(upstream))

    def _user(self, request: web.Request, ask: Ask) -> str | None:
        """Who is named by the key, the headers or the body."""
        named = identify(principal_of(request), request.headers, ask, self._config.memory.default_user)
        return None if named is None else named.user_id

    def _holding(self, path: str, principal: Principal, user: str | None) -> Upstream:
        """The upstream that holds a stored response, else the first one. Raises NotFound."""
        upstreams = self._pipeline.forwarder.upstreams
        named = _STATE.match(path)
        held = self._states.get(principal, named.group(1), user) if named else None
        return next((one for one in upstreams if held is not None and one.name == held.upstream), upstreams[0])

    async def _json(self, request: web.Request) -> tuple[bytes, Any]:
        raw = await read_body(request, self._config.limits)
        return raw, parse_json(raw, self._config.limits)


def _plain(path: str) -> str:
    """A path as an upstream may read it, however it is written."""
    steps = [step for step in unquote(unquote(path)).lower().split("/") if step]
    while steps and steps[0] == "v1":
        steps = steps[1:]
    return "/".join(steps)
