"""The data types of a request: one `Turn`, filled stage by stage, and the values that its stages add.

Everything here is frozen; a stage returns a new turn (`dataclasses.replace`). The request body is the one
exception to typed values: it stays a dict, so that unknown fields survive.
A `Scope` is made by `identity.py` only. This module imports nothing of the gateway but `gateway.formats.base`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.formats.base import Dialect, UserTurn

__all__ = [
    "SCORE_PARTS",
    "Answer",
    "Ask",
    "Block",
    "Identity",
    "Memory",
    "MemoryMode",
    "MemoryStatus",
    "Need",
    "Outcome",
    "Principal",
    "Recalled",
    "Record",
    "Right",
    "Scope",
    "ScopeKind",
    "Turn",
    "Wanted",
    "derived_id",
    "group_of",
    "message_id",
]


class Right(StrEnum):
    """A permission of a key: chat with models, use memory, change defaults at run time, access resources that upstreams
    keep for the whole account (files, batches, fine-tuning), and write memories that all users of the tenant can
    read."""

    CHAT = "chat"
    MEMORY = "memory"
    ADMIN = "admin"
    UPSTREAM_STATE = "upstream_state"
    PUBLIC = "public"


class MemoryMode(StrEnum):
    """Use of memory by a request (`x-memory-mode`): recall and remember, one of them, or neither."""

    ON = "on"
    READ = "read"
    WRITE = "write"
    OFF = "off"

    @property
    def reads(self) -> bool:
        return self in (MemoryMode.ON, MemoryMode.READ)

    @property
    def writes(self) -> bool:
        return self in (MemoryMode.ON, MemoryMode.WRITE)


class MemoryStatus(StrEnum):
    """Result of memory for a turn (`x-memory-status`)."""

    HIT = "hit"
    MISS = "miss"
    PARTIAL = "partial"
    DEGRADED = "degraded"
    AMBIGUOUS = "ambiguous"
    OFF = "off"


class Outcome(StrEnum):
    """The end state of a turn."""

    COMPLETE = "complete"
    CUT = "cut"
    CLIENT_GONE = "client_gone"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated owner of a key. `user` is set when the key is pinned to one user; `name` is the key's."""

    tenant: str
    rights: frozenset[Right]
    user: str | None = None
    name: str = ""


class ScopeKind(StrEnum):
    """The kind of a scope: a user's default cube, another of a user, an agent's, or one shared within the tenant."""

    USER = "user"
    CUBE = "cube"
    AGENT = "agent"
    KNOWLEDGE = "knowledgebase"
    PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class Scope:
    """An isolated set of memories. `value` is a sha256 in hex, 64 characters; the plain ids are for display.

    `owner` is the user of a USER or CUBE scope; the others belong to the whole tenant.
    """

    value: str
    tenant: str
    cube_id: str
    kind: ScopeKind = ScopeKind.USER
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and conversation of a turn, and the scopes that it reads and writes. `is_session_named`: the client
    named the conversation; otherwise its id is derived from its first messages."""

    user_id: str
    session_id: str
    reads: tuple[Scope, ...]
    writes: tuple[Scope, ...]
    is_session_named: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One memory as it is stored. Times are seconds since 1970 UTC; `id` is 32 hex characters, generated here.

    `kind`: turn, fact, preference, profile (who the user is), tool, skill, document. `source`: its author (user,
    assistant, document, tool). `message_id` and `part` identify the chunks of one long message: joined in order they
    are its text.
    `info` contains the gateway's own annotations. `metadata` belongs to the client: filters and faces read it, and the
    gateway interprets no name in it.
    `status`: activated, resolving, archived, deleted (a tombstone, without text). `version` grows with each change.
    """

    id: str
    scope: str
    cube_id: str
    user_id: str
    session_id: str
    kind: str
    source: str
    text: str
    event_time: float
    created_at: float
    updated_at: float
    message_id: str = ""
    part: int = 0
    agent_id: str = ""
    app_id: str = ""
    status: str = "activated"
    confidence: float = 1.0
    tags: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    version: int = 1
    info: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


_GROUPS = {"preference": "preference", "tool": "tool", "skill": "skill", "profile": "profile"}


