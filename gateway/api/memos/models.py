"""Request bodies of the MemOS routes that chat, search and add.

One model per operation accepts the field names of both APIs: if both are sent, the native one wins. An explicit null
counts as absent. Unknown fields are ignored, as MemOS does.
"""

import contextlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gateway.errors import BadRequest
from gateway.memory.filters import BUILT_IN, parse_time
from gateway.text.dates import zone_offset

__all__ = [
    "AddRequest",
    "Body",
    "BusinessChatRequest",
    "ChatRequest",
    "ScopedRequest",
    "SearchRequest",
    "checked",
    "said_at",
    "said_offset",
]

_MAX_QUERY = 65_536
_EARLIEST, _LATEST = -2_208_988_800, 7_258_118_400  # 1900-01-01 and 2200-01-01
_DAYS = ("%d %B, %Y", "%d %B %Y", "%d %b %Y", "%B %d, %Y", "%b %d, %Y", "%Y/%m/%d", "%Y/%m/%d (%a)", "%Y年%m月%d日")
_CLOCKS = ("%H:%M", "%H:%M:%S", "%I:%M %p")
_TIME_FORMATS: Final = (
    *_DAYS,
    *(f"{day} {clock}" for day in _DAYS for clock in _CLOCKS),
    *(f"{clock} on {day}" for day in _DAYS for clock in _CLOCKS),
)
_B = TypeVar("_B", bound="Body")

_ALIASES: Final = {
    "session_id": "conversation_id",
    "top_k": "memory_limit_number",
    "pref_top_k": "preference_limit_number",
    "tool_mem_top_k": "tool_memory_limit_number",
    "skill_mem_top_k": "skill_limit_number",
    "search_tool_memory": "include_tool_memory",
    "include_skill_memory": "include_skill",
    "model_name_or_path": "model_name",
    "custom_tags": "tags",
    "mem_cube_id": "cube_id",
    "async_mode": "asyncMode",
    "system_prompt": "base_prompt",
    "page_size": "size",
}

Ids = tuple[str, ...]
QueryText = Annotated[str, Field(min_length=1, max_length=_MAX_QUERY, pattern=r"\S", description="The question.")]


