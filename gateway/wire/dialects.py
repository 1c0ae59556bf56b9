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
from gateway.turn import Answer, Ask, Layout, message_id
from gateway.wire.readers import ChatReader, EndReader, first_choice, first_string, positive, usage_of
from gateway.wire.think import split_think

__all__ = ["ChatDialect", "ChatReader", "EndReader", "error_body", "read_chat", "text_of"]

_CONTENT = (str, list, type(None))
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_SAID = 200  # newest messages of a prompt that are looked at, so that none is injected again
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
        user_hint=first_string(metadata.get("user_id"), body.get("safety_identifier"), body.get("user")),
        session_hint=first_string(metadata.get("session_id"), metadata.get("conversation_id")),
        max_tokens=positive(body.get("max_completion_tokens")) or positive(body.get("max_tokens")),
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
        choice = first_choice(parsed)
        if choice is None:
            return None
        message = choice.get("message")
        message = message if isinstance(message, dict) else {}
        prompt_tokens, completion_tokens = usage_of(parsed)
        text, thought = split_think(first_string(message.get("content"), choice.get("text")) or "")
        return Answer(
            text=text or None,
            finish_reason=first_string(choice.get("finish_reason")),
            reasoning=first_string(message.get("reasoning_content"), message.get("reasoning"), thought),
            has_tool_calls=bool(message.get("tool_calls")),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )

    def error_event(self, message: str, code: str) -> bytes:
        return b"data: " + error_body(message, "upstream_error", code, None) + b"\n\n"


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
