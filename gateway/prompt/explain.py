"""Explains why a turn got its memories: kept for the latest turns, returned on request.

An explanation makes "it forgot" debuggable: the query, every candidate with the parts of its score, and its outcome;
where content may be shown, also the prompt. Explanations are in RAM only, and are dropped as soon as a memory that the
turn could read is deleted or changed.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.memory.recalled import SCORE_PARTS, Block, Memory, MemoryStatus, Recalled
from gateway.prompt.assemble import NO_BLOCK, when
from gateway.prompt.kept_prompts import KeptPrompts
from gateway.turn import Principal, Turn

__all__ = ["Explanations"]

_SHORTEST_ID = 6  # characters of a prefix
_SHOWN = 2000  # characters of a query or a memory
_OUTCOMES: Final = {
    "injected": "injected",
    "too_long": "too long for the model",
    "in_prompt": "in the prompt anyway",
    "plugin": "left out by a plugin",
    "duplicate": "the same as another",
    "covered": "said there anyway",
    "over_limit": "over recall.top_k",
    "over_budget": "over the token budget",
    "not_needed": "request needs no memory",
    "not_relevant": "not relevant enough",
}
"""The fates of candidates, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Explanation:
    """The inputs of an explanation. `scopes`: those that the turn read; `recalled`: before plugins; `offered`: after
    them; `present`: ids of messages that the prompt contained already, `shown`: of memories in blocks of earlier turns
    there."""

    turn_id: str
    tenant: str
    user_id: str
    session_id: str
    scopes: frozenset[str]
    at: float
    query: str
    recalled: Recalled
    offered: tuple[Memory, ...]
    block: Block
    budget: int
    most: int
    present: frozenset[str]
    shown: frozenset[str]
    is_withheld: bool = False


class Explanations:
    """Explanations of the latest `limit` turns that recalled something. `with_prompts`: with the whole bodies."""

    def __init__(self, limit: int, *, with_prompts: bool = False) -> None:
        self._limit = limit
        self._prompts = KeptPrompts(is_on=with_prompts)
        self._explanations: OrderedDict[str, _Explanation] = OrderedDict()

    def keep(
        self,
        turn: Turn,
        found: Recalled,
        *,
        budget: int,
        most: int,
        said: frozenset[str] = frozenset(),
        shown: frozenset[str] = frozenset(),
    ) -> None:
        """Keep how a turn's block was chosen. `found`: before plugins; `turn.recalled` and `.block`: after. `said`: ids
        of messages that the prompt contained already; `shown`: of memories in blocks that it contained already."""
        if not self._limit or turn.identity is None or turn.block is None:
            return
        self._explanations[turn.id] = _Explanation(
            turn_id=turn.id,
            tenant=turn.principal.tenant,
            user_id=turn.identity.user_id,
            session_id=turn.identity.session_id,
            scopes=frozenset(scope.value for scope in turn.identity.reads),
            at=turn.received_at,
            query=turn.ask.query[:_SHOWN],
            recalled=found,
            offered=turn.recalled.memories,
            block=turn.block,
            budget=budget,
            most=most,
            present=said,
            shown=shown,
        )
        if len(self._explanations) > self._limit:
            self._prompts.drop(self._explanations.popitem(last=False)[0])

    def has(self, turn_id: str) -> bool:
        """True if the turn can be explained."""
        return turn_id in self._explanations

    def keep_prompt(self, turn: Turn, prompt: bytes, earlier: Sequence[str], *, is_in_system: bool) -> None:
        """Keep the body of a turn that is explained. `earlier`: blocks of earlier turns in it; `is_in_system`: its own
        block is in the system prompt."""
        if turn.id in self._explanations:
            self._prompts.keep(turn, prompt, earlier, is_in_system=is_in_system)

    def withhold(self, turn_id: str, prompt: bytes) -> None:
        """Note that a turn was answered without its block, since the prompt was too long with it."""
        explanation = self._explanations.get(turn_id)
        if explanation is not None:
            self._explanations[turn_id] = replace(explanation, is_withheld=True)
            self._prompts.withhold(turn_id, prompt)

    def forget(self, scopes: Collection[str]) -> None:
        """Drop the explanations of turns that read these scopes, since memories of them were changed or deleted."""
        changed = frozenset(scopes)
        self._drop(lambda explanation: not changed.isdisjoint(explanation.scopes))

    def forget_owner(self, tenant: str | None, user: str | None, session: str | None) -> None:
        """Drop the explanations of a tenant, a user and a session (None: of any)."""
        self._drop(
            lambda explanation: (
                tenant in (None, explanation.tenant)
                and user in (None, explanation.user_id)
                and session in (None, explanation.session_id)
            )
        )

    def _drop(self, is_dropped: Callable[[_Explanation], bool]) -> None:
        for turn_id in [id_ for id_, explanation in self._explanations.items() if is_dropped(explanation)]:
            del self._explanations[turn_id]
            self._prompts.drop(turn_id)

    async def find(self, turn_id: str, principal: Principal) -> dict[str, Any] | None:
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
                "count": len(block.ids),
                "tokens": block.tokens,
                "standing_count": block.standing,
                "standing_tokens": block.standing_tokens,
                "text": block.text,
            },
            "need": _need(explanation.recalled),
            "standing_wishes": [memory.record.text[:_SHOWN] for memory in explanation.recalled.profile],
            "candidates": [_candidate(memory, fate) for memory, fate in _fates(explanation)],
            **await self._prompts.serialize(explanation.turn_id),
        }

    def count(self, prefix: str) -> int:
        """The number of turns whose ids have a prefix, of 6 characters at least."""
        return len(self._matches(prefix))

    def _find_by_prefix(self, prefix: str) -> _Explanation | None:
        """The turn whose id has this prefix, if it is the only one."""
        matches = self._matches(prefix)
        return matches[0] if len(matches) == 1 else None

    def _matches(self, prefix: str) -> list[_Explanation]:
        if len(prefix) < _SHORTEST_ID:
            return []
        return [entry for id_, entry in self._explanations.items() if id_.startswith(prefix)]


def _fates(explanation: _Explanation) -> Iterator[tuple[Memory, str]]:
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
            yield memory, "too_long" if explanation.is_withheld else "injected"
        elif record.id in explanation.shown:
            yield memory, "in_prompt"
        elif record.id not in offered:
            yield memory, "plugin"
        elif record.message_id in explanation.present:
            yield memory, "in_prompt"
        elif record.text in texts:
            yield memory, "duplicate"
        elif covered.issuperset(record.links if record.is_extracted else [record.id]):
            yield memory, "covered"
        elif len(injected) >= explanation.most:
            yield memory, "over_limit"
        else:
            yield memory, "over_budget"
    fate = "not_needed" if explanation.recalled.reason == "not_needed" else "not_relevant"
    for memory in explanation.recalled.passed_over:
        yield memory, fate


def _candidate(memory: Memory, fate: str) -> dict[str, Any]:
    record = memory.record
    return {
        "id": record.id,
        "fate": fate,
        "outcome": _OUTCOMES[fate],
        "text": record.text[:_SHOWN],
        "source": record.source,
        "kind": record.kind,
        "trust": memory.trust,
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
