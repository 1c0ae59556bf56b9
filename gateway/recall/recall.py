"""Recall: finds the memories for a turn, under a deadline. Never raises; the result carries a status and a reason.

If the query's vector fails or is late, the search is lexical only and the result is `partial`.
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
from gateway.embedding.calibration import Calibration
from gateway.embedding.embedders import Embedder, EmbedFailed
from gateway.embedding.kinds import Embedders
from gateway.errors import MemoryUnavailable
from gateway.memory.recalled import Memory, MemoryStatus, Recalled, RecallOptions
from gateway.memory.record import Record
from gateway.recall.query import Query, make_query
from gateway.recall.search import (
    LaterMemories,
    Meaning,
    around,
    find_memories,
    profile_of,
    rule_out,
    select_memories,
    without_noise,
)
from gateway.recall.startup import Startup
from gateway.storage.errors import StorageError
from gateway.telemetry import Telemetry
from gateway.text.dates import zone_offset
from gateway.text.terms import terms
from gateway.turn import Identity, Scope, Turn

if TYPE_CHECKING:
    from gateway.embedding.embedders import Vectors
    from gateway.recall.words import QueryMatches
    from gateway.recall.working_set import WorkingSet
    from gateway.recall.working_sets import LargeScope, WorkingSets

__all__ = ["Recall"]

AwaitFirst = Callable[[Sequence[Scope]], Awaitable[None]]
"""Waits for the first memories of scopes while these are being written."""

_log = logging.getLogger("gateway.recall")

_SEARCH_DEADLINE = 6.0  # seconds for requests that are nothing but a search
_SHARE_FOR_VECTOR = 0.7  # of the deadline; then words alone
_TOOLS = frozenset(("tools", "functions"))  # fields of a body: without any there is no tool loop
_STEPS_KEPT = 256  # turns whose recall is kept for the steps of their tool loop: up to 60 KB each
_SMALLEST = 16  # tokens of a memory in the block; no more candidates than the budget could hold of these
_SPARE = 64  # additional candidates, since some may be too long for the rest of the budget


class Recall:
    """Searches the working sets for turns and searches.

    `ready` is called when store, embedder and tokenizer are loaded; earlier requests wait for that as `startup` says,
    and then get the status `degraded`."""

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
        """The memories for this turn, best first. A step of a tool loop gets the result of its turn."""
        if turn.identity is None or not turn.mode.reads:
            return Recalled(MemoryStatus.OFF)
        await self._startup.wait()
        await self._await_first(turn.identity.reads)
        key = (turn.identity.reads[0].value, turn.identity.session_id, turn.ask.query)
        if turn.ask.is_step and key in self._steps and self.is_usable:
            return self.mark_stale(self._steps[key])
        now = turn.recall_options.now or turn.received_at
        query = self._query(turn.ask.query, turn.ask.context, now)
        if query is None:
            return Recalled(MemoryStatus.DEGRADED, reason="fault")
        request = self._complete_request(turn)
        if not query.text and (self._sets is None or not request.profile):
            return Recalled(MemoryStatus.MISS, reason="no_query")
        began = time.perf_counter()
        recalled = await self._search_within_deadline(
            turn.identity.reads, query, request, self.deadline(turn.identity.reads)
        )
        self._telemetry.bound("stage", "recall").observe(time.perf_counter() - began)
        if turn.recall_options.min_relativity is None and not request.selectivity:
            recalled = without_noise(recalled, is_personal=query.is_personal)
        if recalled.profile and recalled.status is MemoryStatus.MISS:
            recalled = replace(recalled, status=MemoryStatus.HIT)
        recalled = self.mark_stale(recalled)
        if recalled.status is not MemoryStatus.DEGRADED and not _TOOLS.isdisjoint(turn.body):
            self._keep(key, recalled)
        return recalled

    @property
    def is_usable(self) -> bool:
        """False while deleted memories could be recalled."""
        return self._sets is None or self._sets.is_usable

    def mark_stale(self, recalled: Recalled) -> Recalled:
        """The same result, `degraded` if changes of the last seconds may be missing."""
        if self._sets is None or self._sets.is_fresh or recalled.status is MemoryStatus.DEGRADED:
            return recalled
        return replace(recalled, status=MemoryStatus.DEGRADED, reason="stale")

    async def search(
        self, scopes: Sequence[Scope], text: str, recall_options: RecallOptions, context: str = ""
    ) -> Recalled:
        """The same search for requests that are nothing but a search. `context`: the messages before."""
        await self._startup.wait()
        query = self._query(text, context, recall_options.now or time.time())
        if query is None:
            return Recalled(MemoryStatus.DEGRADED, reason="fault")
        return await self._search_within_deadline(scopes, query, recall_options, _SEARCH_DEADLINE)

    async def require_search(
        self, scopes: Sequence[Scope], text: str, recall_options: RecallOptions, context: str = ""
    ) -> tuple[Memory, ...]:
        """The memories of `search`. Raises MemoryUnavailable if the memory cannot be searched now."""
        recalled = await self.search(scopes, text, recall_options, context)
        if recalled.status is MemoryStatus.DEGRADED:
            raise MemoryUnavailable(f"the memory cannot be searched now ({recalled.reason}); try again")
        return recalled.memories

    def _query(self, text: str, context: str, now: float) -> Query | None:
        """See `make_query`; None where that fails, since a fault of the memory must not fail a chat."""
        try:
            return make_query(text, context, now, zone_offset(self._zone, now))
        except Exception:  # noqa: BLE001 — any fault; it is logged whole
            _log.exception("query_fault")
            return None

    def deadline(self, scopes: Sequence[Scope]) -> float:
        """Seconds that a turn may wait; longer where memories must be loaded first."""
        config = self._config
        is_warm = self._sets is None or all(map(self._sets.has, scopes))
        return (config.deadline_ms if is_warm else max(config.deadline_ms, config.cold_deadline_ms)) / 1000

    def _complete_request(self, turn: Turn) -> RecallOptions:
        """The limits of a turn's search, completed from the configuration."""
        request = turn.recall_options
        if request.text is None:
            budget = self._config.token_budget if turn.token_budget is None else turn.token_budget
            request = replace(request, text=min(self._config.top_k, budget // _SMALLEST) + _SPARE)
        if request.min_relativity is None:  # else the client asks for memories, whether or not the request needs any
            selectivity = self._config.selectivity if turn.selectivity is None else turn.selectivity
            request = replace(request, min_relativity=self._config.min_relativity, selectivity=selectivity)
        is_standard = not turn.wire_format.has_own_prompt
        return replace(request, profile=self._config.profile_budget > 0 and is_standard, is_mixed=is_standard)

    async def rank_texts(self, query: str, texts: Sequence[str]) -> list[tuple[int, float]]:
        """Positions of texts and their relevance to a query, best first. Raises MemoryUnavailable."""
        await self._startup.wait()
        if self._sets is None:
            raise self._startup.error()
        parsed = make_query(query, "", time.time())
        try:
            vectors = await self._embedders.current.embed_documents([query, *texts])
        except EmbedFailed as error:
            raise MemoryUnavailable(f"the embedder does not answer now ({error}); try again") from error
        return await self._sets.run(lambda: _rank_texts(parsed, texts, vectors, self._embedders.current.scale))

    def forget_steps(self, scopes: Collection[str]) -> None:
        """Drop the results kept for tool loops, since memories of these scopes were changed or deleted."""
        self._steps.clear()

    async def conversation(self, identity: Identity, limit: int) -> list[dict[str, str]]:
        """The newest messages of a conversation as chat messages, oldest first; none if memory is unavailable."""
        if self._sets is None:
            return []
        try:
            async with asyncio.timeout(self._config.deadline_ms / 1000):
                records: list[Record] = []
                for scope in dict.fromkeys([*identity.writes, *identity.reads]):
                    working_set = await self._sets.whole(scope)
                    records = await self._sets.run(
                        lambda loaded=working_set: loaded.latest(identity.session_id, limit)  # type: ignore[misc]  # mypy cannot infer it
                    )
                    if records:
                        break
        except (TimeoutError, StorageError):
            return []
        return _messages(records)[-limit:]

    async def _search_within_deadline(
        self, scopes: Sequence[Scope], query: Query, request: RecallOptions, deadline: float
    ) -> Recalled:
        if self._sets is None:
            return Recalled(MemoryStatus.DEGRADED, reason=self._startup.reason)
        try:
            async with asyncio.timeout(deadline):
                recalled = await self._search(self._sets, scopes, query, request, deadline)
                return _with_lock(recalled, self._sets)
        except TimeoutError:
            return Recalled(MemoryStatus.DEGRADED, reason="deadline")
        except StorageError as error:
            _log.warning("recall_without_store", extra={"cause": str(error)})
            return Recalled(MemoryStatus.DEGRADED, reason="store")
        except Exception:  # noqa: BLE001 — a fault of ours must not take the chat down; it is logged whole and counted
            _log.exception("recall_failed")
            return Recalled(MemoryStatus.DEGRADED, reason="fault")

    async def _search(
        self, sets: "WorkingSets", scopes: Sequence[Scope], query: Query, request: RecallOptions, deadline: float
    ) -> Recalled:
        load = sets.archived if request.is_archived else sets.for_recall
        loads = [asyncio.ensure_future(load(scope)) for scope in scopes]
        if request.profile and not query.text:  # a greeting needs no memories, but an answer in the user's style
            handles = await asyncio.gather(*loads)
            return Recalled(MemoryStatus.MISS, reason="no_query", profile=await sets.run(lambda: profile_of(handles)))
        matches: dict[str, QueryMatches] = {}
        if request.selectivity and query.is_self_contained:
            handles = await asyncio.gather(*loads)
            selected = await self._rule_out(sets, scopes, handles, (query, request), matches)
            if selected is not None:
                return selected
        current = await self._embed_query(self._embedders.current, query.text, deadline * _SHARE_FOR_VECTOR)
        handles = await asyncio.gather(*loads)
        meanings = {self._embedders.current.name: current}
        for name in {handle.embedder for handle in handles} - meanings.keys():
            embedder = self._embedders.named(name)
            meanings[name] = await self._embed_query(embedder, query.text, deadline * _SHARE_FOR_VECTOR)
        loaded = [
            (scope, await around(handle, query, meanings[handle.embedder]))
            for scope, handle in zip(scopes, handles, strict=True)
        ]

        is_any_partial = any(
            working_set is not handle for (_, working_set), handle in zip(loaded, handles, strict=True)
        )

        def job() -> Recalled:
            profile = profile_of(handles) if request.profile else ()
            if request.selectivity:
                selected = select_memories(loaded, query, meanings, request, matches)
                if is_any_partial:  # its candidates are dropped after the search
                    selected = replace(selected, passed_over=tuple(selected.passed_over))
                return replace(selected, profile=profile)
            memories = find_memories(loaded, query, meanings, request)
            return Recalled(MemoryStatus.HIT if memories else MemoryStatus.MISS, memories, profile=profile)

        is_profile_new = len(loaded) > 1 or not all(working_set.has_profile for _, working_set in loaded)
        if request.allows or (request.profile and is_profile_new):  # filters read each row; preferences are compared
            recalled = await sets.run(job)
        else:
            recalled = await sets.search(job, [working_set for _, working_set in loaded])
        if any(meanings[working_set.embedder] is None for _, working_set in loaded):
            return replace(recalled, status=MemoryStatus.PARTIAL, reason="embedder")
        return recalled

    async def _rule_out(
        self,
        sets: "WorkingSets",
        scopes: Sequence[Scope],
        handles: "Sequence[WorkingSet | LargeScope]",
        question: tuple[Query, RecallOptions],
        matches: "dict[str, QueryMatches]",
    ) -> Recalled | None:
        """The result for a request that clearly needs no memory by its form and its words, which saves embedding it;
        None if it may need memory. What words match is added to `matches`, by scope."""
        from gateway.recall.working_sets import LargeScope  # noqa: PLC0415 — numpy: loaded behind the open port

        query, request = question
        loaded = [
            (scope, handle) for scope, handle in zip(scopes, handles, strict=True) if not isinstance(handle, LargeScope)
        ]
        if len(loaded) < len(handles):
            return None

        def job() -> Recalled | None:
            ruled_out = rule_out(loaded, query, request, matches)
            if ruled_out is None or not request.profile:
                return ruled_out
            return replace(ruled_out, profile=profile_of(handles))

        return await sets.search(job, [working_set for _, working_set in loaded])

    async def _embed_query(self, embedder: Embedder | None, text: str, timeout: float) -> "Meaning | None":
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


def _with_lock(recalled: Recalled, sets: "WorkingSets") -> Recalled:
    """The result, whose passed-over memories are built while nothing else uses the sets."""
    later = recalled.passed_over
    if not isinstance(later, LaterMemories):
        return recalled
    return replace(recalled, passed_over=LaterMemories([lambda: sets.run_here(lambda: list(later))]))


def _rank_texts(query: Query, texts: Sequence[str], vectors: "Vectors", scale: Calibration) -> list[tuple[int, float]]:
    import numpy as np  # noqa: PLC0415 — as above

    from gateway.recall.rank import bm25, relativity  # noqa: PLC0415
    from gateway.recall.term_index import TermIndex, count_runs  # noqa: PLC0415

    index = TermIndex()
    lengths = index.add(0, [terms(text) for text in texts]).astype(np.float32)
    hits = index.find(list(dict.fromkeys(query.terms)))
    postings = count_runs(hits.places, hits.rows, len(hits.numbers))
    lexical, most = bm25(postings, lengths, float(lengths.mean()), len(texts))
    scores = relativity(lexical, most, vectors[1:] @ vectors[0], scale)
    return sorted(enumerate(scores.tolist()), key=lambda pair: -pair[1])


def _messages(records: Sequence[Record]) -> list[dict[str, str]]:
    """Records of one conversation, in order, as messages; the chunks of a message are joined."""
    messages: list[dict[str, str]] = []
    for record in records:
        if record.source not in ("user", "assistant"):
            continue
        if record.part and messages and messages[-1]["role"] == record.source:
            messages[-1]["content"] += record.text
        elif not record.part:
            messages.append({"role": record.source, "content": record.text})
    return messages