class Body(BaseModel):
    """Base of all request bodies: maps client field names to native ones, and drops nulls. Validators are built at the
    first request."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=(), defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _unify_field_names(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValueError("the body must be a JSON object")
        if "dedup" in data and data["dedup"] is None:
            data = {**data, "dedup": "equal"}  # the only field whose null has a meaning
        data = {key: value for key, value in data.items() if value is not None}
        for native, alias in _ALIASES.items():
            if alias in data and data.get(native, "") == "":
                data[native] = data[alias]
        return data


class ScopedRequest(Body):
    """Base of requests with scopes: user or agent, conversation, cubes to read and to write, filter."""

    user_id: str | tuple[str, ...] | None = Field(None, description="The user; their own cube has the same id.")
    agent_id: str | tuple[str, ...] = Field("", description="Metadata, and the subject where no user is named.")
    app_id: str = Field("", max_length=256)
    session_id: str | None = Field(None, max_length=256, description="The dialogue (`conversation_id`).")
    mem_cube_id: str | None = Field(None, max_length=256, description="One cube to read and to write.")
    readable_cube_ids: Ids | None = Field(None, max_length=50, description="Cubes to read; default: the user's own.")
    writable_cube_ids: Ids | None = Field(None, max_length=50, description="Cubes that each get a copy.")
    knowledgebase_ids: Ids = Field((), max_length=100, description="Knowledge bases to read too; `all` for all.")
    allow_public: bool = Field(False, description="A copy may go to what is public within the tenant.")
    allow_knowledgebase_ids: Ids = Field((), max_length=100, description="Knowledge bases that may get a copy.")
    filter: dict[str, Any] = Field({}, description="Conditions on memories; see docs/guides/memos.md.")

    @field_validator("session_id", "mem_cube_id", "user_id")
    @classmethod
    def _empty_to_none(cls, value: Any) -> Any:
        return value or None

    @field_validator("user_id", "agent_id", mode="before")
    @classmethod
    def _check_list_size(cls, value: Any) -> Any:
        if isinstance(value, list) and not 0 < len(value) <= 20:
            raise ValueError("a list has 1 to 20 ids")
        return value

    @field_validator("knowledgebase_ids", "allow_knowledgebase_ids", mode="before")
    @classmethod
    def _wrap_single_id(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @property
    def users(self) -> tuple[str, ...]:
        return _as_tuple(self.user_id)

    @property
    def agents(self) -> tuple[str, ...]:
        return _as_tuple(self.agent_id)

    @property
    def agent(self) -> str:
        """The agent that is stored with a memory."""
        return self.agents[0] if self.agents else ""


def _as_tuple(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if not value:
        return ()
    return (value,) if isinstance(value, str) else value


class _MetadataRequest(ScopedRequest):
    """Base of requests with metadata that is stored with each message."""

    custom_tags: Ids = Field((), max_length=100, description="Tags of what is stored (`tags`).")
    info: dict[str, Any] = Field({}, max_length=100, description="Free metadata; every key can be filtered by.")
    async_mode: Literal["async", "sync"] = Field("async", description="sync: it can be found when the call returns.")
    manager_user_id: str | None = None
    project_id: str | None = None
    source: str | None = None

    @field_validator("async_mode", mode="before")
    @classmethod
    def _normalize_mode(cls, value: Any) -> Any:
        return ("async" if value else "sync") if isinstance(value, bool) else value

    @property
    def metadata(self) -> dict[str, Any]:
        """`info` without built-in names, and the other fields that are stored for filters."""
        extra = {"manager_user_id": self.manager_user_id, "project_id": self.project_id, "source": self.source}
        free = {name: value for name, value in self.info.items() if name not in BUILT_IN}
        return {name: value for name, value in extra.items() if value} | free


class ChatRequest(_MetadataRequest):
    """A chat with memory. A field that is not sent has the value of the configured defaults."""

    query: QueryText
    history: list[dict[str, Any]] | None = Field(
        None, description="Earlier messages; the last 20 count. None: those stored of this conversation."
    )
    mode: Literal["fast", "fine", "mixture"] = Field("fast", description="fine: a model picks what helps.")
    system_prompt: str | None = Field(None, description="Replaces the default prompt; `{memories}` in it is replaced.")
    top_k: int | None = Field(None, ge=0, description="Memories wanted (`memory_limit_number`).")
    include_preference: bool | None = None
    pref_top_k: int | None = Field(None, ge=0, description="Preferences (`preference_limit_number`).")
    search_tool_memory: bool = Field(False, description="Tool memories too (`include_tool_memory`).")
    tool_mem_top_k: int = Field(6, ge=0)
    include_skill_memory: bool = Field(False, description="Skills too (`include_skill`).")
    skill_mem_top_k: int = Field(3, ge=0)
    relativity: float | None = Field(None, ge=0, description="Relevance floor of memories; 0: none.")
    threshold: float | None = Field(None, ge=0, description="Second floor; the best three pass it anyway.")
    add_message_on_answer: bool | None = None
    model_name_or_path: str | None = None
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    stream: bool = False

    @field_validator("user_id")
    @classmethod
    def _check_single_user(cls, value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError("a chat has one user")
        return value

    @field_validator("history")
    @classmethod
    def _check_history(cls, history: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        for index, message in enumerate(history or ()):
            _check_message(message, index)
        return history

    @model_validator(mode="after")
    def _require_user(self) -> Self:
        if not self.user_id:
            raise ValueError("user_id: is needed")
        return self


class BusinessChatRequest(ChatRequest):
    """A chat for holders of a business key; with memory only if it is asked for."""

    business_key: str = Field(min_length=1, max_length=256)
    need_search: bool = False


class SearchRequest(ScopedRequest):
    """A search for memories, without an answer."""

    query: QueryText
    mode: Literal["fast", "fine", "mixture"] = Field("fast", description="fine: a model picks what helps.")
    top_k: int | None = Field(None, ge=1, description="Memories wanted (`memory_limit_number`).")
    relativity: float | None = Field(None, ge=0, description="Relevance floor; 0: none.")
    threshold: float = Field(0.0, ge=0, description="Second floor; the best three pass it anyway.")
    dedup: Literal["no", "equal", "sim", "mmr"] = Field("mmr", description="no: copies too; null: no equal texts.")
    include_preference: bool = True
    pref_top_k: int = Field(6, ge=0)
    search_tool_memory: bool | None = Field(None, description="Default: true on native routes, false on client ones.")
    tool_mem_top_k: int = Field(6, ge=0)
    include_skill_memory: bool | None = Field(None, description="Default: true on native routes, false on client ones.")
    skill_mem_top_k: int = Field(3, ge=0)
    search_memory_type: str = Field("All", description="MemOS' name of one type of memory, or All.")
    reference_time: str | None = Field(None, description="When it is asked: what `yesterday` is seen from; null: now.")
    chat_history: list[dict[str, Any]] | None = Field(None, description="What was said before: helps short questions.")
    source: str | None = None
    context_format: str = "memory"


class AddRequest(_MetadataRequest):
    """Messages to remember, brought into one form: a list of chat messages."""

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=2048)
    mode: Literal["fast", "fine"] | None = None
    task_id: str | None = Field(None, max_length=128)
    is_feedback: bool = False
    chat_history: list[dict[str, Any]] | None = None

    @model_validator(mode="before")
    @classmethod
    def _convert_legacy_fields(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if data.get("is_upload_skill"):
            raise ValueError("is_upload_skill: skill archives are not read; add a .md file of type skill instead")
        if data.get("doc_path"):
            raise ValueError("doc_path: files of this machine are not read; send the content")
        if data.get("memory_content"):
            messages = data.get("messages") or []
            messages = [messages] if isinstance(messages, str) else messages
            if isinstance(messages, list):
                data = {**data, "messages": [*messages, {"type": "text", "text": data["memory_content"]}]}
        return data

    @field_validator("messages", mode="before")
    @classmethod
    def _normalize_messages(cls, messages: Any) -> Any:
        if isinstance(messages, str):
            messages = [messages]
        if isinstance(messages, list):
            messages = [_as_message(item) for item in messages]
        return messages

    @model_validator(mode="after")
    def _check_messages(self) -> Self:
        for index, message in enumerate(self.messages):
            _check_message(message, index)
            said_at(message, 0.0)
        return self


def _as_message(item: Any) -> Any:
    if isinstance(item, str):
        return {"role": "user", "content": item}
    if isinstance(item, dict) and "role" not in item and item.get("type") in ("text", "file"):
        content = item.get("text") if item["type"] == "text" else [item]
        return {"role": "user", "content": content}
    return item


def _check_message(message: dict[str, Any], index: int) -> None:
    if message.get("role") not in ("system", "user", "assistant", "tool"):
        raise ValueError(f"message {index}: role must be system, user, assistant or tool")
    if not isinstance(message.get("content"), str | list | None):
        raise ValueError(f"message {index}: content must be a string or a list of parts")


def said_at(message: Mapping[str, Any], default: float) -> float:
    """The time of a message: its `chat_time`, in common ways to write times, else `default`; seconds since 1970.

    A time without a zone is UTC. Raises ValueError if it cannot be read, or lies outside 1900 to 2200.
    """
    value = message.get("chat_time")
    if value is None or value == "":
        return default
    seconds = parse_time(value)
    if seconds is None and isinstance(value, str):
        seconds = _human_time(value.strip())
    if seconds is None:
        raise ValueError("chat_time must be a time with its date, e.g. 2026-05-08T13:56:00 or 1:56 pm on 8 May, 2026")
    if not _EARLIEST <= seconds <= _LATEST:
        raise ValueError("chat_time must lie between the years 1900 and 2200")
    return seconds


def said_offset(message: Mapping[str, Any], zone: tzinfo) -> tuple[float, float]:
    """The UTC offset of a message in seconds east, and the correction in seconds to add to its `said_at`.

    The correction is needed because `said_at` reads a time without a zone as UTC.
    """
    value = message.get("chat_time")
    if not isinstance(value, str) or not value.strip():
        return zone_offset(zone, said_at(message, time.time())), 0
    explicit_offset = _explicit_offset(value.strip())
    if explicit_offset is not None:
        return explicit_offset, 0
    offset = zone_offset(zone, said_at(message, 0.0))
    return offset, -offset


def _explicit_offset(text: str) -> float | None:
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        with contextlib.suppress(ValueError, TypeError):
            offset = parse(text).utcoffset()
            return None if offset is None else offset.total_seconds()
    return None


def _human_time(text: str) -> float | None:
    for form in _TIME_FORMATS:
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
    with contextlib.suppress(ValueError, TypeError):
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None


def checked(kind: type[_B], data: Any) -> _B:
    """Validate a body. Raises BadRequest with the path of the first invalid field."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in problem["loc"]) or "body"
        message = problem["msg"].removeprefix("Value error, ")
        raise BadRequest(f"{path}: {message}", code="invalid_parameter", param=path) from error
