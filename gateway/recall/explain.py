"""Why a turn got the memories that it got: kept for the latest turns, told on request.

This is what turns "it forgot" into something that a person can mend: what was searched for, every candidate with the
parts of its score, and what became of it. Kept in RAM only; forgotten as soon as any memory is deleted or changed.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from gateway.recall.assemble import NO_BLOCK, when
from gateway.store.lineage import LEARNT
from gateway.turn import SCORE_PARTS, Block, Memory, MemoryStatus, Principal, Recalled, Turn

__all__ = ["Explanations"]

_SHORTEST_ID = 6  # characters of a prefix
_SHOWN = 2000  # characters of a query or a memory


@dataclass(frozen=True, slots=True, kw_only=True)
class _Explained:
    turn_id: str
    tenant: str
    user_id: str
    session_id: str
    at: float
    query: str
    found: Recalled
    offered: tuple[Memory, ...]
    block: Block
    budget: int
    most: int
    said: frozenset[str]
    is_withheld: bool = False


class Explanations:
    """Of the latest `limit` turns that recalled something."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, _Explained] = OrderedDict()

    def keep(self, turn: Turn, found: Recalled, *, budget: int, most: int, said: frozenset[str]) -> None:
        """Remember how a turn's block came about. `found`: before plugins; `turn.recalled` and `.block`: after."""
        if not self._limit or turn.identity is None or turn.block is None:
            return
        self._kept[turn.id] = _Explained(
            turn_id=turn.id,
            tenant=turn.principal.tenant,
            user_id=turn.identity.user_id,
            session_id=turn.identity.session_id,
            at=turn.received_at,
            query=turn.ask.query[:_SHOWN],
            found=found,
            offered=turn.recalled.memories,
            block=turn.block,
            budget=budget,
            most=most,
            said=said,
        )
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def withhold(self, turn_id: str) -> None:
        """A turn was answered without its block after all: the prompt was too long with it."""
        explained = self._kept.get(turn_id)
        if explained is not None:
            self._kept[turn_id] = replace(explained, is_withheld=True)

    def forget(self, scopes: Collection[str]) -> None:
        """Memories of these scopes were changed or deleted."""
        self._kept.clear()

    def find(self, turn_id: str, principal: Principal) -> dict[str, Any] | None:
        """The explanation of a turn, as JSON; None if it is not kept, or not this key's to see."""
        kept = self._kept.get(turn_id) or self._beginning(turn_id)
        if kept is None or kept.tenant != principal.tenant or principal.user not in (None, kept.user_id):
            return None
        block = NO_BLOCK if kept.is_withheld else kept.block
        return {
            "request_id": kept.turn_id,
            "user_id": kept.user_id,
            "session_id": kept.session_id,
            "at": _iso(kept.at),
            "query": kept.query,
            "status": (MemoryStatus.DEGRADED if kept.is_withheld else kept.found.status).value,
            "reason": "context" if kept.is_withheld else kept.found.reason,
            "token_budget": kept.budget,
            "injected": {
                "count": len(block.memories),
                "tokens": block.tokens,
                "standing_count": block.standing,
                "standing_tokens": block.standing_tokens,
                "text": block.text,
            },
            "need": _need(kept.found),
            "standing_wishes": [memory.record.text[:_SHOWN] for memory in kept.found.profile],
            "candidates": [_candidate(memory, outcome) for memory, outcome in _outcomes(kept)],
        }

    def _beginning(self, prefix: str) -> _Explained | None:
        """The turn whose id begins so, if there is one only."""
        found = [one for id_, one in self._kept.items() if len(prefix) >= _SHORTEST_ID and id_.startswith(prefix)]
        return found[0] if len(found) == 1 else None


def _outcomes(kept: _Explained) -> Iterator[tuple[Memory, str]]:
    injected = {memory.record.id for memory in kept.block.memories}
    texts = {memory.record.text for memory in kept.block.memories}
    said = injected | {link for one in kept.block.memories if LEARNT in one.record.info for link in one.record.links}
    offered = {memory.record.id for memory in kept.offered}
    known = {memory.record.id for memory in (*kept.found.memories, *kept.found.passed_over)}
    added = [memory for memory in kept.offered if memory.record.id not in known]
    for memory in (*kept.found.memories, *added):
        record = memory.record
        if record.id in injected:
            yield memory, "too long for the model" if kept.is_withheld else "injected"
        elif record.id not in offered:
            yield memory, "left out by a plugin"
        elif record.message_id in kept.said:
            yield memory, "in the prompt anyway"
        elif record.text in texts:
            yield memory, "the same as another"
        elif said.issuperset(record.links if LEARNT in record.info else [record.id]):
            yield memory, "said there anyway"
        elif len(injected) >= kept.most:
            yield memory, "over recall.top_k"
        else:
            yield memory, "over the token budget"
    outcome = "request needs no memory" if kept.found.reason == "not_needed" else "not relevant enough"
    for memory in kept.found.passed_over:
        yield memory, outcome


def _candidate(memory: Memory, outcome: str) -> dict[str, Any]:
    record = memory.record
    return {
        "id": record.id,
        "outcome": outcome,
        "text": record.text[:_SHOWN],
        "source": record.source,
        "kind": record.kind,
        "session_id": record.session_id,
        "event_time": _iso(record.event_time),
        "tokens": memory.tokens,
        "relativity": round(memory.relativity, 3),
        "probability": None if memory.probability is None else round(memory.probability, 4),
        "score": round(memory.score, 3),
        "parts": {name: round(part, 3) for name, part in zip(SCORE_PARTS, memory.parts, strict=False)},
    }


def _need(found: Recalled) -> dict[str, Any] | None:
    """How likely the request needed memory, and the log-odds that make it up; None where that was not estimated."""
    if found.need is None:
        return None
    parts = sorted(found.need.parts, key=lambda part: -abs(part[1]))
    return {
        "probability": round(found.need.probability, 3),
        "threshold": round(found.need.threshold, 3),
        "parts": {name: round(log_odds, 2) for name, log_odds in parts},
    }


def _iso(at: float) -> str:
    return when(at).isoformat(timespec="seconds")
