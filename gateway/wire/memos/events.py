"""Answers as MemOS events, and citations that are never cut in two. Pure but for the exchange that is read."""

import contextlib
import json
import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import orjson

from gateway.errors import GatewayError, StreamCut, UpstreamFailed
from gateway.exchange import Exchange
from gateway.sse import EventParser
from gateway.wire.dialects.think import ThinkSplitter

__all__ = ["CHAT_HEADERS", "CitationKeeper", "chat_events", "event", "said_pieces", "without_citations"]

CHAT_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",  # without the charset `requests` reads Latin-1
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
_CITATION = re.compile(r"\[\d{1,3}:[0-9a-zA-Z-]{1,36}(?: ?, ?\d{1,3}:[0-9a-zA-Z-]{1,36})*\]")
# each comma stands after a whole citation: there is one way only to read a beginning
_BEGUN = re.compile(r"\[(?:\d{1,3}:[0-9a-zA-Z-]{1,36} ?, ?)*(?:\d{1,3}(?::[0-9a-zA-Z-]{0,36} ?)?)?\Z")
_LONGEST = 400


def event(body: Mapping[str, Any]) -> bytes:
    """ASCII only (orjson cannot): clients split lines at any Unicode line break."""
    return b"data: " + json.dumps(body, ensure_ascii=True).encode() + b"\n\n"


async def chat_events(exchange: Exchange) -> AsyncGenerator[bytes]:
    """An upstream's chat stream as MemOS events."""
    try:
        async with contextlib.aclosing(said_pieces(exchange)) as pieces:
            async for kind, text in pieces:
                yield event({"type": kind, "data": text})
    except GatewayError as error:
        yield event({"type": "error", "data": error.message, "content": error.message, "code": error.status})
    yield event({"type": "end"})


async def said_pieces(exchange: Exchange) -> AsyncGenerator[tuple[str, str]]:
    """What a model says, as it says it: ("reasoning" or "text", words). Raises GatewayError when it breaks off."""
    parser, splitter, decoder = EventParser(), ThinkSplitter(), exchange.decoder()
    is_over = False
    async with contextlib.aclosing(exchange.chunks()) as chunks:
        async for chunk in chunks:
            try:
                events = parser.feed(decoder.feed(chunk))
            except ValueError as error:
                raise StreamCut(f"the upstream {exchange.upstream} sent a damaged answer") from error
            for one in events:
                is_over = is_over or one.data == b"[DONE]"
                for piece in () if is_over else _said(one.data, splitter):
                    yield piece
    for piece in splitter.end():
        yield piece
    if not decoder.can_decode:
        raise UpstreamFailed(f"the upstream {exchange.upstream} sent an encoding that cannot be read")


def _said(data: bytes, splitter: ThinkSplitter) -> list[tuple[str, str]]:
    try:
        choices = orjson.loads(data)["choices"]
        delta = choices[0]["delta"] if choices and choices[0].get("index", 0) == 0 else {}
        if not isinstance(delta, dict):
            return []
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError, AttributeError):
        return []
    said = []
    reasoning = delta.get("reasoning_content") or delta.get("reasoning")
    if isinstance(reasoning, str) and reasoning:
        said.append(("reasoning", reasoning))
    if isinstance(delta.get("content"), str):
        said += splitter.feed(delta["content"])
    return said


class CitationKeeper:
    """Holds back what may be the beginning of a citation until it is one or none; a combined one becomes several."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be sent now."""
        text = self._held + text
        start = text.rfind("[", max(0, len(text) - _LONGEST))
        cut = start if start >= 0 and _BEGUN.match(text, start) else len(text)
        self._held = text[cut:]
        return _CITATION.sub(_apart, text[:cut])

    def end(self) -> str:
        """What was held back and has become no citation: plain text."""
        rest, self._held = self._held, ""
        return rest


def without_citations(text: str) -> str:
    """A text as it is remembered: without its marks, all else as it was."""
    return re.sub(rf"[ \t]?(?:{_CITATION.pattern})", "", text)


def _apart(match: re.Match[str]) -> str:
    return "".join(f"[{one.strip()}]" for one in match.group()[1:-1].split(","))
