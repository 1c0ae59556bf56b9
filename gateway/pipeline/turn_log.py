"""The latest turns in RAM: who asked which model, what memory and the upstream did, tokens, times and cost.

Entries are small and refer to no body. They are serialised when somebody reads them.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import Any, Final

import orjson

from gateway.errors import GatewayError
from gateway.formats.base import Answer
from gateway.pipeline.turn_end import TurnEnd
from gateway.pipeline.turn_feed import TurnFeed
from gateway.prompt.assemble import when
from gateway.turn import Turn

__all__ = ["DIMENSIONS", "TurnEntry", "TurnFilter", "TurnLog", "serialize_page", "serialize_turn"]

DIMENSIONS: Final = ("user", "model", "memory", "upstream")
"""The fields of a turn that can be filtered by a value, and are counted."""
_MAX_NAME = 200  # characters of a name that a client chooses
_MAX_QUERY = 300  # characters
_MAX_READ = 16_384  # bytes of a body whose messages are read for their query alone
_NO_LIMIT = 2**63  # above all numbers
_MAX_COUNTED = 50  # values of a dimension


@dataclass(slots=True, kw_only=True)
class TurnEntry:
    """A turn as it is listed. Never changed once it is in a log; not frozen, since that triples the time to make one.
    `number` increases by one from entry to entry."""

    number: int
    id: str
    at: float
    tenant: str
    user: str | None
    session: str | None
    key: str
    path: str
    model: str
    upstream: str
    upstream_model: str
    status: int
    outcome: str
    memory: str
    reason: str
    memories: int
    block_tokens: int
    standing_tokens: int
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    is_estimated: bool
    duration: float
    overhead: float | None
    first_byte: float | None
    cost: float | None
    error: str | None
    is_stream: bool
    query: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFilter:
    """The turns that a caller asks for. `tenant` and `owner`, a user, limit what the caller may see (None: no limit).
    `text` in lower case: is part of an id, a name, an error or a query."""

    tenant: str | None = None
    owner: str | None = None
    user: str | None = None
    model: str | None = None
    memory: str | None = None
    upstream: str | None = None
    text: str = ""
    _values: tuple[tuple[str, str], ...] = field(default=(), init=False, compare=False)

    def __post_init__(self) -> None:
        values = ((name, getattr(self, name)) for name in DIMENSIONS)
        object.__setattr__(self, "_values", tuple((name, value) for name, value in values if value is not None))

    def takes(self, entry: TurnEntry) -> bool:
        """True if all conditions hold."""
        return self.allows(entry) and not self.mismatches(entry)

    def allows(self, entry: TurnEntry) -> bool:
        """True if the caller may see the turn, and it has the text."""
        if self.tenant not in (None, entry.tenant) or self.owner not in (None, entry.user):
            return False
        return not self.text or self.text in _searched_text(entry)

    def mismatches(self, entry: TurnEntry) -> Sequence[str]:
        """The dimensions whose condition does not hold."""
        return [name for name, value in self._values if value != getattr(entry, name)]


class TurnLog:
    """The latest `limit` turns. `with_content`: entries contain the beginning of the user's words."""

    def __init__(self, limit: int, feed: TurnFeed[TurnEntry], *, with_content: bool) -> None:
        self.feed = feed
        self.with_content = with_content
        self._entries: deque[TurnEntry] = deque(maxlen=limit)
        # numbers go on increasing after a restart, so that a client can ask for those that it has not seen
        self._latest = int(time.time() * 1000)

    @property
    def limit(self) -> int:
        """How many turns are kept."""
        return self._entries.maxlen or 0

    @property
    def is_on(self) -> bool:
        """True if turns are recorded."""
        return self._entries.maxlen != 0

    @property
    def latest(self) -> int:
        """The number of the latest turn."""
        return self._latest

    def entries(self) -> list[TurnEntry]:
        """All turns, oldest first."""
        return list(self._entries)

    def add(self, turn: Turn, answer: Answer, end: TurnEnd) -> None:
        """Record a turn that has ended."""
        if self._entries.maxlen:
            self.append(self.entry_of(turn, answer, end))

    def append(self, entry: TurnEntry) -> None:
        """Record an entry, and give it the next number."""
        self._latest = entry.number = self._latest + 1
        self._entries.append(entry)
        self.feed.note(entry)

    def entry_of(self, turn: Turn, answer: Answer, end: TurnEnd) -> TurnEntry:
        """The entry of a turn, without a number."""
        identity, block = turn.identity, turn.block
        return TurnEntry(
            number=0,
            id=turn.id,
            at=turn.received_at,
            tenant=turn.principal.tenant,
            user=turn.user or (None if identity is None else identity.user_id),
            session=None if identity is None else identity.session_id,
            key=turn.principal.name,
            path=(turn.client_path or f"/v1{turn.path}")[:_MAX_NAME],
            model=turn.ask.model[:_MAX_NAME],
            upstream=end.upstream,
            upstream_model=end.model[:_MAX_NAME],
            status=end.status,
            outcome=answer.outcome.value,
            memory=turn.status.value,
            reason=turn.recalled.reason,
            memories=0 if block is None else len(block.ids),
            block_tokens=0 if block is None else block.tokens,
            standing_tokens=0 if block is None else block.standing_tokens,
            prompt_tokens=answer.prompt_tokens,
            cached_tokens=answer.cached_tokens,
            completion_tokens=answer.completion_tokens,
            is_estimated=answer.estimated_tokens > 0,
            duration=end.ended - turn.started,
            overhead=end.overhead,
            first_byte=end.first_byte,
            cost=answer.cost,
            error=None if end.error is None else _name_of(end.error),
            is_stream=turn.ask.stream,
            query=_query_of(turn) if self.with_content else None,
        )

    def forget(self, tenant: str | None, user: str | None, session: str | None) -> None:
        """Drop the turns of a tenant, a user and a session (None: of any)."""

        def is_kept(entry: TurnEntry) -> bool:
            return (
                tenant not in (None, entry.tenant)
                or user not in (None, entry.user)
                or session not in (None, entry.session)
            )

        self._entries = deque(filter(is_kept, self._entries), self._entries.maxlen)
        self.feed.keep_only(is_kept)


