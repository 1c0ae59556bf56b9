"""Adapters for upstreams that use another API format: they translate the request, and the answer back.

Requests in the upstream's own format are forwarded unchanged. A stream is translated event by event; if the upstream's
stream breaks off, the translated one has no end either, so that the client notices.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import orjson

from gateway.concurrency.reading import TooLong, read_bounded
from gateway.errors import StreamCut, UpstreamFailed
from gateway.formats.errors import openai_error, replace_non_json
from gateway.formats.json_read import loaded_object
from gateway.formats.sse import EventParser
from gateway.formats.translate import to_chat, to_messages
from gateway.upstream.client import Answered, Incoming, Outgoing, Upstream
from gateway.upstream.decoder import decoder_of
from gateway.upstream.sniff import recognised

__all__ = ["ChatOverMessages", "MessagesOverChat"]

_CHAT, _MESSAGES, _COUNT = "/chat/completions", "/messages", "/messages/count_tokens"
_BODY_HEADERS = ("content-encoding", "content-length")  # not valid for a translated body
_VERSION = "2023-06-01"
_MAX_BODY = 1 << 26  # bytes of an answer that is not a stream
_MAX_ERROR = 200  # characters of an error message that are quoted


class _Stream(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]: ...


class ChatOverMessages:
    """Adapter for an upstream with Anthropic's messages API; translates chat completions."""

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
        chat = _body_of(request)
        options = chat.get("stream_options")
        has_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        body = orjson.dumps(to_messages.messages_request(chat))
        incoming = await self._upstream.send(replace(request, path=_MESSAGES, headers=headers, body=body))
        incoming = await recognised(incoming) if chat.get("stream") else incoming
        created = int(time.time())
        return _TranslatedIncoming(
            incoming,
            self.name,
            answer=lambda message: to_messages.chat_answer(message, created),
            error=lambda _, error: to_messages.chat_error(error),
            stream=to_messages.ChatStream(created, has_usage=has_usage),
        )


class MessagesOverChat:
    """Adapter for an upstream with the chat completions API; translates Anthropic's messages. `count` counts tokens."""

    def __init__(self, upstream: Upstream, count: Callable[[str], int]) -> None:
        self.name = upstream.name
        self.config = upstream.config
        self._upstream = upstream
        self._count = count

    async def send(self, request: Outgoing) -> Incoming:
        if request.path == _COUNT and request.method == "POST":
            return await self._count_tokens(request)
        if request.path != _MESSAGES or request.method != "POST":
            return await self._upstream.send(request)
        chat = to_chat.chat_request(_body_of(request))
        stream = to_chat.MessagesStream()
        incoming = await self._upstream.send(replace(request, path=_CHAT, body=orjson.dumps(chat)))
        incoming = await recognised(incoming) if chat.get("stream") else incoming
        return _TranslatedIncoming(
            incoming,
            self.name,
            answer=to_chat.message_answer,
            error=to_chat.message_error,
            stream=stream,
            at_end=stream.end,
        )

    async def _count_tokens(self, request: Outgoing) -> Incoming:
        """Answer a token count locally, because chat completions have no such endpoint. Messages and tools are counted
        as JSON text."""
        chat = to_chat.chat_request(_body_of(request))
        parts = [chat["messages"], chat.get("tools", [])]
        tokens = await asyncio.to_thread(lambda: sum(self._count(orjson.dumps(part).decode()) for part in parts))
        return Answered(200, {"input_tokens": tokens})


def _body_of(request: Outgoing) -> dict[str, Any]:
    return loaded_object(request.body if isinstance(request.body, bytes) else b"")


def _no_such_path(upstream: str, path: str) -> dict[str, Any]:
    message = f"the upstream {upstream} speaks Anthropic's format and has no {path[:100]}"
    return openai_error(message, "invalid_request_error", "not_found")


class _TranslatedIncoming:
    """An answer translated to another format. `at_end` gives the final events of a stream that ended regularly but
    without an end marker."""

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
            name.lower(): value for name, value in incoming.headers.items() if name.lower() not in _BODY_HEADERS
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
            yield await self._translate_body()
            return
        events = EventParser()
        async for chunk in self._incoming.chunks():
            try:
                new_events = events.feed(decoder.feed(chunk))
            except ValueError as error:
                raise StreamCut(f"the upstream {self._upstream} sent a damaged answer") from error
            if events.has_overflow:
                raise StreamCut(f"the upstream {self._upstream} sent more at once than can be translated")
            translated = b"".join(piece for event in new_events for piece in self._stream.feed(event.data))
            if translated:
                yield translated
        rest = [piece for event in events.end() for piece in self._stream.feed(event.data)]
        translated = b"".join([*rest, *self._at_end()])
        if translated:
            yield translated

    async def _translate_body(self) -> bytes:
        """Translate an answer that is not a stream. Raises UpstreamFailed."""
        try:
            raw = await read_bounded(self._incoming.chunks(), _MAX_BODY)
        except TooLong:
            raise UpstreamFailed(f"the upstream {self._upstream} answered with more than can be held") from None
        body = decoder_of(self._incoming.headers).whole(raw) or b""
        if self.status >= 400:
            refusal = loaded_object(replace_non_json(self.status, body, self._upstream) or body)
            return orjson.dumps(self._error(self.status, refusal))
        parsed = loaded_object(body)
        answer = self._answer(parsed)
        if answer is None:
            error = parsed.get("error")
            message = error.get("message") if isinstance(error, dict) else None
            reason = f": {message[:_MAX_ERROR]}" if isinstance(message, str) else ""
            raise UpstreamFailed(
                f"the upstream {self._upstream} answered {self.status}, but not with an answer{reason}"
            )
        return orjson.dumps(answer)
