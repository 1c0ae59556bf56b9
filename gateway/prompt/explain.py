"""Explains why a turn got its memories: kept for the latest turns, returned on request.

An explanation makes "it forgot" debuggable: the query, every candidate with the parts of its score, and its outcome.
Explanations are in RAM only, and are dropped as soon as any memory is deleted or changed.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from gateway.memory.recalled import SCORE_PARTS, Block, Memory, MemoryStatus, Recalled
from gateway.prompt.assemble import NO_BLOCK, when
from gateway.turn import Principal, Turn

__all__ = ["Explanations"]

_SHORTEST_ID = 6  # characters of a prefix
_SHOWN = 2000  # characters of a query or a memory


@dataclass(frozen=True, slots=True, kw_only=True)
class _Explanation:
    """The inputs of an explanation. `recalled`: before plugins; `offered`: after them; `present`: ids of messages that
    the prompt contained already."""

    turn_id: str
    tenant: str
    user_id: str
    session_id: str
    at: float
    query: str
    recalled: Recalled
    offered: tuple[Memory, ...]
    block: Block
    budget: int
    most: int
    present: frozenset[str]
    is_withheld: bool = False


class Explanations:
    """Explanations of the latest `limit` turns that recalled something."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._explanations: OrderedDict[str, _Explanation] = OrderedDict()

    def keep(self, turn: Turn, found: Recalled, *, budget: int, most: int, said: frozenset[str]) -> None:
        """Keep how a turn's block was chosen. `found`: before plugins; `turn.recalled` and `.block`: after. `said`: ids
        of messages that the prompt contained already."""
        if not self._limit or turn.identity is None or turn.block is None:
            return
        self._explanations[turn.id] = _Explanation(
            turn_id=turn.id,
            tenant=turn.principal.tenant,
            user_id=turn.identity.user_id,
            session_id=turn.identity.session_id,
            at=turn.received_at,
            query=turn.ask.query[:_SHOWN],
            recalled=found,
            offered=turn.recalled.memories,
            block=turn.block,
            budget=budget,
            most=most,
            present=said,
        )
        if len(self._explanations) > self._limit:
            self._explanations.popitem(last=False)

    def withhold(self, turn_id: str) -> None:
        """Note that a turn was answered without its block, since the prompt was too long with it."""
        explanation = self._explanations.get(turn_id)
        if explanation is not None:
            self._explanations[turn_id] = replace(explanation, is_withheld=True)

    def forget(self, scopes: Collection[str]) -> None:
        """Drop all explanations, since memories of these scopes were changed or deleted."""
        self._explanations.clear()

    def find(self, turn_id: str, principal: Principal) -> dict[str, Any] | None:
        """The explanation of a turn, as JSON; None if there is none, or if this key may not see it."""
        explanation = self._explanations.get(turn_id) or self._find_by_prefix(turn_id)
        if (
            explanation is None
            or explanation.tenant != principal.tenant
            or principal.user not in (None, explanation.user_id)
        ):
            return None
        block = NO_BLOCK if explanation.is_withheld else explanation.block
        return {
            "request_id": explanation.turn_id,
            "user_id": explanation.user_id,
            "session_id": explanation.session_id,
            "at": _iso(explanation.at),
            "query": explanation.query,
            "status": (MemoryStatus.DEGRADED if explanation.is_withheld else explanation.recalled.status).value,
            "reason": "context" if explanation.is_withheld else explanation.recalled.reason,
            "token_budget": explanation.budget,
            "injected": {
                "count": len(block.memories),
                "tokens": block.tokens,
                "standing_count": block.standing,
                "standing_tokens": block.standing_tokens,
                "text": block.text,
            },
            "need": _need(explanation.recalled),
            "standing_wishes": [memory.record.text[:_SHOWN] for memory in explanation.recalled.profile],
            "candidates": [_candidate(memory, outcome) for memory, outcome in _outcomes(explanation)],
        }

    def _find_by_prefix(self, prefix: str) -> _Explanation | None:
        """The turn whose id has this prefix, if it is the only one."""
        matches = [
            entry for id_, entry in self._explanations.items() if len(prefix) >= _SHORTEST_ID and id_.startswith(prefix)
        ]
        return matches[0] if len(matches) == 1 else None


def _outcomes(explanation: _Explanation) -> Iterator[tuple[Memory, str]]:
    injected = {memory.record.id for memory in explanation.block.memories}
    texts = {memory.record.text for memory in explanation.block.memories}
    facts = [memory.record for memory in explanation.block.memories if memory.record.is_extracted]
    covered = injected | {link for fact in facts for link in fact.links}
    offered = {memory.record.id for memory in explanation.offered}
    candidates = {memory.record.id for memory in (*explanation.recalled.memories, *explanation.recalled.passed_over)}
    added = [memory for memory in explanation.offered if memory.record.id not in candidates]
    for memory in (*explanation.recalled.memories, *added):
        record = memory.record
        if record.id in injected:
            yield memory, "too long for the model" if explanation.is_withheld else "injected"
        elif record.id not in offered:
            yield memory, "left out by a plugin"
        elif record.message_id in explanation.present:
            yield memory, "in the prompt anyway"
        elif record.text in texts:
            yield memory, "the same as another"
        elif covered.issuperset(record.links if record.is_extracted else [record.id]):
            yield memory, "said there anyway"
        elif len(injected) >= explanation.most:
            yield memory, "over recall.top_k"
        else:
            yield memory, "over the token budget"
    outcome = "request needs no memory" if explanation.recalled.reason == "not_needed" else "not relevant enough"
    for memory in explanation.recalled.passed_over:
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


def _need(recalled: Recalled) -> dict[str, Any] | None:
    """The probability that the request needed memory, and its parts as log-odds; None if it was not estimated."""
    if recalled.need is None:
        return None
    parts = sorted(recalled.need.parts, key=lambda part: -abs(part[1]))
    return {
        "probability": round(recalled.need.probability, 3),
        "threshold": round(recalled.need.threshold, 3),
        "parts": {name: round(log_odds, 2) for name, log_odds in parts},
    }


def _iso(at: float) -> str:
    return when(at).isoformat(timespec="seconds")
