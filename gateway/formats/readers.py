"""Incremental readers of answers in the chat-completions format: text, finish reason, usage. Pure.

`ChatReader` parses every event of a stream, `EndReader` as little as possible.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from gateway.formats.base import Answer
from gateway.formats.json_read import positive
from gateway.formats.sse import EventParser
from gateway.formats.think import split_think

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
_BEFORE_DONE, _TO_DONE_END = 7, 7  # bytes of the pattern before `[DONE]`, and to its end
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"[^"]')
_ERROR = re.compile(rb'"error"\s*:\s*(?:\{|"[^"])')
_COUNTS = re.compile(rb'"(prompt|completion|cached)_tokens"\s*:\s*(\d{1,12})[,}\s]')
_TAIL_EVENTS = 5
_SCAN_BYTES = 32_768  # bytes of a stream that are scanned together
_MAX_ANSWER = 256 * 1024  # characters buffered of an answer
_MAX_PIECES = 1024
_MAX_CHOICES = 1024
_OTHER_CHOICE = re.compile(rb'"index"\s*:\s*[1-9]')


class Usage(NamedTuple):
    """Tokens as an upstream reports them; None: not reported. `cached` is part of `prompt`."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None


class ChatReader:
    """Incremental reader of a chat stream: text and finish reason of choice 0, usage."""

    def __init__(self) -> None:
        self._events = EventParser()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._size = self._output_size = 0
        self._finish_reason: str | None = None
        self._has_tool_calls = False
        self._usage = Usage()
        self.id: str | None = None
        self._open_choices: set[int] = set()
        self._is_done = False
        self._is_over = False  # nothing after `[DONE]` belongs to the answer
        self.has_error = False
        self.has_events = False

    @property
    def is_complete(self) -> bool:
        """True after `[DONE]`, or at the end of the bytes if each choice has a finish reason."""
        return self._is_done

    @property
    def has_finish_reason(self) -> bool:
        return self._finish_reason is not None

    @property
    def is_mid_event(self) -> bool:
        return self._events.is_mid_event

    def feed(self, chunk: bytes) -> None:
        for data in self._events.feed_data(chunk):
            self._handle_event(data)

    def end(self) -> None:
        for event in self._events.end():
            self._handle_event(event.data)
        if self.has_finish_reason and not self._open_choices and not self.has_error:
            self._is_done = True

    def answer(self) -> Answer:
        text, inline_reasoning = split_think("".join(self._text))
        return Answer(
            text=text or None,
            finish_reason=self._finish_reason,
            reasoning="".join(self._reasoning) or inline_reasoning,
            has_tool_calls=self._has_tool_calls,
            prompt_tokens=self._usage.prompt,
            completion_tokens=self._usage.completion,
            cached_tokens=self._usage.cached,
            id=self.id,
            size=0 if self._usage.completion else self._output_size,
        )

    def _handle_event(self, data: bytes) -> None:
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
        for choice in choices if isinstance(choices, list) else ():
            self._output_size += _delta_size(choice)
            self._note_end(choice)
        first = first_choice(chunk)
        if first is not None:
            self._read_choice(first)

    def _note_end(self, choice: Any) -> None:
        index = choice.get("index", 0) if isinstance(choice, dict) else None
        if not isinstance(index, int) or len(self._open_choices) > _MAX_CHOICES:
            return
        if choice.get("finish_reason") and isinstance(choice["finish_reason"], str):
            self._open_choices.discard(index)
        elif _delta_size(choice):  # an empty delta after the end does not reopen the choice
            self._open_choices.add(index)

    def _read_choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            content = delta.get("content")
            if isinstance(content, list):
                self._append(self._text, joined_text(content))
                self._append(self._reasoning, thoughts_in(content))
            else:
                self._append(self._text, content)
            self._append(self._reasoning, delta.get("reasoning_content") or delta.get("reasoning"))
            if delta.get("tool_calls"):
                self._has_tool_calls = True
        else:
            self._append(self._text, choice.get("text"))
        finish_reason = choice.get("finish_reason")
        if finish_reason and isinstance(finish_reason, str):
            self._finish_reason = finish_reason

    def _append(self, buffer: list[str], text: Any) -> None:
        if isinstance(text, str) and text and self._size < _MAX_ANSWER:
            buffer.append(text)
            self._size += len(text)
            if len(buffer) >= _MAX_PIECES:  # many short strings take ten times the memory of one
                buffer[:] = ["".join(buffer)]


