"""The result of recall: memories with their scores, and the block that is made of them. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.memory.record import Record

__all__ = ["SCORE_PARTS", "Block", "Memory", "MemoryStatus", "Need", "RecallOptions", "Recalled"]


class MemoryStatus(StrEnum):
    """Result of memory for a turn (`x-memory-status`)."""

    HIT = "hit"
    MISS = "miss"
    PARTIAL = "partial"
    DEGRADED = "degraded"
    AMBIGUOUS = "ambiguous"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallOptions:
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

    `passed_over` are candidates that are not relevant enough, built on first access. `profile` are the user's standing
    preferences, which apply to any query. `need`: the need of memory, if estimated.
    """

    status: MemoryStatus
    memories: tuple[Memory, ...] = ()
    reason: str = ""
    passed_over: Sequence[Memory] = ()
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
