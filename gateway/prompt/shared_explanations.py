"""The explanations of all workers: the owner of the store finds the worker that has a turn, by its id or a prefix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.prompt.explain import Explanations
from gateway.turn import Principal
from gateway.workers import message_kinds
from gateway.workers.peers import Peers

__all__ = ["SharedExplanations"]

_TIMEOUT: Final = 2.0  # seconds for the workers; a large prompt is parsed meanwhile


@dataclass(frozen=True, slots=True)
class _Match:
    """What a worker has for an id or a prefix: the number of its turns, and the explanation as JSON (empty: none that
    the key may see)."""

    is_exact: bool
    count: int
    explanation: bytes


class SharedExplanations:
    """Finds explanations in all workers. Construct it before the peers start."""

    def __init__(self, local: Explanations, peers: Peers) -> None:
        self._local = local
        self._peers = peers
        peers.on(message_kinds.EXPLANATION, self._match, is_slow=True)

    async def find(self, turn_id: str, principal: Principal) -> Mapping[str, Any] | orjson.Fragment | None:
        """The explanation of a turn; None if there is none, or if this key may not see it."""
        if self._local.has(turn_id):
            return await self._local.find(turn_id, principal)
        replies = await self._peers.ask_all(message_kinds.EXPLANATION, (turn_id, principal), _TIMEOUT)
        matches: list[_Match] = [await self._match((turn_id, principal)), *replies.values()]
        exact = [match for match in matches if match.is_exact]
        if not exact and sum(match.count for match in matches) > 1:
            return None  # the prefix is not unique
        chosen = next((match.explanation for match in exact or matches if match.explanation), b"")
        return orjson.Fragment(chosen) if chosen else None

    async def _match(self, question: tuple[str, Principal]) -> _Match:
        turn_id, principal = question
        explanation = await self._local.find(turn_id, principal)
        encoded = b"" if explanation is None else orjson.dumps(explanation)
        return _Match(self._local.has(turn_id), self._local.count(turn_id), encoded)