class EndReader:
    """Cheap reader of only the end and the usage of a stream, for turns that are not stored.

    It searches the bytes for markers without parsing, and for most markers only once per batch of chunks, which costs a
    thirtieth. Quotes are escaped inside JSON strings, so text of a model cannot look like a marker. If a marker is
    ambiguous (an error or a finish reason, of the stream or of something in it), the events are parsed after all.
    """

    def __init__(self) -> None:
        self._unread: list[bytes] = []
        self._unread_size = 0
        self._tail = b""  # the incomplete event, and the few before it
        self._is_line_open = False
        self._is_done = False
        self._usage: dict[bytes, int] = {}
        self._has_events = False
        self._events = 0
        self._full_reader: ChatReader | None = None
        self.id: str | None = None  # never read

    @property
    def is_complete(self) -> bool:
        return self._is_done if self._full_reader is None else self._full_reader.is_complete

    @property
    def has_events(self) -> bool:
        self._scan()
        return self._has_events

    @property
    def has_error(self) -> bool:
        self._scan()
        return self._full_reader is not None and self._full_reader.has_error

    @property
    def is_mid_event(self) -> bool:
        self._scan()
        return bool(self._tail) and not self._tail.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))

    def feed(self, chunk: bytes) -> None:
        self._unread.append(chunk)
        self._unread_size += len(chunk)
        if (
            self._full_reader is not None
            or self._is_line_open
            or chunk.rfind(b"[DONE]") >= 0
            or self._unread_size > _SCAN_BYTES
        ):
            self._scan()
        self._is_line_open = chunk[-1:] not in b"\r\n"

    def _scan(self) -> None:
        if not self._unread:
            return
        chunk = b"".join(self._unread)
        window = self._tail + chunk
        self._unread, self._unread_size = [], 0
        self._events += chunk.count(b"data:")
        if not self._has_events and b"data:" in window:
            self._has_events = True
        if b'_tokens"' in window:
            self._usage |= {name: int(count) for name, count in _COUNTS.findall(window)}
        if self._full_reader is not None:
            self._full_reader.feed(chunk)
        elif (b'"error"' in window and _ERROR.search(window)) or _has_other_choice(window):
            self._full_reader = ChatReader()
            self._full_reader.feed(window)
        elif _has_done(window):
            self._is_done = True
        self._tail = window[_last_events(window) :]

    def end(self) -> None:
        self._scan()
        if self._full_reader is None and not self._is_done and _has_finish_reason(self._tail):
            self._full_reader = ChatReader()
            self._full_reader.feed(self._tail)
        if self._full_reader is not None:
            self._full_reader.end()

    def answer(self) -> Answer:
        self._scan()
        usage = self._usage
        return Answer(
            None,
            prompt_tokens=usage.get(b"prompt"),
            completion_tokens=usage.get(b"completion"),
            cached_tokens=usage.get(b"cached"),
            events=self._events,
        )


def _last_events(window: bytes) -> int:
    """Offset of the last few events, within bounds: usage and the like may follow a finish reason."""
    position = len(window)
    for _ in range(_TAIL_EVENTS):
        boundary = max(window.rfind(b"\n\n", 0, position), window.rfind(b"\r\n\r\n", 0, position))
        if boundary < 0:
            return max(0, len(window) - _SCAN_BYTES) if len(window) > 2 * _SCAN_BYTES else 0
        position = boundary
    return max(position + 2, len(window) - 2 * _SCAN_BYTES)


def _has_done(window: bytes) -> bool:
    """True if the end marker is in the window. Matching only at `[DONE]` is 100 times faster than a full search."""
    position = window.find(b"[DONE]")
    while position >= 0:
        if _DONE.search(window, max(0, position - _BEFORE_DONE), position + _TO_DONE_END):
            return True
        position = window.find(b"[DONE]", position + 1)
    return False


def _has_other_choice(window: bytes) -> bool:
    """True if there is an index other than 0, of a choice or of a tool call."""
    zeros = window.count(b'"index":0') + window.count(b'"index": 0')
    return window.count(b'"index"') > zeros and _OTHER_CHOICE.search(window) is not None


def _has_finish_reason(window: bytes) -> bool:
    """True if a finish reason is a string. Usually all but the last are null, written in one of two ways."""
    nulls = window.count(b'"finish_reason":null') + window.count(b'"finish_reason": null')
    return window.count(b'"finish_reason"') > nulls and _FINISH.search(window) is not None


def _delta_size(choice: Any) -> int:
    """Number of characters in a delta of any choice: text, reasoning, tool arguments."""
    delta = choice.get("delta", choice) if isinstance(choice, dict) else None
    if not isinstance(delta, dict):
        return 0
    values = [delta.get(name) for name in ("content", "reasoning_content", "reasoning", "text")]
    if isinstance(delta.get("content"), list):
        values += [joined_text(delta["content"]), thoughts_in(delta["content"])]
    calls = delta.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        values.append(function.get("arguments") if isinstance(function, dict) else None)
    return sum(len(value) for value in values if isinstance(value, str))


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
    prompt, completion = positive(usage.get("prompt_tokens")), positive(usage.get("completion_tokens"))
    return Usage(prompt or None, completion or None, positive(cached) or None)


def joined_text(parts: Sequence[Any]) -> str:
    """Concatenate the text parts of a content list, without separators."""
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") in ("text", None)]
    return "".join(text for text in texts if isinstance(text, str))


def thoughts_in(content: Any) -> str:
    """Return the reasoning in a content list: `{"type": "thinking", "thinking": [...] or "..."}`."""
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    thoughts = [part.get("thinking") for part in parts if part.get("type") == "thinking"]
    return "".join(
        joined_text(reasoning) if isinstance(reasoning, list) else str(reasoning or "") for reasoning in thoughts
    )


def first_string(*values: Any) -> str | None:
    for value in values:
        if value and isinstance(value, str):
            return value
    return None
