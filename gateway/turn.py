"""The data types of a request: one `Turn`, filled stage by stage.

Everything here is frozen; a stage returns a new turn (`dataclasses.replace`). The request body is the one
exception to typed values: it stays a dict, so that unknown fields survive.
A `Scope` is made by `identity.py` only. Plugins find all values of a request here: those of memories come from
`gateway.memory`, those of bodies from `gateway.formats`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from gateway.config.rights import Right
from gateway.formats.base import Answer, Outcome, ParsedRequest, WireFormat
from gateway.memory.kinds import group_of
from gateway.memory.recalled import SCORE_PARTS, Block, Memory, MemoryStatus, Need, Recalled, RecallOptions
from gateway.memory.record import Details, Lineage, Origin, Record, Validity, derived_id, message_id

if TYPE_CHECKING:
    from gateway.tracing.otel import Trace

__all__ = [
    "SCORE_PARTS",
    "Answer",
    "Block",
    "Details",
    "Identity",
    "Lineage",
    "Memory",
    "MemoryMode",
    "MemoryStatus",
    "Need",
    "Origin",
    "Outcome",
    "ParsedRequest",
    "Principal",
    "RecallOptions",
    "Recalled",
    "Record",
    "Right",
    "Scope",
    "ScopeKind",
    "Turn",
    "Validity",
    "derived_id",
    "group_of",
    "message_id",
]


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


_AS_CONFIGURED, _NOT_RECALLED = RecallOptions(), Recalled(MemoryStatus.OFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One request with its answer. Stages fill it in order; `raw` are the bytes of the request body.

    `started` is on the clock of `time.perf_counter`, `received_at` in seconds since 1970; `plugins_reached` counts the
    plugins that saw it, -1 means all. `path` is that of the upstream, without `/v1`; `client_path` that of the client's
    request if it is another one. `user` is the id of the user, also if memory is off and there is no `identity`.
    `answer` is set for `on_error` if part of an answer was received. `trace` has its spans, if turns are
    traced.
    """

    id: str
    started: float
    received_at: float
    principal: Principal
    path: str
    headers: Mapping[str, str]
    raw: bytes
    body: Mapping[str, Any]
    ask: ParsedRequest
    wire_format: WireFormat
    query_string: str = ""
    client_path: str = ""
    mode: MemoryMode = MemoryMode.ON
    token_budget: int | None = None
    selectivity: float | None = None
    recall_options: RecallOptions = _AS_CONFIGURED
    identity: Identity | None = None
    user: str = ""
    answer: Answer | None = None
    recalled: Recalled = _NOT_RECALLED
    block: Block | None = None
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    agent_id: str = ""
    app_id: str = ""
    plugins_reached: int = -1
    trace: "Trace | None" = field(default=None, repr=False, compare=False)

    @property
    def status(self) -> MemoryStatus:
        """The status of memory that is reported to the client."""
        if self.recalled.status is MemoryStatus.HIT and (self.block is None or not self.block.ids):
            return MemoryStatus.MISS
        return self.recalled.status
