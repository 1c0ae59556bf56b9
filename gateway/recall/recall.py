"""Recall: from a turn to the memories that belong to it, under a deadline. Never raises, tells what it did.

Vectors are the part that may fail or be late: then words alone are searched and the result is `partial`.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.config import RecallConfig
from gateway.recall.query import Query, make_query
from gateway.store.embed import Embedder, EmbedFailed
from gateway.store.memories import StoreFailed
from gateway.telemetry import Telemetry
from gateway.turn import Identity, Memory, MemoryStatus, Recalled, Record, Scope, Turn

if TYPE_CHECKING:
    from gateway.recall.working_sets import WorkingSets
    from gateway.store.embed import Vectors

__all__ = ["Recall"]

_log = logging.getLogger("gateway.recall")

_SEARCH_DEADLINE = 6.0  # seconds for those who ask for memories and nothing else
_SHARE_FOR_VECTOR = 0.7  # of the deadline; then words alone
_STEPS_KEPT = 1024  # turns whose recall is kept for the steps of their tool loop
_SMALLEST = 10  # tokens of a memory in the block; no more candidates than the budget could hold of these
_SPARE = 32  # candidates more, for those that are passed over


class Recall:
    """`ready` is called when store, embedder and tokenizer are loaded; before, every answer is `degraded`."""

    def __init__(self, embedder: Embedder, config: RecallConfig, telemetry: Telemetry) -> None:
        self._embedder = embedder
        self._config = config
        self._telemetry = telemetry
        self._sets: WorkingSets | None = None
        self._steps: OrderedDict[tuple[str, str, str], Recalled] = OrderedDict()

    def ready(self, sets: "WorkingSets") -> None:
        self._sets = sets

    async def recall(self, turn: Turn) -> Recalled:
        """What is known for this turn, best first. A step of a tool loop gets what its turn got."""
        if turn.identity is None or not turn.mode.reads:
            return Recalled(MemoryStatus.OFF)
        key = (turn.identity.reads[0].value, turn.identity.session_id, turn.ask.query)
        if turn.ask.is_step and key in self._steps:
            return self._steps[key]
        query = make_query(turn.ask.query, turn.ask.context)
        if not query.text:
            return Recalled(MemoryStatus.MISS, reason="no_query")
        budget = self._config.token_budget if turn.token_budget is None else turn.token_budget
        limit = min(turn.top_k or self._config.top_k, budget // _SMALLEST) + _SPARE
        began = time.perf_counter()
        deadline = self._config.deadline_ms / 1000
        recalled = await self._bounded(turn.identity.reads, query, limit, turn.min_relativity, deadline)
        self._telemetry.bound("stage", "recall").observe(time.perf_counter() - began)
        if max((memory.relativity for memory in recalled.memories), default=1.0) < self._config.gate:
            # neighbours and sessions carry weak memories along with a strong one; without one there is only noise
            recalled = Recalled(MemoryStatus.MISS, reason="irrelevant")
        if recalled.status is not MemoryStatus.DEGRADED:
            self._keep(key, recalled)
        return recalled

    async def search(self, scopes: Sequence[Scope], text: str, limit: int, min_relativity: float) -> Recalled:
        """The same search for those who ask for memories themselves."""
        return await self._bounded(scopes, make_query(text, ""), limit, min_relativity, _SEARCH_DEADLINE)

    async def conversation(self, identity: Identity, limit: int) -> list[dict[str, str]]:
        """The newest messages of a conversation as chat messages, oldest first; none if memory cannot tell now."""
        if self._sets is None:
            return []
        try:
            async with asyncio.timeout(self._config.deadline_ms / 1000):
                working_set = await self._sets.get(identity.reads[0])
                records = await self._sets.run(lambda: working_set.latest(identity.session_id, limit))
        except (TimeoutError, StoreFailed):
            return []
        return _messages(records)[-limit:]

    async def _bounded(
        self, scopes: Sequence[Scope], query: Query, limit: int, min_relativity: float, deadline: float
    ) -> Recalled:
        if self._sets is None:
            return Recalled(MemoryStatus.DEGRADED, reason="loading")
        try:
            async with asyncio.timeout(deadline):
                return await self._search(
                    self._sets, scopes, query, limit=limit, min_relativity=min_relativity, deadline=deadline
                )
        except TimeoutError:
            return Recalled(MemoryStatus.DEGRADED, reason="deadline")
        except StoreFailed as error:
            _log.warning("recall_without_store", extra={"cause": str(error)})
            return Recalled(MemoryStatus.DEGRADED, reason="store")
        except Exception:  # noqa: BLE001 — a fault of ours must not take the chat down; it is logged whole and counted
            _log.exception("recall_failed")
            return Recalled(MemoryStatus.DEGRADED, reason="fault")

    async def _search(
        self,
        sets: "WorkingSets",
        scopes: Sequence[Scope],
        query: Query,
        *,
        limit: int,
        min_relativity: float,
        deadline: float,
    ) -> Recalled:
        from gateway.recall.rank import RankWeights  # noqa: PLC0415 — numpy: loaded behind the open port

        loads = [asyncio.ensure_future(sets.get(scope)) for scope in scopes]
        vector = await self._vector(query.text, deadline * _SHARE_FOR_VECTOR)
        loaded = await asyncio.gather(*loads)
        found: list[Memory] = []
        weights = RankWeights()
        for working_set in loaded:
            found += await sets.run(
                lambda working_set=working_set: working_set.search(query.terms, vector, limit, weights)  # type: ignore[misc]  # mypy cannot infer it
            )
        if len(loaded) > 1:  # scores are standardised within a set; only relevance compares across sets
            found.sort(key=lambda memory: -memory.relativity)
        chosen = tuple(memory for memory in found[:limit] if memory.relativity >= min_relativity)
        if vector is None:
            return Recalled(MemoryStatus.PARTIAL, chosen, "embedder")
        return Recalled(MemoryStatus.HIT if chosen else MemoryStatus.MISS, chosen)

    async def _vector(self, text: str, timeout: float) -> "Vectors | None":
        try:
            async with asyncio.timeout(timeout):
                return await self._embedder.embed_query(text)
        except (EmbedFailed, TimeoutError) as error:
            _log.warning("recall_without_vector", extra={"cause": str(error) or "timeout"})
            return None

    def _keep(self, key: tuple[str, str, str], recalled: Recalled) -> None:
        self._steps[key] = recalled
        self._steps.move_to_end(key)
        if len(self._steps) > _STEPS_KEPT:
            self._steps.popitem(last=False)


def _messages(records: Sequence[Record]) -> list[dict[str, str]]:
    """Records of one conversation, in order, as messages; the pieces of one message are one again."""
    messages: list[dict[str, str]] = []
    for record in records:
        if record.source not in ("user", "assistant"):
            continue
        if record.part and messages and messages[-1]["role"] == record.source:
            messages[-1]["content"] += record.text
        elif not record.part:
            messages.append({"role": record.source, "content": record.text})
    return messages
