"""Answers in OpenAI's format that upstreams in the process make themselves, plain and as streams."""

import re
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import orjson

from gateway.upstream.client import Incoming

__all__ = ["Canned", "chat_completion", "json_answer", "stream_events", "text_completion", "text_of"]

_PIECE = re.compile(r"\S+\s*|\s+")


class Canned:
    """A prepared answer in chunks."""

    def __init__(self, status: int, content_type: str, pieces: list[bytes]) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {"content-type": content_type}
        self._pieces = pieces

    async def chunks(self) -> AsyncGenerator[bytes]:
        for piece in self._pieces:
            yield piece

    def close(self) -> None:
        """Does nothing: there is no connection."""


def json_answer(status: int, body: Any) -> Incoming:
    """An answer with a JSON body."""
    return Canned(status, "application/json", [orjson.dumps(body)])


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message of chat completions, whose content may be parts."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    return "\n".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))


def chat_completion(body: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The plain answer with this text to a chat completion's body."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": None, "finish_reason": "stop"}
    return _envelope(body, "chatcmpl", "chat.completion", choice) | {"usage": _usage(body, text)}


def text_completion(body: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The plain answer with this text to a text completion's body."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}
    return _envelope(body, "cmpl", "text_completion", choice) | {"usage": _usage(body, text)}


def _envelope(body: Mapping[str, Any], prefix: str, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"{prefix}-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": body.get("model", ""),
        "choices": [choice],
    }


def _usage(body: Mapping[str, Any], text: str) -> dict[str, int]:
    """Estimated token counts: characters divided by four."""
    prompt, completion = len(orjson.dumps(body)) // 4, len(text) // 4
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def stream_events(completion: dict[str, Any], text: str, body: Mapping[str, Any], is_chat: bool) -> list[bytes]:
    """The events of a plain answer as a stream."""
    head = {key: completion[key] for key in ("id", "created", "model")}
    head["object"] = "chat.completion.chunk" if is_chat else "text_completion"
    pieces: list[dict[str, Any]] = []
    if is_chat:
        pieces.append({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None})
    for piece in _PIECE.findall(text):
        content: dict[str, Any] = {"delta": {"content": piece}} if is_chat else {"text": piece}
        pieces.append({"index": 0, **content, "finish_reason": None})
    last: dict[str, Any] = {"delta": {}} if is_chat else {"text": ""}
    pieces.append({"index": 0, **last, "finish_reason": "stop"})
    events = [_event({**head, "choices": [piece]}) for piece in pieces]
    options = body.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        events.append(_event({**head, "choices": [], "usage": completion["usage"]}))
    return [*events, b"data: [DONE]\n\n"]


def _event(body: Any) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
