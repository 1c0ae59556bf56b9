"""The chat-completions format, read and extended. Pure; the only module that reads the fields of a body.

A body is read, never modelled: fields that nobody here knows pass as they came. Injecting splices text into the
bytes of one message; nothing else moves.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from gateway import splice
from gateway.errors import BadRequest
from gateway.sse import EventParser
from gateway.turn import Answer, Ask, Layout, message_id
from gateway.wire.think import split_think

__all__ = ["ChatDialect", "ChatReader", "EndReader", "error_body", "read_chat", "text_of"]

_CONTENT = (str, list, type(None))
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\][\r\n]")
_BEFORE_DONE, _TO_DONE_END = 7, 7  # bytes of the pattern before the mark, and to its end
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')
_ERROR = re.compile(rb'"error"\s*:\s*(?:\{|"[^"])')
_COUNTS = re.compile(rb'"(prompt|completion)_tokens"\s*:\s*(\d{1,12})[,}\s]')
_EVENTS_KEPT = 5
_UNREAD = 32_768  # bytes of a stream that are looked at together
_SAID = 200  # newest messages of a prompt that are looked at, so that none is injected again
_PIECES = 1024
_MAX_ANSWER = 256 * 1024  # characters of an answer that are kept
_CHORES = re.compile(
    r"^\s*(### Task:\s*\n|Generate a (concise|short|brief)|Create a (concise|short|brief)[^\n]{0,40}title"
    r"|Provide a concise,? [^\n]{0,30}title|Summari[sz]e (this|the) (chat|conversation)[^\n]{0,60}title"
    r"|Correct your JSON ONLY RESPONSE|Recall the function correctly, fix the errors"
    r"|Please generate a title|请(为|給|给)[^\n]{0,20}(对话|聊天)[^\n]{0,20}标题)",
    re.IGNORECASE,
)


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list. Images and the like are passed over."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") in ("text", None)]
    return "\n".join(text for text in texts if isinstance(text, str))


def read_chat(body: Any, max_messages: int) -> Ask:
    """What a chat body asks. Raises BadRequest with the path of what is wrong."""
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("`model` must be a string that names a model", param="model", code="missing_model")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise BadRequest("`stream` must be true or false", param="stream")
    messages = _checked_messages(body.get("messages"), max_messages)
    users = [index for index, message in enumerate(messages) if message["role"] == "user"]
    metadata = body.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    query = text_of(messages[users[-1]].get("content")) if users else ""
    return Ask(
        model=model,
        stream=bool(stream),
        query=query,
        context=text_of(messages[users[-2]].get("content")) if len(users) > 1 else "",
        opening=text_of(messages[users[0]].get("content")) if users else "",
        is_step=bool(users) and users[-1] != len(messages) - 1,
        is_chore=_is_chore(body, query),
        user_hint=_first_string(metadata.get("user_id"), body.get("safety_identifier"), body.get("user")),
        session_hint=_first_string(metadata.get("session_id"), metadata.get("conversation_id")),
        max_tokens=_positive(body.get("max_completion_tokens")) or _positive(body.get("max_tokens")),
    )


def _checked_messages(messages: Any, limit: int) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not messages:
        raise BadRequest("`messages` must be a list with at least one message", param="messages")
    if len(messages) > limit:
        raise BadRequest(f"`messages` has {len(messages)} entries; at most {limit} are taken", param="messages")
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if not isinstance(message, dict):
            raise BadRequest(f"`{path}` must be an object", param=path)
        if not isinstance(message.get("role"), str):
            raise BadRequest(f"`{path}.role` must be one of {', '.join(_ROLES)}", param=f"{path}.role")
        if not isinstance(message.get("content"), _CONTENT):
            raise BadRequest(f"`{path}.content` must be a string or a list of parts", param=f"{path}.content")
    return messages


def _is_chore(body: Mapping[str, Any], query: str) -> bool:
    return "n_ctx" in body or _CHORES.match(query[:400]) is not None


def _first_string(*values: Any) -> str | None:
    for value in values:
        if value and isinstance(value, str):
            return value
    return None


def _positive(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


class ChatDialect:
    """`/v1/chat/completions`, and `/v1/completions` as far as its answers go."""

    layout: Layout | None = None

    def place(self, raw: bytes, body: Mapping[str, Any], block: str, placement: str) -> bytes:
        """The block before the last user message's text (`tail`), or after the system prompt (`system`)."""
        messages = body["messages"]
        if placement == "system":
            index = next((i for i, message in enumerate(messages) if _is_system_text(message)), None)
            if index is None:
                message = orjson.dumps({"role": "system", "content": block.rstrip()})
                return splice.insert_first(raw, _span(raw, "messages"), message)
            return _into_content(raw, index, messages[index], "\n\n" + block.rstrip(), at_end=True)
        index = max(i for i, message in enumerate(messages) if message["role"] == "user")
        return _into_content(raw, index, messages[index], block, at_end=False)

    def said(self, body: Mapping[str, Any]) -> frozenset[str]:
        messages = body["messages"]
        last = max((index for index, message in enumerate(messages) if message["role"] == "user"), default=0)
        newest = messages[max(0, last + 1 - _SAID) : last + 1]
        return frozenset(message_id(text_of(message.get("content"))) for message in newest)

    def reader(self) -> "ChatReader":
        return ChatReader()

    def end_reader(self) -> "EndReader":
        return EndReader()

    def read_plain(self, body: bytes) -> Answer | None:
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        choice = _first_choice(parsed)
        if choice is None:
            return None
        message = choice.get("message")
        message = message if isinstance(message, dict) else {}
        prompt_tokens, completion_tokens = _usage(parsed)
        text, thought = split_think(_first_string(message.get("content"), choice.get("text")) or "")
        return Answer(
            text=text or None,
            finish_reason=_first_string(choice.get("finish_reason")),
            reasoning=_first_string(message.get("reasoning_content"), message.get("reasoning"), thought),
            has_tool_calls=bool(message.get("tool_calls")),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )

    def error_event(self, message: str, code: str) -> bytes:
        return b"data: " + error_body(message, "upstream_error", code, None) + b"\n\n"


