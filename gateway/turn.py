"""The values that travel: one `Turn`, filled stage by stage, and what its stages put into it.

Everything here is frozen; a stage returns a new turn (`dataclasses.replace`). The request body is the one
exception to typed values: it stays a dict, so that fields that nobody here knows survive.
A `Scope` is made by `identity.py` only. This module imports nothing of the gateway but what a dialect is.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.dialect import Dialect, UserTurn

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
    """What a key may do: talk to models, use memory, change defaults at run time, reach what upstreams keep for the
    whole account (files, batches, fine-tuning), and write what all users of the tenant can read."""

    CHAT = "chat"
    MEMORY = "memory"
    ADMIN = "admin"
    UPSTREAM_STATE = "upstream_state"
    PUBLIC = "public"


class MemoryMode(StrEnum):
    """What a request asks of memory (`x-memory-mode`): recall and remember, one of them, or neither."""

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
    """What memory did for a turn (`x-memory-status`)."""

    HIT = "hit"
    MISS = "miss"
    PARTIAL = "partial"
    DEGRADED = "degraded"
    AMBIGUOUS = "ambiguous"
    OFF = "off"


class Outcome(StrEnum):
    """How a turn ended."""

    COMPLETE = "complete"
    CUT = "cut"
    CLIENT_GONE = "client_gone"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who holds the key of a request. `user` is set when the key is pinned to one user; `name` is the key's."""

    tenant: str
    rights: frozenset[Right]
    user: str | None = None
    name: str = ""


class ScopeKind(StrEnum):
    """What kind of cube a scope is: a user's own, one more of a user, an agent's, one shared within the tenant."""

    USER = "user"
    CUBE = "cube"
    AGENT = "agent"
    KNOWLEDGE = "knowledgebase"
    PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose memory: `value` is a sha256 in hex, 64 characters; the plain ids are for display.

    `owner` is the user of a USER or CUBE scope; the others belong to the whole tenant.
    """

    value: str
    tenant: str
    cube_id: str
    kind: ScopeKind = ScopeKind.USER
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who speaks, in which conversation, and whose memories are read and written. `is_session_named`: the client
    named the conversation; otherwise its name follows from how it began."""

    user_id: str
    session_id: str
    reads: tuple[Scope, ...]
    writes: tuple[Scope, ...]
    is_session_named: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One memory as it is stored. Times are seconds since 1970 UTC; `id` is 32 hex characters, made by us.

    `kind`: turn, fact, preference, profile (who the user is), tool, skill, document. `source`: who said it (user,
    assistant, document, tool). `message_id` and `part` tell the pieces of one long message apart: joined in order they
    are its text.
    `info` holds what the gateway itself notes of a memory. `metadata` is the client's alone: filters and faces read it,
    and no name in it means anything to the gateway.
    `status`: activated, resolving, archived, deleted (its text is gone then). `version` grows with each change.
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
    """The group of a record's kind that is searched together: text, preference, tool or skill; and profile, which is
    not searched."""
    return _GROUPS.get(kind, "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a turn wants of recall beyond its query: how many memories of each group (`text` None: as configured).

    `min_relativity` is a hard floor (None: as configured; a number: memories are asked for, so that `selectivity` does
    not apply). `threshold` is a second floor that the three
    best texts pass anyway. `allows` holds a filter by scope value. `profile`: with the wishes that always hold.
    `keeps_standing`: the floor does not cut preferences that always hold. `is_mixed`: preferences that a model learnt
    are among the texts. `is_archived`: what was archived, instead. `now` is the moment from which "yesterday" is a day
    away (seconds since 1970; None: the turn's). `selectivity`: how sure it must be that a memory
    helps, 0–1; 0: whatever fits is wanted.
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
"""What a memory's score is made of, in the order of `Memory.parts`."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A stored record as recall returns it. `relativity` is 0–1 (relevant from 0.45), `score` orders one recall.

    `tokens` is the price of its text in o200k_base tokens. `trust` is `stored`, or `plugin` for what a plugin added.
    `parts` are what `score` is made of (see SCORE_PARTS). `probability`: that it is part of the answer, 0–1; None where
    that was not estimated.
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
    """How likely a request needs memory, 0–1; what that is made of: log-odds by name, which add up; and the probability
    below which nothing is injected."""

    probability: float
    parts: tuple[tuple[str, float], ...] = ()
    threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class Recalled:
    """What recall found, best first, and how it went (`reason` is a short word for logs and metrics).

    `passed_over` was found, and is not relevant enough. `profile` are the user's wishes that hold whatever is asked.
    `need`: of memory, where it was estimated.
    """

    status: MemoryStatus
    memories: tuple[Memory, ...] = ()
    reason: str = ""
    passed_over: tuple[Memory, ...] = ()
    profile: tuple[Memory, ...] = ()
    need: Need | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """The text that goes into the prompt, the memories in it, and its size in tokens of the model's encoding. Of a text
    that is injected again only the ids of its memories are known (`kept_ids`). The first `standing` memories hold
    whatever is asked; a block of these alone would have `standing_tokens`."""

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
    """What a dialect read out of a request body.

    `messages` are the user's words of this turn, message by message: all since the last answer; `query` is the same in
    one text, `context` the message before them with the beginning of its answer. `opening` is the first message of the
    conversation in which the user said something, and `first_answer` what was answered to it, empty where there is none
    yet; together they tell conversations apart that have no name.
    `is_step` marks a step of a tool loop, which brings results of tools and no new message; `is_repeated` a request
    that brings none either, such as one that continues an answer; `is_task` a request of a program on its own account
    (titles and the like); `is_unsaid` a turn in which only a program wrote. `user_hint` and `session_hint` are the
    body's own names for them. `upstream` is set where only one upstream can answer, since it holds what was said
    before. `place` is where the block goes that is put into a message.
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
    """What the model said. `text` is choice 0 without reasoning; None when it only called tools. `id` is the
    upstream's name of it. `cached_tokens` (read from a cache) and `written_tokens` (into one) are part of
    `prompt_tokens`. `body` are the bytes of a plain answer, and of a stream where a plugin asks for them.

    Of a stream that reported no usage, `size` is how many characters were said, of all choices, with thoughts and
    arguments of tools; `events` how many events there were, where it was not read. `is_reply`: a plugin made it, no
    model. When an observer sees it, tokens that no upstream reported are counted here (`estimated_tokens`), and `cost`
    is what is paid for it in US dollars, None where no price is known.
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
    """One request with its answer. Stages fill it from left to right; `raw` are the bytes that came.

    `started` is on the clock of `time.perf_counter`, `received_at` in seconds since 1970; `plugins_reached` counts the
    plugins that saw it, -1 means all. `user` is who asks, also where memory is off and there is no `identity`.
    `answer` is set for `on_error` where part of an answer had come.
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
        """What memory did, as the client is told."""
        if self.recalled.status is MemoryStatus.HIT and (self.block is None or not self.block.ids):
            return MemoryStatus.MISS
        return self.recalled.status


def message_id(text: str) -> str:
    """The id of a message by what it says: 32 hex characters."""
    return derived_id(text)


def derived_id(*parts: str) -> str:
    """An id that follows from others: the same parts give the same one. 32 hex characters."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
