"""Upstreams that are asked in another format than their own: the request translated, and the answer back.

What comes in the upstream's own format passes as bytes. A translated stream is written anew, event by event; one that
breaks off has no end here either, so whoever reads it sees that it was cut.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import orjson

from gateway.errors import StreamCut, UpstreamFailed
from gateway.sse import EventParser
from gateway.upstream.client import Answered, Incoming, Outgoing, Upstream
from gateway.upstream.recognise import recognised
from gateway.upstream.tee import decoder_of, wrap_error
from gateway.upstream.translate import to_chat, to_messages
from gateway.upstream.translate.json_parts import loaded_object

__all__ = ["ChatSpeaker", "MessagesSpeaker"]

_CHAT, _MESSAGES, _COUNT = "/chat/completions", "/messages", "/messages/count_tokens"
_OF_THE_BODY = ("content-encoding", "content-length")  # headers that are not true of a translated one
_VERSION = "2023-06-01"
_MOST = 1 << 26  # bytes of a plain answer that are held
_SHOWN = 200  # characters of an error


class _Stream(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]: ...


class MessagesSpeaker:
    """An upstream that speaks Anthropic's format; chat completions are translated."""

    def __init__(self, upstream: Upstream) -> None:
        self.name = upstream.name
        self.config = upstream.config
        self._upstream = upstream

    async def send(self, request: Outgoing) -> Incoming:
        headers = {"anthropic-version": _VERSION, **request.headers}
        if request.path != _CHAT or request.method != "POST":
            if request.method == "POST" and not request.path.startswith(_MESSAGES):
                return Answered(404, _no_such_path(self.name, request.path))
            return await self._upstream.send(replace(request, headers=headers))
        asked = _body_of(request)
        options = asked.get("stream_options")
        has_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        body = orjson.dumps(to_messages.messages_request(asked))
        incoming = await self._upstream.send(replace(request, path=_MESSAGES, headers=headers, body=body))
        incoming = await recognised(incoming) if asked.get("stream") else incoming
        created = int(time.time())
        return _Translated(
            incoming,
            self.name,
            answer=lambda message: to_messages.chat_answer(message, created),
            error=lambda _, error: to_messages.chat_error(error),
            stream=to_messages.ChatStream(created, has_usage=has_usage),
        )


class ChatSpeaker:
    """An upstream that speaks chat completions; Anthropic's messages are translated. `count` counts tokens."""

    def __init__(self, upstream: Upstream, count: Callable[[str], int]) -> None:
        self.name = upstream.name
        self.config = upstream.config
        self._upstream = upstream
        self._count = count

    async def send(self, request: Outgoing) -> Incoming:
        if request.path == _COUNT and request.method == "POST":
            return await self._counted(request)
        if request.path != _MESSAGES or request.method != "POST":
            return await self._upstream.send(request)
        asked = to_chat.chat_request(_body_of(request))
        stream = to_chat.MessagesStream()
        incoming = await self._upstream.send(replace(request, path=_CHAT, body=orjson.dumps(asked)))
        incoming = await recognised(incoming) if asked.get("stream") else incoming
        return _Translated(
            incoming,
            self.name,
            answer=to_chat.message_answer,
            error=to_chat.message_error,
            stream=stream,
            at_end=stream.end,
        )

    async def _counted(self, request: Outgoing) -> Incoming:
        """Counted here: the format has no such question. What is not text counts as its JSON."""
        asked = to_chat.chat_request(_body_of(request))
        parts = [asked["messages"], asked.get("tools", [])]
        tokens = await asyncio.to_thread(lambda: sum(self._count(orjson.dumps(part).decode()) for part in parts))
        return Answered(200, {"input_tokens": tokens})


def _body_of(request: Outgoing) -> dict[str, Any]:
    return loaded_object(request.body if isinstance(request.body, bytes) else b"")


def _no_such_path(upstream: str, path: str) -> dict[str, Any]:
    message = f"the upstream {upstream} speaks Anthropic's format and has no {path[:100]}"
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": "not_found"}}


class _Translated:
    """An answer in another format. `at_end` gives what is owed when a stream ended well without saying so."""

    def __init__(
        self,
        incoming: Incoming,
        upstream: str,
        *,
        answer: Callable[[Mapping[str, Any]], dict[str, Any] | None],
        error: Callable[[int, Mapping[str, Any]], dict[str, Any]],
        stream: _Stream,
        at_end: Callable[[], Iterator[bytes]] = lambda: iter(()),
    ) -> None:
        self.status = incoming.status
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in incoming.headers.items() if name.lower() not in _OF_THE_BODY
        }
        self._incoming = incoming
        self._upstream = upstream
        self._answer = answer
        self._error = error
        self._stream = stream
        self._at_end = at_end
        kind = incoming.headers.get("content-type", "").lower()
        self._is_stream = incoming.status < 400 and kind.startswith("text/event-stream")

    def close(self) -> None:
        self._incoming.close()

    async def chunks(self) -> AsyncGenerator[bytes]:
        decoder = decoder_of(self._incoming.headers)
        if not decoder.can_decode:
            raise UpstreamFailed(f"the upstream {self._upstream} answered in an encoding that cannot be translated")
        if not self._is_stream:
            yield await self._whole()
            return
        events = EventParser()
        async for chunk in self._incoming.chunks():
            try:
                found = events.feed(decoder.feed(chunk))
            except ValueError as error:
                raise StreamCut(f"the upstream {self._upstream} sent a damaged answer") from error
            if events.has_overflow:
                raise StreamCut(f"the upstream {self._upstream} sent more at once than can be translated")
            made = b"".join(piece for event in found for piece in self._stream.feed(event.data))
            if made:
                yield made
        rest = [piece for event in events.end() for piece in self._stream.feed(event.data)]
        made = b"".join([*rest, *self._at_end()])
        if made:
            yield made

    async def _whole(self) -> bytes:
        """Raises UpstreamFailed."""
        raw = bytearray()
        async for chunk in self._incoming.chunks():
            raw += chunk
            if len(raw) > _MOST:
                raise UpstreamFailed(f"the upstream {self._upstream} answered with more than can be held")
        body = decoder_of(self._incoming.headers).whole(bytes(raw)) or b""
        if self.status >= 400:
            complaint = loaded_object(wrap_error(self.status, body, self._upstream) or body)
            return orjson.dumps(self._error(self.status, complaint))
        parsed = loaded_object(body)
        answer = self._answer(parsed)
        if answer is None:
            told = parsed.get("error")
            said = told.get("message") if isinstance(told, dict) else None
            reason = f": {said[:_SHOWN]}" if isinstance(said, str) else ""
            raise UpstreamFailed(
                f"the upstream {self._upstream} answered {self.status}, but not with an answer{reason}"
            )
        return orjson.dumps(answer)
