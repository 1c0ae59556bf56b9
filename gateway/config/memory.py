"""Configuration sections of the memory."""

import os
from datetime import UTC, tzinfo
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, StringConstraints, field_validator

from gateway.config.secrets import OptionalKey
from gateway.config.sections import Id, Positive, Section

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
_Kind = Literal["turn", "fact", "preference", "profile", "tool", "skill", "document"]


class EmbedderConfig(Section):
    kind: Literal["local", "openai"] = Field("local", description="`local`: embedded, offline. `openai`: a server.")
    base_url: str = Field("https://api.openai.com/v1", description="Only `openai`: where `/embeddings` is.")
    api_key: OptionalKey = Field(None, description="Only `openai`: its key.")
    model: str = Field("text-embedding-3-small", description="Only `openai`: the model.")
    dimensions: int = Field(512, gt=0, le=8192, description="Only `openai`: length of its vectors.")
    timeout: Positive = Field(10.0, description="Only `openai`: seconds for one batch of documents.")
    batch_size: int = Field(64, gt=0, le=2048, description="Only `openai`: texts in one request.")


class RecallConfig(Section):
    token_budget: int = Field(1024, ge=0, description="Tokens that the injected block may have, fence included.")
    profile_budget: int = Field(
        256, ge=0, description="Of these, tokens for wishes that always hold, a quarter at most; 0: none."
    )
    top_k: int = Field(
        100, ge=1, le=1000, description="Memories that one turn may get; the budget is what usually limits."
    )
    deadline_ms: int = Field(150, ge=1, description="After that a request goes on without memory.")
    cold_deadline_ms: int = Field(400, ge=1, description="The same for a user whose memories are not in RAM yet.")
    start_wait: float = Field(
        3.0, ge=0, description="Seconds that a chat waits for the memory to be loaded after a start; 0: it does not."
    )
    placement: Literal["tail", "sticky", "system"] = Field(
        "tail", description="Last user message; `sticky`: earlier ones keep their blocks; or the system prompt."
    )
    min_relativity: float = Field(0.0, ge=0, le=1, description="Relevance floor of each memory injected; 0: none.")
    selectivity: float = Field(
        0.5,
        ge=0,
        le=1,
        description="How sure it must be that a memory helps; 0: the best that fit into the budget are injected.",
    )
    explain_turns: int = Field(100, ge=0, le=10_000, description="Latest turns whose recall can be explained; in RAM.")
    working_set_rows: int = Field(
        200_000, ge=1000, description="Memories of one scope held in RAM; a larger one is searched in LanceDB."
    )
    working_set_mb: int = Field(512, ge=16, description="MiB for all working sets; the least used leaves first.")


class RememberConfig(Section):
    partial_answers: bool = Field(False, description="Also keep answers that were cut, marked as such.")
    preferences: bool = Field(True, description="Recognise explicit preferences by patterns, without a model.")
    max_message_bytes: int = Field(65_536, ge=1024, description="Longer messages are stored cut.")
    batch_window_ms: int = Field(40, ge=0, le=1000, description="How long the writer gathers a batch.")
    max_backlog_mb: int = Field(1024, ge=1, description="Journal size at which new memories are shed (never chats).")


class RetentionConfig(Section):
    max_age_days: dict[_Kind | Literal["task"], Positive] = Field(
        {},
        description="Days that memories of a kind stay, e.g. `{turn: 365}`; others stay for good. `task`: "
        "messages that only hand over a task, and generic answers; so goes "
        "what 'the regex you gave me' asks for.",
    )
    max_per_cube: int | None = Field(None, ge=100, description="Memories of one cube; the oldest go. null: no limit.")
    purge_after_hours: Positive = Field(
        24.0, description="Hours after which what was deleted is gone from the files too."
    )
    every_minutes: Positive = Field(60.0, description="How often that is looked after.")


class ExtractionConfig(Section):
    model: str | None = Field(
        None, description="Model that learns from conversations in the background; null: none does."
    )
    timeout: Positive = Field(20.0, description="Seconds that a question to it may take.")
    tools: bool = Field(True, description="Also keep what calls of tools gave, and learn from it.")
    idle: Positive = Field(60.0, description="Seconds without a word after which a conversation is learnt from.")
    window_tokens: int = Field(1500, ge=100, le=100_000, description="Or at once when it has so much that is new.")
    max_tokens_per_day: int = Field(
        200_000, ge=0, description="Tokens that learning from one user may take a day; 0: no limit."
    )
    max_cost_per_day: Positive | None = Field(None, description="The same in US dollars, where prices are known.")

    @property
    def learner(self) -> str | None:
        """The model for extraction: as configured, else the environment variable of MemOS' own server."""
        return self.model or os.environ.get("MEMRADER_MODEL") or None


class DocumentsConfig(Section):
    allow_urls: bool = Field(False, description="May the contents of files be named by a public web address?")
    max_mb: int = Field(100, ge=1, le=1024, description="MiB of one file; a request is bounded by `limits.body_mb`.")


class MemoryConfig(Section):
    enabled: bool = Field(True, description="false: a plain proxy.")
    uri: str = Field("./data", min_length=1, description="Folder of the memory.")
    default_user: Id | None = Field(None, description="The user of requests that name none; null: no memory then.")
    user_headers: list[HeaderName] = Field(
        ["x-openwebui-user-id"],
        description="Headers by which front ends name the user; the first that is there counts.",
    )
    session_headers: list[HeaderName] = Field(list(_SESSION_HEADERS), description="The same for conversations.")
    time_zone: str | None = Field(
        None, description="Zone of the days of clients that send none, e.g. Europe/Berlin; null: UTC."
    )
    buckets: int = Field(
        16, ge=1, le=256, description="Tables the memory is split into; fixed when the folder is made."
    )
    embedder: EmbedderConfig = Field(EmbedderConfig(), description="What makes vectors.")
    recall: RecallConfig = Field(RecallConfig(), description="Reading memory.")
    remember: RememberConfig = Field(RememberConfig(), description="Writing memory.")
    retention: RetentionConfig = Field(RetentionConfig(), description="How long memories stay.")
    extraction: ExtractionConfig = Field(ExtractionConfig(), description="What a model is asked in the background.")
    documents: DocumentsConfig = Field(DocumentsConfig(), description="Files of knowledge bases.")

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
