"""The bodies of the MemOS routes. One model an operation, both vocabularies: where a thing has two names the native
one wins, and an explicit null counts as absent. Unknown fields are ignored, as MemOS does.
"""

from datetime import UTC, datetime
from typing import Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gateway.errors import BadRequest

__all__ = ["AddRequest", "ChatRequest", "ScopedRequest", "SearchRequest", "checked", "said_at"]

_MAX_QUERY = 65_536
_EARLIEST, _LATEST = -2_208_988_800, 7_258_118_400  # 1900-01-01 and 2200-01-01
_B = TypeVar("_B", bound="_Body")

_SAME: Final = {
    "session_id": "conversation_id",
    "top_k": "memory_limit_number",
    "model_name_or_path": "model_name",
    "custom_tags": "tags",
    "mem_cube_id": "cube_id",
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _one_vocabulary(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValueError("the body must be a JSON object")
        data = {key: value for key, value in data.items() if value is not None}
        sessions = {data[name] for name in ("session_id", "conversation_id") if isinstance(data.get(name), str)}
        if len(sessions) > 1:
            raise ValueError("session_id and conversation_id differ; they mean the same: send one")
        for native, other in _SAME.items():
            if other in data:
                data.setdefault(native, data[other])
        return data


class ScopedRequest(_Body):
    """What every operation has: whose memory."""

    user_id: str = Field(min_length=1, max_length=256)
    session_id: str | None = Field(None, max_length=256)
    mem_cube_id: str | None = Field(None, max_length=256)

    @field_validator("session_id", "mem_cube_id")
    @classmethod
    def _none_if_empty(cls, value: str | None) -> str | None:
        return value or None


class ChatRequest(ScopedRequest):
    """`/product/chat`, `/product/chat/complete`, `/product/chat/stream`. The defaults are those of the chat page."""

    query: str = Field(min_length=1, max_length=_MAX_QUERY)
    readable_cube_ids: tuple[str, ...] | None = Field(None, max_length=50)
    writable_cube_ids: tuple[str, ...] | None = Field(None, max_length=50)
    history: list[dict[str, Any]] | None = None
    system_prompt: str | None = None
    top_k: int = Field(10, ge=1, le=100)
    relativity: float = Field(0.45, ge=0, le=1)
    add_message_on_answer: bool = False
    model_name_or_path: str | None = None
    max_tokens: int = Field(8192, ge=1)
    temperature: float = Field(0.7, ge=0, le=2)
    top_p: float = Field(0.95, ge=0, le=1)
    stream: bool = False
    custom_tags: tuple[str, ...] = Field((), max_length=100)
    info: dict[str, Any] = {}
    agent_id: str = Field("", max_length=256)
    app_id: str = Field("", max_length=256)

    @field_validator("history")
    @classmethod
    def _messages(cls, history: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        for index, message in enumerate(history or ()):
            _check_message(message, index)
        return history


class SearchRequest(ScopedRequest):
    """`/product/search`."""

    query: str = Field(min_length=1, max_length=_MAX_QUERY)
    readable_cube_ids: tuple[str, ...] | None = Field(None, max_length=50)
    top_k: int = Field(10, ge=1, le=1000)
    relativity: float = Field(0.45, ge=0, le=1)


class AddRequest(ScopedRequest):
    """`/product/add`. `messages` are brought into one form: a list of chat messages."""

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=2048)
    writable_cube_ids: tuple[str, ...] | None = Field(None, max_length=50)
    async_mode: Literal["async", "sync"] = "async"
    custom_tags: tuple[str, ...] = Field((), max_length=100)
    info: dict[str, Any] = {}
    agent_id: str = Field("", max_length=256)
    app_id: str = Field("", max_length=256)

    @field_validator("messages", mode="before")
    @classmethod
    def _one_form(cls, messages: Any) -> Any:
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        if isinstance(messages, list):
            messages = [
                {"role": "user", "content": item["text"]}
                if isinstance(item, dict) and item.get("type") == "text" and "role" not in item and "text" in item
                else item
                for item in messages
            ]
        return messages

    @field_validator("async_mode", mode="before")
    @classmethod
    def _mode_name(cls, value: Any) -> Any:
        return ("async" if value else "sync") if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _speakers(self) -> Self:
        for index, message in enumerate(self.messages):
            _check_message(message, index)
            said_at(message, 0.0)
        return self


def _check_message(message: dict[str, Any], index: int) -> None:
    if message.get("role") not in ("system", "user", "assistant", "tool"):
        raise ValueError(f"message {index}: role must be system, user, assistant or tool")
    if not isinstance(message.get("content"), str | list | None):
        raise ValueError(f"message {index}: content must be a string or a list of parts")


def said_at(message: dict[str, Any], default: float) -> float:
    """When a message was said: its `chat_time` (ISO 8601, `YYYY-MM-DD HH:MM:SS`, or seconds), else `default`.

    A time without a zone is UTC. Raises ValueError if it is none of these.
    """
    value = message.get("chat_time")
    if value is None or value == "":
        return default
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = float(value) / (1000 if value > 1e11 else 1)
        else:
            moment = datetime.fromisoformat(str(value).strip())
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError("chat_time must be ISO 8601, e.g. 2026-05-08T13:56:00") from error
    if not _EARLIEST <= seconds <= _LATEST:
        raise ValueError("chat_time must lie between the years 1900 and 2200")
    return seconds


def checked(kind: type[_B], data: Any) -> _B:
    """The body as a model. Raises BadRequest with the path of what is wrong."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in problem["loc"]) or "body"
        message = problem["msg"].removeprefix("Value error, ")
        raise BadRequest(f"{path}: {message}", code="invalid_parameter", param=path) from error
