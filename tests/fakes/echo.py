"""A made-up kind of upstreams: a model that repeats the last message."""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.config import UpstreamConfig
from gateway.upstream.adapters import MessagesOverChat
from gateway.upstream.client import Answered, Incoming, Outgoing, Upstream
from gateway.upstream.kinds import UpstreamKind, UpstreamParts


class EchoUpstream:
    """Answers with the last message."""

    def __init__(self, config: UpstreamConfig) -> None:
        self.name = config.name
        self.config = config

    async def send(self, request: Outgoing) -> Incoming:
        body: Mapping[str, Any] = orjson.loads(request.body if isinstance(request.body, bytes) else b"{}")
        message = {"role": "assistant", "content": body["messages"][-1]["content"]}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        completion = {"id": "c", "object": "chat.completion", "created": 0, "model": request.model, "choices": [choice]}
        return Answered(200, completion)


def build(config: UpstreamConfig, parts: UpstreamParts) -> Upstream:
    return MessagesOverChat(EchoUpstream(config), parts.count)


ECHO = UpstreamKind(name="echo", url="unused", key_header="api-key", build=build)
