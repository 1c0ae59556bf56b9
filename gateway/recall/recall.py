"""Recall: from a turn to the memories that belong to it, under a deadline. Never raises, tells what it did.

Vectors are the part that may fail or be late: then words alone are searched and the result is `partial`.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING

from gateway.config import RecallConfig
from gateway.errors import MemoryUnavailable
from gateway.recall.query import Query, make_query
from gateway.recall.search import (
    Meaning,
    around,
    find_memories,
    profile_of,
    select_memories,
    without_noise,
)
from gateway.recall.startup import Startup
from gateway.store.dates import zone_offset
from gateway.store.embed import Embedder, Embedders, EmbedFailed
from gateway.store.memories import StoreFailed
from gateway.store.scale import Scale
from gateway.store.terms import terms
from gateway.telemetry import Telemetry
from gateway.turn import Identity, MemoryStatus, Recalled, Record, Scope, Turn, Wanted

if TYPE_CHECKING:
    from gateway.recall.working_set import WorkingSet
    from gateway.recall.working_sets import LargeScope, WorkingSets
    from gateway.store.embed import Vectors

__all__ = ["Recall"]

AwaitFirst = Callable[[Sequence[Scope]], Awaitable[None]]
"""Waits for the first memories of scopes while they are on their way."""

_log = logging.getLogger("gateway.recall")

_SEARCH_DEADLINE = 6.0  # seconds for those who ask for memories and nothing else
_SHARE_FOR_VECTOR = 0.7  # of the deadline; then words alone
_TOOLS = frozenset(("tools", "functions"))  # fields of a body: without any there is no tool loop
_STEPS_KEPT = 256  # turns whose recall is kept for the steps of their tool loop: up to 60 KB each
_SMALLEST = 16  # tokens of a memory in the block; no more candidates than the budget could hold of these
_CLEARLY_NOT = 0.005  # need below which a request is not embedded
_SPARE = 64  # candidates more, for those that are too long for what is left of the budget


class Recall:
    """`ready` is called when store, embedder and tokenizer are loaded; who comes before waits for that as `startup`
    says, and then every answer is `degraded`."""

    def __init__(
        self,
        embedders: Embedders,
        config: RecallConfig,
        telemetry: Telemetry,
        startup: Startup,
        await_first: AwaitFirst,
        *,
        zone: tzinfo = UTC,
    ) -> None:
        self._zone = zone
        self._startup = startup
        self._await_first = await_first
        self._embedders = embedders
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
        await self._startup.wait()
        await self._await_first(turn.identity.reads)
        key = (turn.identity.reads[0].value, turn.identity.session_id, turn.ask.query)
        if turn.ask.is_step and key in self._steps:
            return self._steps[key]
        now = turn.wanted.now or turn.received_at
        query = self._query(turn.ask.query, turn.ask.context, now)
        if query is None:
            return Recalled(MemoryStatus.DEGRADED, reason="fault")
        wanted = self._limited(turn)
        if not query.text and (self._sets is None or not wanted.profile):
            return Recalled(MemoryStatus.MISS, reason="no_query")
        began = time.perf_counter()
        recalled = await self._bounded(turn.identity.reads, query, wanted, self._deadline(turn.identity.reads))
        self._telemetry.bound("stage", "recall").observe(time.perf_counter() - began)
        if turn.wanted.min_relativity is None and not wanted.selectivity:
            recalled = without_noise(recalled, is_personal=query.is_personal)
        if recalled.profile and recalled.status is MemoryStatus.MISS:
            recalled = replace(recalled, status=MemoryStatus.HIT)
        if recalled.status is not MemoryStatus.DEGRADED and not _TOOLS.isdisjoint(turn.body):
            self._keep(key, recalled)
        return recalled

    async def search(self, scopes: Sequence[Scope], text: str, wanted: Wanted, context: str = "") -> Recalled:
        """The same search for those who ask for memories themselves. `context` is what was said before."""
        await self._startup.wait()
        query = self._query(text, context, wanted.now or time.time())
        if query is None:
            return Recalled(MemoryStatus.DEGRADED, reason="fault")
        return await self._bounded(scopes, query, wanted, _SEARCH_DEADLINE)

    def _query(self, text: str, context: str, now: float) -> Query | None:
        """See `make_query`; None where that fails: no chat fails for the sake of memory."""
        try:
            return make_query(text, context, now, zone_offset(self._zone, now))
        except Exception:  # noqa: BLE001 — any fault; it is logged whole
            _log.exception("query_fault")
            return None

    def _deadline(self, scopes: Sequence[Scope]) -> float:
        """Seconds that a turn may wait; longer where memories must be loaded first."""
        config = self._config
        is_warm = self._sets is None or all(map(self._sets.has, scopes))
        return (config.deadline_ms if is_warm else max(config.deadline_ms, config.cold_deadline_ms)) / 1000

    def _limited(self, turn: Turn) -> Wanted:
        """What a turn wants, with the configuration's numbers where it has none of its own."""
        wanted = turn.wanted
        if wanted.text is None:
            budget = self._config.token_budget if turn.token_budget is None else turn.token_budget
            wanted = replace(wanted, text=min(self._config.top_k, budget // _SMALLEST) + _SPARE)
        if wanted.min_relativity is None:  # else they ask for memories, whether or not the request needs any
            selectivity = self._config.selectivity if turn.selectivity is None else turn.selectivity
            wanted = replace(wanted, min_relativity=self._config.min_relativity, selectivity=selectivity)
        is_ours = turn.dialect.layout is None
        return replace(wanted, profile=self._config.profile_budget > 0 and is_ours, is_mixed=is_ours)

    async def rank_texts(self, query: str, texts: Sequence[str]) -> list[tuple[int, float]]:
        """Positions of texts and their relevance to a query, best first. Raises MemoryUnavailable."""
        await self._startup.wait()
        if self._sets is None:
            raise self._startup.error()
        asked = make_query(query, "", time.time())
        try:
            vectors = await self._embedders.current.embed_documents([query, *texts])
        except EmbedFailed as error:
            raise MemoryUnavailable(f"the embedder does not answer now ({error}); try again") from error
        return await self._sets.run(lambda: _relevance(asked, texts, vectors, self._embedders.current.scale))

    def forget_steps(self, scopes: Collection[str]) -> None:
        """Something of these scopes was changed or deleted: no tool loop goes on with what it recalled before."""
        self._steps.clear()

    async def conversation(self, identity: Identity, limit: int) -> list[dict[str, str]]:
        """The newest messages of a conversation as chat messages, oldest first; none if memory cannot tell now."""
        if self._sets is None:
            return []
        try:
            async with asyncio.timeout(self._config.deadline_ms / 1000):
                records: list[Record] = []
                for scope in dict.fromkeys([*identity.writes, *identity.reads]):
                    working_set = await self._sets.whole(scope)
                    records = await self._sets.run(lambda held=working_set: held.latest(identity.session_id, limit))  # type: ignore[misc]  # mypy cannot infer it
                    if records:
                        break
        except (TimeoutError, StoreFailed):
            return []
        return _messages(records)[-limit:]

    async def _bounded(self, scopes: Sequence[Scope], query: Query, wanted: Wanted, deadline: float) -> Recalled:
        if self._sets is None:
            return Recalled(MemoryStatus.DEGRADED, reason=self._startup.reason)
        try:
            async with asyncio.timeout(deadline):
                return await self._search(self._sets, scopes, query, wanted, deadline)
        except TimeoutError:
            return Recalled(MemoryStatus.DEGRADED, reason="deadline")
        except StoreFailed as error:
            _log.warning("recall_without_store", extra={"cause": str(error)})
            return Recalled(MemoryStatus.DEGRADED, reason="store")
        except Exception:  # noqa: BLE001 — a fault of ours must not take the chat down; it is logged whole and counted
            _log.exception("recall_failed")
            return Recalled(MemoryStatus.DEGRADED, reason="fault")

    async def _search(
        self, sets: "WorkingSets", scopes: Sequence[Scope], query: Query, wanted: Wanted, deadline: float
    ) -> Recalled:
        load = sets.archived if wanted.is_archived else sets.for_recall
        loads = [asyncio.ensure_future(load(scope)) for scope in scopes]
        if wanted.profile and not query.text:  # a greeting asks for nothing, but is answered as the user wishes
            held = await asyncio.gather(*loads)
            return Recalled(MemoryStatus.MISS, reason="no_query", profile=await sets.run(lambda: profile_of(held)))
        if wanted.selectivity and query.is_self_contained:
            held = await asyncio.gather(*loads)
            selected = await self._without_vector(sets, scopes, held, query, wanted)
            if selected is not None:
                return selected
        current = await self._meant(self._embedders.current, query.text, deadline * _SHARE_FOR_VECTOR)
        held = await asyncio.gather(*loads)
        meant = {self._embedders.current.name: current}
        for name in {one.embedder for one in held} - meant.keys():
            meant[name] = await self._meant(self._embedders.named(name), query.text, deadline * _SHARE_FOR_VECTOR)
        loaded = [
            (scope, await around(one, query, meant[one.embedder])) for scope, one in zip(scopes, held, strict=True)
        ]

        def job() -> Recalled:
            profile = profile_of(held) if wanted.profile else ()
            if wanted.selectivity:
                return replace(select_memories(loaded, query, meant, wanted), profile=profile)
            found = find_memories(loaded, query, meant, wanted)
            return Recalled(MemoryStatus.HIT if found else MemoryStatus.MISS, found, profile=profile)

        is_profile_new = len(loaded) > 1 or not all(working_set.has_profile for _, working_set in loaded)
        if wanted.allows or (wanted.profile and is_profile_new):  # asked of each row; wishes to be compared
            recalled = await sets.run(job)
        else:
            recalled = await sets.search(job, [working_set for _, working_set in loaded])
        if any(meant[working_set.embedder] is None for _, working_set in loaded):
            return replace(recalled, status=MemoryStatus.PARTIAL, reason="embedder")
        return recalled

    async def _without_vector(
        self,
        sets: "WorkingSets",
        scopes: Sequence[Scope],
        held: "Sequence[WorkingSet | LargeScope]",
        query: Query,
        wanted: Wanted,
    ) -> Recalled | None:
        """The result for a request that by its form and its words clearly needs no memory, so that it costs no vector;
        None if it may need some."""
        from gateway.recall.working_sets import LargeScope  # noqa: PLC0415 — numpy: loaded behind the open port

        loaded = [(scope, one) for scope, one in zip(scopes, held, strict=True) if not isinstance(one, LargeScope)]
        if len(loaded) < len(held):
            return None
        nothing: dict[str, Meaning | None] = {}

        def job() -> Recalled | None:
            selected = select_memories(loaded, query, nothing, wanted)
            if selected.need is None or selected.need.probability > _CLEARLY_NOT:
                return None
            return replace(
                selected,
                status=MemoryStatus.MISS,
                reason="not_needed",
                memories=(),
                passed_over=(*selected.memories, *selected.passed_over),
                profile=profile_of(held) if wanted.profile else (),
            )

        return await sets.search(job, [working_set for _, working_set in loaded])

    async def _meant(self, embedder: Embedder | None, text: str, timeout: float) -> "Meaning | None":
        if embedder is None:
            return None
        try:
            async with asyncio.timeout(timeout):
                return Meaning(await embedder.embed_query(text), embedder.scale)
        except (EmbedFailed, TimeoutError) as error:
            _log.warning("recall_without_vector", extra={"cause": str(error) or "timeout"})
            return None

    def _keep(self, key: tuple[str, str, str], recalled: Recalled) -> None:
        self._steps[key] = recalled
        self._steps.move_to_end(key)
        if len(self._steps) > _STEPS_KEPT:
            self._steps.popitem(last=False)


def _relevance(query: Query, texts: Sequence[str], vectors: "Vectors", scale: Scale) -> list[tuple[int, float]]:
    import numpy as np  # noqa: PLC0415 — as above

    from gateway.recall.rank import bm25, relativity  # noqa: PLC0415
    from gateway.recall.term_index import TermIndex  # noqa: PLC0415

    index = TermIndex()
    lengths = index.add(0, [terms(text) for text in texts]).astype(np.float32)
    postings = [index.rows_of(term) for term in dict.fromkeys(query.terms)]
    lexical, most = bm25(postings, lengths, float(lengths.mean()), len(texts))
    scores = relativity(lexical, most, vectors[1:] @ vectors[0], scale)
    return sorted(enumerate(scores.tolist()), key=lambda pair: -pair[1])


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
