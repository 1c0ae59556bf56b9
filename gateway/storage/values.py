"""Values that the storage takes and returns, beside memories themselves: see `gateway.storage.protocols`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.memory.record import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "DELETING",
    "DIMENSIONS",
    "MOST",
    "NO_MEMORIES",
    "PROFILE",
    "SETTINGS",
    "BucketBacklog",
    "Claim",
    "DueConversation",
    "GivenVector",
    "Held",
    "JournalEntry",
    "KeptBlock",
    "KnowledgeFile",
    "Owner",
    "PendingMessage",
    "RegistryItem",
    "ScopeSize",
    "Task",
    "UsageRow",
]

PROFILE, SETTINGS = "profile", "settings"  # kinds of items
DELETING = "deleting"  # status of a file whose memories are being deleted

MOST = 10_000
"""Maximum number of rows in the result of one query of the usage; the largest sums come first."""

DIMENSIONS = ("hour", "key", "user", "model", "upstream")
"""Dimensions that usage can be grouped and filtered by."""


Held = Mapping[int, int]
"""The buckets that a process owns now, each with the epoch of its lease. The epoch grows with each change of owner."""


@dataclass(frozen=True, slots=True)
class BucketBacklog:
    """The entries of a bucket that wait to be stored: their number, and that of the oldest one. `is_inherited`: an
    earlier owner of the bucket has left some."""

    count: int
    oldest: int
    is_inherited: bool


@dataclass(frozen=True, slots=True)
class ScopeSize:
    """The number of valid memories in a scope, and when one was last changed (seconds since 1970; 0: never)."""

    count: int
    updated_at: float


NO_MEMORIES = ScopeSize(0, 0.0)


@dataclass(frozen=True, slots=True)
class GivenVector:
    """A vector that comes with a record, so that its text need not be embedded: of length 1, by this embedder."""

    embedder: str
    vector: "NDArray[np.float32]"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A record in the journal. `seq` grows with each entry; `is_replay` if the table may have this version of it, or a
    newer one. `vector`: one that came with the record."""

    seq: int
    record: Record
    size: int
    is_replay: bool
    vector: GivenVector | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A turn's claim to a message, so that a client's retry in another process does not store it again: it excludes
    other turns' claims with this fingerprint whose time differs by less than `seconds`. `scope`: of the message."""

    fingerprint: bytes
    turn: str
    at: float
    seconds: float
    scope: str


@dataclass(frozen=True, slots=True)
class RegistryItem:
    """A knowledge base, a profile, or a group of settings."""

    id: str
    at: float
    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeFile:
    """A file of a knowledge base. `status`: running, completed, failed; `kind`: document or skill."""

    id: str
    cube_id: str
    name: str
    size: int
    kind: str
    status: str
    error: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A background task. One with a `seq` is done when the journal is drained up to that number."""

    id: str
    user: str
    cube_id: str
    status: str
    seq: int = 0
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class KeptBlock:
    """An injected text, its length in tokens, and the ids of its memories with the version of each."""

    text: str
    tokens: int
    memories: dict[str, int]


@dataclass(frozen=True, slots=True)
class PendingMessage:
    """A message that waits for extraction; `seq` is its journal number."""

    seq: int
    scope: str
    session: str
    id: str
    tokens: int


@dataclass(frozen=True, slots=True)
class DueConversation:
    """A conversation that is due for extraction. `before`: ids of its last processed messages, joined by spaces."""

    scope: str
    session: str
    tries: int
    before: str


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a response (`user` None: no particular user), the upstream that stores it, and its session."""

    tenant: str
    user: str | None
    upstream: str
    session: str | None


@dataclass(slots=True)
class UsageRow:
    """Usage counts of some requests. `cached_tokens` are part of `prompt_tokens`; `estimated_tokens` are those that no
    upstream reported, and part of the other two. `cost`: US dollars of those requests that have a price (`priced`)."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    estimated_tokens: int = 0
    cost: float = 0.0
    priced: int = 0

    def __iadd__(self, other: "UsageRow") -> "UsageRow":
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.cached_tokens += other.cached_tokens
        self.completion_tokens += other.completion_tokens
        self.estimated_tokens += other.estimated_tokens
        self.cost += other.cost
        self.priced += other.priced
        return self
