"""Configuration sections of the memory."""

import os
import re
from datetime import UTC, tzinfo
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints, field_validator, model_validator

from gateway.config.embedder_kinds import EMBEDDER_KINDS
from gateway.config.names import check_name
from gateway.config.secrets import OptionalKey
from gateway.config.sections import Id, OptionalSecret, Positive, Section
from gateway.config.storage import StorageConfig, StoreConfig, StoreLimits, check_uri, is_object_storage
from gateway.memory.kinds import KINDS

__all__ = [
    "DocumentsConfig",
    "EmbedderConfig",
    "ExtractionConfig",
    "MemoryConfig",
    "RecallConfig",
    "RememberConfig",
    "RetentionConfig",
]

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$", to_lower=True)]
_SESSION_HEADERS = (
    "x-openwebui-chat-id",
    "x-claude-code-session-id",
    "x-session-id",
    "x-session-affinity",
    "x-opencode-session",
    "x-qwen-code-session-id",
    "x-kilo-session",
    "x-roo-task-id",
    "x-coder-chat-id",
    "session-id",
    "session_id",
    "thread-id",
    "conversation_id",
)
_TASK = "task"
_FOLDER_BUCKETS, _MAX_FOLDER_BUCKETS = 16, 256
_OBJECT_BUCKETS = 64


class EmbedderConfig(Section):
    kind: str = Field(
        "local",
        description="`local`: built in, offline. `openai`: a server; or a kind of an installed package, which may read "
        "the keys below.",
    )
    base_url: str = Field("https://api.openai.com/v1", description="Only `openai`: base URL of `/embeddings`.")
    api_key: OptionalKey = Field(None, description="Only `openai`: the API key.")
    model: str = Field("text-embedding-3-small", description="Only `openai`: the embedding model.")
    dimensions: int = Field(512, gt=0, le=8192, description="Only `openai`: dimensions of the vectors.")
    timeout: Positive = Field(10.0, description="Only `openai`: timeout in seconds for a batch of documents.")
    batch_size: int = Field(64, gt=0, le=2048, description="Only `openai`: texts per request.")

    @field_validator("kind", mode="before")
    @classmethod
    def _check_kind(cls, kind: Any) -> str:
        return EMBEDDER_KINDS.check(kind)


class RecallConfig(Section):
    token_budget: int = Field(1024, ge=0, description="Maximum tokens of the injected block, fence included.")
    profile_budget: int = Field(
        256, ge=0, description="Tokens of the budget for standing preferences, at most a quarter; 0: none are injected."
    )
    top_k: int = Field(
        100, ge=1, le=1000, description="Maximum memories per turn; usually the token budget limits first."
    )
    deadline_ms: int = Field(150, ge=1, description="Milliseconds after which a request proceeds without memory.")
    cold_deadline_ms: int = Field(400, ge=1, description="The same for a user whose memories are not in RAM yet.")
    start_wait: float = Field(
        3.0, ge=0, description="Seconds that a chat waits for memory to load after a start; 0: not at all."
    )
    placement: Literal["tail", "sticky", "system"] = Field(
        "tail", description="Last user message; `sticky`: earlier ones keep their blocks; or the system prompt."
    )
    min_relativity: float = Field(0.0, ge=0, le=1, description="Minimum relevance of an injected memory; 0: none.")
    selectivity: float = Field(
        0.5,
        ge=0,
        le=1,
        description="How sure it must be that a memory helps; 0: the best that fit into the budget are injected.",
    )
    explain_turns: int = Field(
        500, ge=0, le=10_000, description="Number of recent turns kept in RAM for `gateway memory explain`."
    )
    working_set_rows: int = Field(
        200_000, ge=1000, description="Maximum memories of a scope in RAM; larger scopes are searched in LanceDB."
    )
    working_set_mb: int = Field(
        512,
        ge=16,
        description="MiB for all working sets; the least recently used are evicted first. Divided among "
        "`server.workers`.",
    )


class RememberConfig(Section):
    partial_answers: bool = Field(False, description="Also store truncated answers, marked as such.")
    preferences: bool = Field(True, description="Detect explicit preferences by patterns, without a model.")
    max_message_bytes: int = Field(65_536, ge=1024, description="Longer messages are truncated when stored.")
    batch_window_ms: int = Field(
        2_000,
        ge=0,
        le=10_000,
        description="Milliseconds that new memories, which are searchable and durable, wait to be stored in a batch.",
    )
    max_backlog_mb: int = Field(
        1024, ge=1, description="Journal size in MiB above which new memories are dropped (never chats)."
    )


_RetentionKind = Annotated[str, BeforeValidator(lambda value: check_name(value, (*KINDS, _TASK)))]


class RetentionConfig(Section):
    max_age_days: dict[_RetentionKind, Positive] = Field(
        {},
        description="Days after which memories of a kind are deleted, as `{turn: 365}`; other kinds are kept. `task`: "
        "messages that only hand over a task, and generic answers; then 'the regex you gave me' finds nothing.",
    )
    max_per_cube: int | None = Field(
        None, ge=100, description="Maximum memories per cube; the oldest are deleted. null: no limit."
    )
    purge_after_hours: Positive = Field(
        24.0, description="Hours after which deleted memories are erased from the files, too."
    )
    every_minutes: Positive = Field(60.0, description="Minutes between retention sweeps.")


