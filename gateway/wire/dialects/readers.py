"""Reads along an answer in the chat-completions format: what was said, how it ended, what it cost. Pure.

`ChatReader` parses every event of a stream, `EndReader` as little as will do.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from gateway.sse import EventParser
from gateway.turn import Answer
from gateway.upstream.translate.json_parts import positive
from gateway.wire.dialects.think import split_think

__all__ = [
    "ChatReader",
    "EndReader",
    "Usage",
    "first_choice",
    "first_string",
    "joined_text",
    "thoughts_in",
    "usage_of",
]

_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\][\r\n]")
_BEFORE_DONE, _TO_DONE_END = 7, 7  # bytes of the pattern before the mark, and to its end
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"[^"]')
_ERROR = re.compile(rb'"error"\s*:\s*(?:\{|"[^"])')
_COUNTS = re.compile(rb'"(prompt|completion|cached)_tokens"\s*:\s*(\d{1,12})[,}\s]')
_EVENTS_KEPT = 5
_UNREAD = 32_768  # bytes of a stream that are looked at together
_MAX_ANSWER = 256 * 1024  # characters of an answer that are kept
_PIECES = 1024
_MAX_CHOICES = 1024
_OTHER_CHOICE = re.compile(rb'"index"\s*:\s*[1-9]')


class Usage(NamedTuple):
    """Tokens as an upstream reports them; None: it did not say. `cached` is part of `prompt`."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None


class ChatReader:
    """Reads along a chat stream: choice 0's text, how it ended, its usage."""

    def __init__(self) -> None:
        self._events = EventParser()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._size = self._said = 0
        self._finish_reason: str | None = None
        self._has_tool_calls = False
        self._usage = Usage()
        self.id: str | None = None
        self._open_choices: set[int] = set()
        self._is_done = False
        self._is_over = False  # nothing after the mark of the end belongs to the answer
        self.has_error = False
        self.has_events = False

    @property
    def is_complete(self) -> bool:
        """`[DONE]` was seen, or, at the end of the bytes, a finish reason of each choice."""
        return self._is_done

    @property
    def has_finish_reason(self) -> bool:
        return self._finish_reason is not None

    @property
    def is_mid_event(self) -> bool:
        return self._events.is_mid_event

    def feed(self, chunk: bytes) -> None:
        for data in self._events.feed_data(chunk):
            self._take(data)

    def end(self) -> None:
        for event in self._events.end():
            self._take(event.data)
        if self.has_finish_reason and not self._open_choices and not self.has_error:
            self._is_done = True

    def answer(self) -> Answer:
        text, thought = split_think("".join(self._text))
        return Answer(
            text=text or None,
            finish_reason=self._finish_reason,
            reasoning="".join(self._reasoning) or thought,
            has_tool_calls=self._has_tool_calls,
            prompt_tokens=self._usage.prompt,
            completion_tokens=self._usage.completion,
            cached_tokens=self._usage.cached,
            id=self.id,
            size=0 if self._usage.completion else self._said,
        )

    def _take(self, data: bytes) -> None:
        if self._is_over:
            return
        self.has_events = True
        if data == b"[DONE]":
            self._is_over, self._is_done = True, not self.has_error
            return
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        if not isinstance(chunk, dict):
            return
        if chunk.get("error"):
            self.has_error = True
        if chunk.get("usage"):
            self._usage = usage_of(chunk)
        if self.id is None:
            self.id = first_string(chunk.get("id"))
        choices = chunk.get("choices")
        for one in choices if isinstance(choices, list) else ():
            self._said += _said_in(one)
            self._note_end(one)
        choice = first_choice(chunk)
        if choice is not None:
            self._take_choice(choice)

    def _note_end(self, choice: Any) -> None:
        index = choice.get("index", 0) if isinstance(choice, dict) else None
        if not isinstance(index, int) or len(self._open_choices) > _MAX_CHOICES:
            return
        if choice.get("finish_reason") and isinstance(choice["finish_reason"], str):
            self._open_choices.discard(index)
        elif _said_in(choice):  # an empty piece after the end begins nothing
            self._open_choices.add(index)

    def _take_choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            content = delta.get("content")
            if isinstance(content, list):
                self._keep(self._text, joined_text(content))
                self._keep(self._reasoning, thoughts_in(content))
            else:
                self._keep(self._text, content)
            self._keep(self._reasoning, delta.get("reasoning_content") or delta.get("reasoning"))
            if delta.get("tool_calls"):
                self._has_tool_calls = True
        else:
            self._keep(self._text, choice.get("text"))
        finish_reason = choice.get("finish_reason")
        if finish_reason and isinstance(finish_reason, str):
            self._finish_reason = finish_reason

    def _keep(self, kept: list[str], text: Any) -> None:
        if isinstance(text, str) and text and self._size < _MAX_ANSWER:
            kept.append(text)
            self._size += len(text)
            if len(kept) >= _PIECES:  # so many short strings take ten times the room of one
                kept[:] = ["".join(kept)]