def serialize_turn(entry: TurnEntry) -> dict[str, Any]:
    """A turn as JSON. The user's words are in it only where content is recorded."""
    fields = {
        "seq": entry.number,
        "id": entry.id,
        "at": when(entry.at).isoformat(timespec="microseconds"),
        "tenant": entry.tenant,
        "user": entry.user,
        "session": entry.session,
        "key": entry.key,
        "path": entry.path,
        "model": entry.model,
        "upstream": entry.upstream,
        "upstream_model": entry.upstream_model,
        "status": entry.status,
        "outcome": entry.outcome,
        "memory": entry.memory,
        "reason": entry.reason,
        "memories": entry.memories,
        "block_tokens": entry.block_tokens,
        "standing_tokens": entry.standing_tokens,
        "prompt_tokens": entry.prompt_tokens,
        "cached_tokens": entry.cached_tokens,
        "completion_tokens": entry.completion_tokens,
        "is_estimated": entry.is_estimated,
        "ms": _milliseconds(entry.duration),
        "overhead_ms": _milliseconds(entry.overhead),
        "first_byte_ms": _milliseconds(entry.first_byte),
        "cost": entry.cost,
        "error": entry.error,
        "is_stream": entry.is_stream,
    }
    return fields if entry.query is None else {**fields, "query": entry.query}


def serialize_page(
    entries: Sequence[TurnEntry], conditions: TurnFilter, *, limit: int, before: int | None, after: int
) -> bytes:
    """The newest of these turns, the newest first, as a JSON document. `before` and `after` are numbers of turns. The
    counts of a dimension are of all turns that the conditions on the others allow. Takes some milliseconds."""
    matching: list[TurnEntry] = []
    nearly: dict[str, list[TurnEntry]] = {name: [] for name in DIMENSIONS}  # without one of the conditions
    for entry in entries:
        if not conditions.allows(entry):
            continue
        mismatches = conditions.mismatches(entry)
        if not mismatches:
            matching.append(entry)
        elif len(mismatches) == 1:
            nearly[mismatches[0]].append(entry)
    last = _NO_LIMIT if before is None else before
    on_page = (entry for entry in reversed(matching) if entry.number > after and entry.number < last)
    page = list(islice(on_page, limit + 1))
    body = {
        "object": "list",
        "data": [*map(serialize_turn, page[:limit])],
        "has_more": len(page) > limit,
        "latest": entries[-1].number if entries else 0,
        "counts": {name: _counts(name, matching + others) for name, others in nearly.items()},
    }
    return orjson.dumps(body)


def _counts(name: str, entries: Iterable[TurnEntry]) -> dict[str, int]:
    """The most frequent values of a dimension, with their numbers; without turns that have none."""
    counter = Counter(map(attrgetter(name), entries))
    return dict([item for item in counter.most_common(_MAX_COUNTED + 1) if item[0]][:_MAX_COUNTED])


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)


def _searched_text(entry: TurnEntry) -> str:
    parts = (entry.id, entry.user, entry.session, entry.model, entry.upstream, entry.path, entry.error, entry.query)
    return "\n".join(part for part in parts if part).lower()


def _name_of(error: BaseException) -> str:
    """The type and code of an error, without its message."""
    if not isinstance(error, GatewayError):
        return GatewayError.type
    return error.type if error.code in (None, error.type) else f"{error.type}/{error.code}"


def _query_of(turn: Turn) -> str:
    """The beginning of the user's words; empty for a long request that nobody has read, since memory is off."""
    if turn.identity is None and len(turn.raw) > _MAX_READ:
        return ""
    return turn.ask.query[:_MAX_QUERY]