class ExtractionConfig(Section):
    model: str | None = Field(
        None, description="Model that extracts facts from conversations in the background; null: no extraction."
    )
    timeout: Positive = Field(20.0, description="Timeout in seconds of a request to that model.")
    tools: bool = Field(True, description="Also store results of tool calls, and extract from them.")
    idle: Positive = Field(60.0, description="Seconds of inactivity after which a conversation is processed.")
    window_tokens: int = Field(
        1500, ge=100, le=100_000, description="New tokens in a conversation that trigger extraction at once."
    )
    max_tokens_per_day: int = Field(
        200_000, ge=0, description="Maximum tokens per user and day for extraction; 0: no limit."
    )
    max_cost_per_day: Positive | None = Field(None, description="The same in US dollars, where prices are known.")

    @property
    def learner(self) -> str | None:
        """The model for extraction: as configured, else the environment variable of MemOS' own server."""
        return self.model or os.environ.get("MEMRADER_MODEL") or None


class DocumentsConfig(Section):
    allow_urls: bool = Field(False, description="Allow knowledge-base files to be fetched from public URLs.")
    max_mb: int = Field(100, ge=1, le=1024, description="Maximum MiB of a file; `limits.body_mb` bounds the request.")


class MemoryConfig(Section):
    enabled: bool = Field(True, description="Enable memory; false: a plain proxy.")
    uri: str = Field(
        "./data", min_length=1, description="Data folder; or `s3://bucket/prefix`, which several gateways share."
    )
    storage: StorageConfig = Field(StorageConfig(), description="Object storage, for a memory on S3.")
    database: OptionalSecret = Field(
        None, description="PostgreSQL database beside a memory on S3, `postgresql://…`; null: files in the data folder."
    )
    lease_seconds: float = Field(
        6.0,
        ge=3,
        le=60,
        description="Seconds until other gateways take over the buckets of one that died. A gateway that does not "
        "reach PostgreSQL stops storing after 70 % of them. Only on S3.",
    )
    store: StoreConfig = Field(StoreConfig(), description="How memories are written.")
    default_user: Id | None = Field(
        None, description="User of requests that name none; null: such requests have no memory."
    )
    user_headers: list[HeaderName] = Field(
        ["x-openwebui-user-id"],
        description="Request headers in which front ends name the user; the first one present is used.",
    )
    session_headers: list[HeaderName] = Field(list(_SESSION_HEADERS), description="The same for conversations.")
    time_zone: str | None = Field(
        None, description="Time zone of clients that send none, e.g. Europe/Berlin; null: UTC."
    )
    buckets: int | None = Field(
        None,
        ge=1,
        le=4_096,
        description="Number of buckets, the parts of a memory that have tables of their own; fixed when the memory is "
        "created: at most 256 in a folder; a power of two on S3; null: 16 in a folder, 64 on S3.",
    )
    embedder: EmbedderConfig = Field(EmbedderConfig(), description="What makes vectors.")
    recall: RecallConfig = Field(RecallConfig(), description="Reading memory.")
    remember: RememberConfig = Field(RememberConfig(), description="Writing memory.")
    retention: RetentionConfig = Field(RetentionConfig(), description="How long memories stay.")
    extraction: ExtractionConfig = Field(ExtractionConfig(), description="What a model is asked in the background.")
    documents: DocumentsConfig = Field(DocumentsConfig(), description="Files of knowledge bases.")

    @field_validator("uri")
    @classmethod
    def _check_uri(cls, uri: str) -> str:
        return check_uri(uri)

    @field_validator("database")
    @classmethod
    def _check_database(cls, database: SecretStr | None) -> SecretStr | None:
        if database is not None and not re.match(r"postgres(?:ql)?://\S+\Z", database.get_secret_value()):
            raise ValueError("a database is postgresql://user:password@host:port/name")
        return database

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        if is_object_storage(self.uri):
            if self.database is None:
                raise ValueError("uri is on S3, which needs a database beside it: set memory.database")
            if self.new_buckets & (self.new_buckets - 1):
                raise ValueError("buckets must be a power of two on S3, so that an id shows its bucket")
        elif self.database is not None:
            raise ValueError("database is for a memory on S3: set uri to s3://bucket/prefix, or leave it out")
        elif self.new_buckets > _MAX_FOLDER_BUCKETS:
            raise ValueError(f"buckets must be at most {_MAX_FOLDER_BUCKETS} in a folder, where all are open")
        return self

    @property
    def new_buckets(self) -> int:
        """The number of parts of a memory that is created now."""
        if self.buckets is not None:
            return self.buckets
        return _OBJECT_BUCKETS if self.is_cluster else _FOLDER_BUCKETS

    @property
    def is_cluster(self) -> bool:
        """True if several gateways may share the memory."""
        return is_object_storage(self.uri)

    @property
    def limits(self) -> StoreLimits:
        """How memories are written."""
        return self.store.limits(self.uri, self.remember.batch_window_ms / 1000)

    @field_validator("time_zone")
    @classmethod
    def _check_zone(cls, name: str | None) -> str | None:
        try:
            ZoneInfo(name or "UTC")
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{name} is no time zone of this system; write a name such as Europe/Berlin") from error
        return name

    @property
    def zone(self) -> tzinfo:
        """The time zone for clients that send none."""
        return UTC if self.time_zone is None else ZoneInfo(self.time_zone)
