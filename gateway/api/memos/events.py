"""MemOS chat events, and a filter that never splits a citation across events. Pure but for reading the response."""

import contextlib
import json
import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

import orjson

from gateway.errors import GatewayError, StreamCut, UpstreamFailed
from gateway.formats.sse import EventParser
from gateway.formats.think import ThinkSplitter
from gateway.pipeline.response import TurnResponse

__all__ = ["CHAT_HEADERS", "CitationKeeper", "answer_pieces", "chat_events", "event", "without_citations"]

CHAT_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",  # without the charset `requests` reads Latin-1
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
_CITATION = re.compile(r"\[\d{1,3}:[0-9a-zA-Z-]{1,36}(?: ?, ?\d{1,3}:[0-9a-zA-Z-]{1,36})*\]")
# each comma follows a complete citation, so that a prefix has only one parse (no backtracking)
_PARTIAL_CITATION = re.compile(r"\[(?:\d{1,3}:[0-9a-zA-Z-]{1,36} ?, ?)*(?:\d{1,3}(?::[0-9a-zA-Z-]{0,36} ?)?)?\Z")
_MAX_PARTIAL = 400


def event(body: Mapping[str, Any]) -> bytes:
    """Serialize one event. ASCII only (orjson cannot): clients split lines at any Unicode line break."""
    return b"data: " + json.dumps(body, ensure_ascii=True).encode() + b"\n\n"


async def chat_events(response: TurnResponse) -> AsyncGenerator[bytes]:
    """Convert an upstream's chat stream to MemOS events; the last one is `end`, after `error` if the stream failed."""
    try:
        async with contextlib.aclosing(answer_pieces(response)) as pieces:
            async for kind, text in pieces:
                yield event({"type": kind, "data": text})
    except GatewayError as error:
        yield event({"type": "error", "data": error.message, "content": error.message, "code": error.status})
    yield event({"type": "end"})


async def answer_pieces(response: TurnResponse) -> AsyncGenerator[tuple[str, str]]:
    """Stream an answer in pieces: ("reasoning" or "text", words). Raises GatewayError if the stream breaks off."""
    parser, splitter, decoder = EventParser(), ThinkSplitter(), response.decoder()
    is_over = False
    async with contextlib.aclosing(response.chunks()) as chunks:
        async for chunk in chunks:
            try:
                events = parser.feed(decoder.feed(chunk))
            except ValueError as error:
                raise StreamCut(f"the upstream {response.source.upstream} sent a damaged answer") from error
            for sse_event in events:
                is_over = is_over or sse_event.data == b"[DONE]"
                for piece in () if is_over else _delta_pieces(sse_event.data, splitter):
                    yield piece
    for piece in splitter.end():
        yield piece
    if not decoder.can_decode:
        raise UpstreamFailed(f"the upstream {response.source.upstream} sent an encoding that cannot be read")


def _delta_pieces(data: bytes, splitter: ThinkSplitter) -> list[tuple[str, str]]:
    try:
        choices = orjson.loads(data)["choices"]
        delta = choices[0]["delta"] if choices and choices[0].get("index", 0) == 0 else {}
        if not isinstance(delta, dict):
            return []
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError, AttributeError):
        return []
    pieces = []
    reasoning = delta.get("reasoning_content") or delta.get("reasoning")
    if isinstance(reasoning, str) and reasoning:
        pieces.append(("reasoning", reasoning))
    if isinstance(delta.get("content"), str):
        pieces += splitter.feed(delta["content"])
    return pieces


class CitationKeeper:
    """Stream filter that emits citations whole.

    Text that may be the start of a citation is buffered until that is decided; a combined citation becomes several.
    """

    def __init__(self) -> None:
        self._pending = ""

    def feed(self, text: str) -> str:
        """Add text; returns the text that can be sent now."""
        text = self._pending + text
        start = text.rfind("[", max(0, len(text) - _MAX_PARTIAL))
        cut = start if start >= 0 and _PARTIAL_CITATION.match(text, start) else len(text)
        self._pending = text[cut:]
        return _CITATION.sub(_split_citation, text[:cut])

    def end(self) -> str:
        """Flush the buffer: an incomplete citation is plain text."""
        rest, self._pending = self._pending, ""
        return rest


def without_citations(text: str) -> str:
    """Remove the citations from a text, as it is remembered; the rest stays unchanged."""
    return re.sub(rf"[ \t]?(?:{_CITATION.pattern})", "", text)


def _split_citation(match: re.Match[str]) -> str:
    return "".join(f"[{citation.strip()}]" for citation in match.group()[1:-1].split(","))