class EndReader:
    """Reads along only as far as the end of a stream and its usage go: for turns that nobody remembers.

    It looks for marks in the bytes and parses nothing, and for most marks only where many chunks have come, which costs
    a thirtieth. Inside a JSON string a quote is escaped, so what a model says cannot look like a mark. Where a mark can
    mean two things (an error, a finish reason, of the stream or of something in it), the events are parsed after all.
    """

    def __init__(self) -> None:
        self._unread: list[bytes] = []
        self._unread_size = 0
        self._tail = b""  # the event that has begun, and the one before it
        self._is_line_open = False
        self._is_done = False
        self._usage: dict[bytes, int] = {}
        self._has_events = False
        self._events = 0
        self._whole: ChatReader | None = None
        self.id: str | None = None  # not looked for

    @property
    def is_complete(self) -> bool:
        return self._is_done if self._whole is None else self._whole.is_complete

    @property
    def has_events(self) -> bool:
        self._look()
        return self._has_events

    @property
    def has_error(self) -> bool:
        self._look()
        return self._whole is not None and self._whole.has_error

    @property
    def is_mid_event(self) -> bool:
        self._look()
        return bool(self._tail) and not self._tail.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))

    def feed(self, chunk: bytes) -> None:
        self._unread.append(chunk)
        self._unread_size += len(chunk)
        if self._whole is not None or self._is_line_open or chunk.rfind(b"[DONE]") >= 0 or self._unread_size > _UNREAD:
            self._look()
        self._is_line_open = chunk[-1:] not in b"\r\n"

    def _look(self) -> None:
        if not self._unread:
            return
        new = b"".join(self._unread)
        seen = self._tail + new
        self._unread, self._unread_size = [], 0
        self._events += new.count(b"data:")
        if not self._has_events and b"data:" in seen:
            self._has_events = True
        if b'_tokens"' in seen:
            self._usage |= {name: int(count) for name, count in _COUNTS.findall(seen)}
        if self._whole is not None:
            self._whole.feed(new)
        elif (b'"error"' in seen and _ERROR.search(seen)) or _has_other_choice(seen):
            self._whole = ChatReader()
            self._whole.feed(seen)
        elif _has_done(seen):
            self._is_done = True
        self._tail = seen[_last_events(seen) :]

    def end(self) -> None:
        self._look()
        if self._whole is None and not self._is_done and _has_finish_reason(self._tail):
            self._whole = ChatReader()
            self._whole.feed(self._tail)
        if self._whole is not None:
            self._whole.end()

    def answer(self) -> Answer:
        self._look()
        found = self._usage
        return Answer(
            None,
            prompt_tokens=found.get(b"prompt"),
            completion_tokens=found.get(b"completion"),
            cached_tokens=found.get(b"cached"),
            events=self._events,
        )


def _last_events(seen: bytes) -> int:
    """Where the last few events begin: a finish reason may be followed by usage and the like; within bounds."""
    place = len(seen)
    for _ in range(_EVENTS_KEPT):
        found = max(seen.rfind(b"\n\n", 0, place), seen.rfind(b"\r\n\r\n", 0, place))
        if found < 0:
            return max(0, len(seen) - _UNREAD) if len(seen) > 2 * _UNREAD else 0
        place = found
    return max(place + 2, len(seen) - 2 * _UNREAD)


def _has_done(seen: bytes) -> bool:
    """Looks with the pattern at the few places only where it can match: over all bytes it is a hundred times slower."""
    place = seen.find(b"[DONE]")
    while place >= 0:
        if _DONE.search(seen, max(0, place - _BEFORE_DONE), place + _TO_DONE_END):
            return True
        place = seen.find(b"[DONE]", place + 1)
    return False


def _has_other_choice(seen: bytes) -> bool:
    """True if an index is another than 0: of a choice, or of a call of a tool."""
    zeros = seen.count(b'"index":0') + seen.count(b'"index": 0')
    return seen.count(b'"index"') > zeros and _OTHER_CHOICE.search(seen) is not None


def _has_finish_reason(seen: bytes) -> bool:
    """True if one is a string. As a rule all but the last are null, written in one of two ways."""
    nulls = seen.count(b'"finish_reason":null') + seen.count(b'"finish_reason": null')
    return seen.count(b'"finish_reason"') > nulls and _FINISH.search(seen) is not None


def _said_in(choice: Any) -> int:
    """Characters that a piece of any choice has: text, thoughts, arguments of tools."""
    delta = choice.get("delta", choice) if isinstance(choice, dict) else None
    if not isinstance(delta, dict):
        return 0
    said = [delta.get(name) for name in ("content", "reasoning_content", "reasoning", "text")]
    if isinstance(delta.get("content"), list):
        said += [joined_text(delta["content"]), thoughts_in(delta["content"])]
    calls = delta.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        said.append(function.get("arguments") if isinstance(function, dict) else None)
    return sum(len(one) for one in said if isinstance(one, str))


def first_choice(parsed: Any) -> dict[str, Any] | None:
    choices = parsed.get("choices") if isinstance(parsed, dict) else None
    if not isinstance(choices, list):
        return None
    for choice in choices:
        if isinstance(choice, dict) and choice.get("index") in (0, None, "0"):
            return choice
    return None


def usage_of(parsed: Mapping[str, Any]) -> Usage:
    usage = parsed.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"), cached)
    return Usage(*(positive(count) or None for count in counts))


def joined_text(parts: Sequence[Any]) -> str:
    """The text of a piece of an answer whose content is a list of parts; nothing is put between them."""
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") in ("text", None)]
    return "".join(text for text in texts if isinstance(text, str))


def thoughts_in(content: Any) -> str:
    """The thoughts in a content that is a list of parts: `{"type": "thinking", "thinking": [...] or "..."}`."""
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    thoughts = [part.get("thinking") for part in parts if part.get("type") == "thinking"]
    return "".join(joined_text(thought) if isinstance(thought, list) else str(thought or "") for thought in thoughts)


def first_string(*values: Any) -> str | None:
    for value in values:
        if value and isinstance(value, str):
            return value
    return None