def group_of(kind: str) -> str:
    """The search group of a record's kind: text, preference, tool or skill; or profile, which is not searched."""
    return _GROUPS.get(kind, "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Options of recall beyond the query: the number of memories of each group (`text` None: as configured).

    `min_relativity` is a hard relevance threshold (None: as configured; a number: memories are requested explicitly, so
    `selectivity` does not apply). `threshold` is a second one, from which the three best texts are exempt. `allows`
    maps scope values to filters. `is_fine`: a model re-ranks the result. `profile`: include standing preferences.
    `keeps_standing`: the threshold does not apply to standing preferences. `is_mixed`: preferences extracted by a model
    are among the texts. `is_archived`: search archived memories instead. `now` is the query time for relative dates
    such as "yesterday" (seconds since 1970; None: the turn's). `selectivity`: required certainty that a memory helps,
    0–1; 0: all that fit into the budget.
    """

    text: int | None = None
    preference: int = 0
    tool: int = 0
    skill: int = 0
    min_relativity: float | None = None
    threshold: float = 0.0
    is_fine: bool = False
    profile: bool = False
    is_mixed: bool = False
    keeps_standing: bool = False
    is_archived: bool = False
    now: float | None = None
    selectivity: float = 0.0
    allows: Mapping[str, Callable[[Record], bool]] = field(default_factory=dict)


SCORE_PARTS = ("words", "meaning", "stretch", "neighbours", "best of stretch", "own words", "length", "doubt", "date")
"""The components of a memory's score, in the order of `Memory.parts`."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A stored record as recall returns it. `relativity` is 0–1 (relevant from 0.45), `score` orders one recall.

    `tokens` is the size of its text in o200k_base tokens. `trust` is `stored`, or `plugin` for a memory that a plugin
    added. `parts` are the components of `score` (see SCORE_PARTS). `probability`: that it is part of the answer, 0–1;
    None if not estimated.
    """

    record: Record
    score: float
    relativity: float
    tokens: int
    trust: str = "stored"
    parts: tuple[float, ...] = ()
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """The probability that a request needs memory, 0–1; its components as additive log-odds by name; and the threshold
    below which no memory is injected."""

    probability: float
    parts: tuple[tuple[str, float], ...] = ()
    threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class Recalled:
    """The result of recall: memories, best first, and the status (`reason` is a short word for logs and metrics).

    `passed_over` are candidates that are not relevant enough. `profile` are the user's standing preferences, which
    apply to any query. `need`: the need of memory, if estimated.
    """

    status: MemoryStatus
    memories: tuple[Memory, ...] = ()
    reason: str = ""
    passed_over: tuple[Memory, ...] = ()
    profile: tuple[Memory, ...] = ()
    need: Need | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """The text that goes into the prompt, the memories in it, and its size in tokens of the model's encoding. For a
    text that is injected again only the ids of its memories are known (`kept_ids`). The first `standing` memories are
    standing preferences; a block of these alone would have `standing_tokens`."""

    text: str
    memories: tuple[Memory, ...]
    tokens: int
    kept_ids: tuple[str, ...] = ()
    standing: int = 0
    standing_tokens: int = 0

    @property
    def ids(self) -> tuple[str, ...]:
        return self.kept_ids or tuple(memory.record.id for memory in self.memories)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request body as parsed by a dialect.

    `messages` are the user's messages of this turn: all since the last answer; `query` is the same as one text,
    `context` the message before them with the beginning of its answer. `opening` is the first user message of the
    conversation, and `first_answer` the answer to it, empty if there is none yet; together they identify conversations
    without an id.
    `is_step` marks a step of a tool loop, with results of tools and no new message; `is_repeated` another request
    without a new message, such as one that continues an answer; `is_task` a request that a program makes for itself
    (titles and the like); `is_unsaid` a turn in which only a program wrote. `user_hint` and `session_hint` are the ids
    in the body. `upstream` is set if only one upstream can answer, since it stores the conversation. `place` is the
    position for a block that is inserted into a message.
    """

    model: str
    stream: bool
    messages: tuple[str, ...] = ()
    query: str = ""
    context: str = ""
    opening: str = ""
    first_answer: str = ""
    is_step: bool = False
    is_repeated: bool = False
    is_task: bool = False
    is_unsaid: bool = False
    user_hint: str | None = None
    session_hint: str | None = None
    max_tokens: int = 0
    upstream: str = ""
    place: UserTurn | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a model. `text` is choice 0 without reasoning; None when it only called tools. `id` is the
    upstream's id. `cached_tokens` (read from a cache) and `written_tokens` (into one) are part of `prompt_tokens`.
    `body` are the bytes of a plain answer, and of a stream if a plugin asks for them.

    For a stream without reported usage, `size` is the number of characters of all choices, with reasoning and
    arguments of tools; `events` the number of events, if the stream was not parsed. `is_reply`: made by a plugin, not a
    model. Before observers get it, tokens that no upstream reported are counted (`estimated_tokens`), and `cost` is set
    to its price in US dollars, None if unknown.
    """

    text: str | None
    finish_reason: str | None = None
    reasoning: str | None = None
    has_tool_calls: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    outcome: Outcome = Outcome.COMPLETE
    cached_tokens: int | None = None
    id: str | None = None
    body: bytes | None = None
    events: int = 0
    size: int = 0
    written_tokens: int | None = None
    is_reply: bool = False
    estimated_tokens: int = 0
    cost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One request with its answer. Stages fill it in order; `raw` are the bytes of the request body.

    `started` is on the clock of `time.perf_counter`, `received_at` in seconds since 1970; `plugins_reached` counts the
    plugins that saw it, -1 means all. `user` is the id of the user, also if memory is off and there is no `identity`.
    `answer` is set for `on_error` if part of an answer was received.
    """

    id: str
    started: float
    received_at: float
    principal: Principal
    path: str
    headers: Mapping[str, str]
    raw: bytes
    body: Mapping[str, Any]
    ask: Ask
    dialect: Dialect
    query_string: str = ""
    mode: MemoryMode = MemoryMode.ON
    token_budget: int | None = None
    selectivity: float | None = None
    wanted: Wanted = Wanted()
    identity: Identity | None = None
    user: str = ""
    answer: Answer | None = None
    recalled: Recalled = Recalled(MemoryStatus.OFF)
    block: Block | None = None
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    agent_id: str = ""
    app_id: str = ""
    plugins_reached: int = -1

    @property
    def status(self) -> MemoryStatus:
        """The status of memory that is reported to the client."""
        if self.recalled.status is MemoryStatus.HIT and (self.block is None or not self.block.ids):
            return MemoryStatus.MISS
        return self.recalled.status


def message_id(text: str) -> str:
    """The id of a message, derived from its text: 32 hex characters."""
    return derived_id(text)


def derived_id(*parts: str) -> str:
    """An id derived from other ids: equal parts give the same id. 32 hex characters."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