class ChatReader:
    """Reads along a chat stream: choice 0's text, how it ended, its usage."""

    def __init__(self) -> None:
        self._events = EventParser()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._size = 0
        self._finish_reason: str | None = None
        self._has_tool_calls = False
        self._usage: tuple[int | None, int | None] = (None, None)
        self._is_done = False
        self.has_error = False
        self.has_events = False

    @property
    def is_complete(self) -> bool:
        """`[DONE]` was seen, or, at the end of the bytes, a finish reason."""
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
        if self.has_finish_reason and not self.has_error:
            self._is_done = True

    def answer(self) -> Answer:
        text, thought = split_think("".join(self._text))
        return Answer(
            text=text or None,
            finish_reason=self._finish_reason,
            reasoning="".join(self._reasoning) or thought,
            has_tool_calls=self._has_tool_calls,
            prompt_tokens=self._usage[0],
            completion_tokens=self._usage[1],
        )

    def _take(self, data: bytes) -> None:
        self.has_events = True
        if data == b"[DONE]":
            self._is_done = not self.has_error
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
            self._usage = _usage(chunk)
        choice = _first_choice(chunk)
        if choice is not None:
            self._take_choice(choice)

    def _take_choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._keep(self._text, delta.get("content"))
            self._keep(self._reasoning, delta.get("reasoning_content") or delta.get("reasoning"))
            if delta.get("tool_calls"):
                self._has_tool_calls = True
        else:
            self._keep(self._text, choice.get("text"))
        finish_reason = choice.get("finish_reason")
        if isinstance(finish_reason, str):
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
        self._whole: ChatReader | None = None

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
        if self._is_line_open or chunk.rfind(b"[DONE]") >= 0 or self._unread_size > _UNREAD:
            self._look()
        self._is_line_open = chunk[-1:] not in b"\r\n"

    def _look(self) -> None:
        if not self._unread:
            return
        new = b"".join(self._unread)
        seen = self._tail + new
        self._unread, self._unread_size = [], 0
        if not self._has_events and b"data:" in seen:
            self._has_events = True
        if b'_tokens"' in seen:
            self._usage |= {name: int(count) for name, count in _COUNTS.findall(seen)}
        if self._whole is not None:
            self._whole.feed(new)
        elif b'"error"' in seen and _ERROR.search(seen):
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
        return Answer(None, prompt_tokens=found.get(b"prompt"), completion_tokens=found.get(b"completion"))


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


def _has_finish_reason(seen: bytes) -> bool:
    """True if one is a string. As a rule all but the last are null, written in one of two ways."""
    nulls = seen.count(b'"finish_reason":null') + seen.count(b'"finish_reason": null')
    return seen.count(b'"finish_reason"') > nulls and _FINISH.search(seen) is not None


def error_body(message: str, type_: str, code: str | None, param: str | None) -> bytes:
    """An error as OpenAI writes it."""
    return orjson.dumps({"error": {"message": message, "type": type_, "param": param, "code": code}})


def _is_system_text(message: Mapping[str, Any]) -> bool:
    return message["role"] in ("system", "developer") and isinstance(message.get("content"), str | list)


def _into_content(raw: bytes, index: int, message: Mapping[str, Any], text: str, *, at_end: bool) -> bytes:
    content = message.get("content")
    if not isinstance(content, list):
        span = splice.find(raw, ("messages", index, "content"))
        return raw if span is None else splice.insert_into_string(raw, span, text, at_end=at_end)
    parts = [i for i, part in enumerate(content) if isinstance(part, dict) and isinstance(part.get("text"), str)]
    if not parts:
        part = orjson.dumps({"type": "text", "text": text})
        return splice.insert_first(raw, _span(raw, "messages", index, "content"), part)
    span = _span(raw, "messages", index, "content", parts[-1 if at_end else 0], "text")
    return splice.insert_into_string(raw, span, text, at_end=at_end)


def _span(raw: bytes, *path: str | int) -> splice.Span:
    span = splice.find(raw, path)
    if span is None:
        raise BadRequest("the body's JSON cannot be extended", param=".".join(map(str, path)))
    return span


def _first_choice(parsed: Any) -> dict[str, Any] | None:
    choices = parsed.get("choices") if isinstance(parsed, dict) else None
    if not isinstance(choices, list):
        return None
    for choice in choices:
        if isinstance(choice, dict) and choice.get("index", 0) == 0:
            return choice
    return None


def _usage(parsed: Mapping[str, Any]) -> tuple[int | None, int | None]:
    usage = parsed.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return _positive(usage.get("prompt_tokens")) or None, _positive(usage.get("completion_tokens")) or None
