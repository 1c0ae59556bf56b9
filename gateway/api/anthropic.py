"""HTTP handlers of the Anthropic API: `/v1/messages` with memory, and `/v1/messages/count_tokens`."""

from functools import partial

from aiohttp import web

from gateway.api.affinity import StateGuard
from gateway.config import Config
from gateway.formats.messages import MessagesFormat, read_messages
from gateway.pipeline.pipeline import Pipeline
from gateway.server.guard import read_json
from gateway.server.turns import Turns
from gateway.server.writer import relay, send

__all__ = ["AnthropicFace"]


class AnthropicFace:
    def __init__(self, config: Config, pipeline: Pipeline, state: StateGuard, turns: Turns) -> None:
        self._turns = turns
        self._state = state
        self._config = config
        self._pipeline = pipeline
        self._wire_format = MessagesFormat()

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.post("/v1/messages", self.messages),
            web.post("/v1/messages/count_tokens", self.count_tokens),
        ]

    async def messages(self, request: web.Request) -> web.StreamResponse:
        raw, body = await read_json(request, self._config.limits)
        ask = read_messages(body, self._config.limits.messages)
        await self._state.check_chat(request, raw, body, ask)
        await self._turns.prepare(request, ask)
        turn = self._turns.read(request, raw, body, ask, wire_format=self._wire_format)
        response = await self._pipeline.open(turn)
        response.on_answer = partial(self._turns.note_answer, turn)
        return await send(request, response, self._config.server.keep_alive)

    async def count_tokens(self, request: web.Request) -> web.StreamResponse:
        """Count the tokens of the request as sent, without memories."""
        raw, body = await read_json(request, self._config.limits)
        ask = read_messages(body, self._config.limits.messages)
        await self._state.check_chat(request, raw, body, ask)
        forwarder = self._pipeline.forwarder
        served = await forwarder.send_chat(
            forwarder.route(ask.model),
            path="/messages/count_tokens",
            query_string=request.rel_url.raw_query_string,
            client_headers=request.headers,
            raw=raw,
        )
        return await relay(request, served.incoming, served.upstream, forwarder.secrets(served.upstream))
