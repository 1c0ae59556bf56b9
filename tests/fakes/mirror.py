"""A made-up kind of upstreams: a model that repeats the last message."""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.config import UpstreamConfig
from gateway.formats.errors import openai_error
from gateway.upstream.adapters import MessagesOverChat
from gateway.upstream.canned import Canned, chat_completion, json_answer, stream_events, text_of
from gateway.upstream.client import Incoming, Outgoing, Upstream
from gateway.upstream.kinds import UpstreamKind, UpstreamParts


class MirrorUpstream:
    """Answers with the last message."""

    def __init__(self, config: UpstreamConfig) -> None:
        self.name = config.name
        self.config = config

    async def send(self, request: Outgoing) -> Incoming:
        if request.path != "/chat/completions":
            return json_answer(404, openai_error(f"mirror has no {request.path}", "invalid_request_error", "not_found"))
        body: Mapping[str, Any] = orjson.loads(request.body if isinstance(request.body, bytes) else b"{}")
        text = text_of(body["messages"][-1])
        completion = chat_completion(body, text)
        if body.get("stream"):
            return Canned(200, "text/event-stream", stream_events(completion, text, body, is_chat=True))
        return json_answer(200, completion)


def build(config: UpstreamConfig, parts: UpstreamParts) -> Upstream:
    return MessagesOverChat(MirrorUpstream(config), parts.count)


MIRROR = UpstreamKind(name="mirror", url="unused", key_header="api-key", build=build)
