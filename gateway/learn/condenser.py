"""Keeps a memory small: old conversations of a cube that holds too much are condensed, and come back when they matter.

What a model sums up, or what tells most, stays; the rest is archived, never deleted. It can be searched on request, and
what a question finds nothing for but that, is brought back for the next one.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from gateway.config import MemoryConfig
from gateway.errors import MemoryUnavailable, PluginUnavailable
from gateway.fence import SUSPICIOUS
from gateway.learn import condense
from gateway.learn.notebook import NotNow, Screen, Search
from gateway.learn.window import window_of
from gateway.recall.library import Library, Outdated
from gateway.store.expiry import talkative
from gateway.store.lineage import CONDENSED, SET_ASIDE, TAKEN_OUT, revived
from gateway.store.memories import MemoryStore, StoreFailed
from gateway.store.registry import Registry, RegistryFailed
from gateway.telemetry import Telemetry
from gateway.turn import Record, Scope, ScopeKind, Wanted

__all__ = ["Condenser"]

_log = logging.getLogger("gateway.condenser")
_DAY = 86_400.0
_FIRST = 30.0  # seconds after the start
_REST = 600.0
_LEFT = 0.8  # of what is allowed, so that the next message does not begin it anew
_PATIENT = 1.5  # times as many messages as allowed, until which a model that is out is waited for
_SHOWN = 6000  # tokens of a conversation that a model is shown
_BROUGHT_BACK = 4  # messages
_RELEVANT = 0.6
_LOOKED_EVERY = 60.0  # seconds between two looks into what one user has archived
_LOOKED = 10_000  # users
_COUNTED = 100_000  # memories whose recalls are counted
_BACK = "brought_back"
_OWNED = (ScopeKind.USER, ScopeKind.CUBE)

Ask = Callable[[Scope, str, str, Mapping[str, Any]], Awaitable[Mapping[str, Any] | None]]
"""Asks a model something about a scope; raises NotNow if it cannot be asked now."""
Telling = Callable[[Sequence[Record]], set[str]]


class Condenser:
    """`search` finds memories, `screen` is where plugins see new ones. `ask` None: no model sums up."""

    def __init__(
        self,
        *,
        library: Library,
        store: MemoryStore,
        registry: Registry,
        config: MemoryConfig,
        telemetry: Telemetry,
        search: Search,
        screen: Screen,
        count: Callable[[str], int],
    ) -> None:
        self._library = library
        self._store = store
        self._registry = registry
        self._config = config
        self._telemetry = telemetry
        self._search = search
        self._screen = screen
        self._count = count
        self.ask: Ask | None = None
        self._recalled: OrderedDict[str, int] = OrderedDict()
        self._looked: OrderedDict[str, float] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_on(self) -> bool:
        return self._task is not None

    def start(self) -> None:
        if self._config.retention.condense_over is not None:
            self._task = asyncio.create_task(self._work(), name="condenser")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=5)

    def note_recalled(self, memory_ids: Sequence[str]) -> None:
        """These went into a prompt. Costs next to nothing."""
        for memory_id in memory_ids:
            self._recalled[memory_id] = self._recalled.pop(memory_id, 0) + 1
        while len(self._recalled) > _COUNTED:
            self._recalled.popitem(last=False)

    async def _work(self) -> None:
        await asyncio.sleep(_FIRST)
        while True:
            pause = self._config.retention.every_minutes * 60
            try:
                await self.sweep(time.time())
            except (RegistryFailed, StoreFailed) as error:
                _log.warning("condenser_rests", extra={"cause": str(error)})
                pause = min(pause, _REST)
            except Exception:  # noqa: BLE001 — a worker must outlive any fault; it is logged whole
                _log.exception("condenser_fault")
            await asyncio.sleep(pause)

    async def sweep(self, now: float) -> int:
        """Condense what is old in each cube that holds too much. Returns how many messages were archived. Raises
        StoreFailed or RegistryFailed."""
        most = self._config.retention.condense_over
        if most is None:
            return 0
        before = now - self._config.retention.condense_after_days * _DAY
        gone = 0
        for value in await talkative(self._store, most):
            scope = await self._registry.scope(value)
            if scope is None or scope.kind not in _OWNED:
                continue
            try:
                gone += await self._keep_small(scope, most, before)
            except (MemoryUnavailable, NotNow, Outdated, PluginUnavailable) as error:  # the next sweep comes
                _log.warning("cube_not_condensed", extra={"cause": str(error) or "outdated"})
        return gone

    async def _keep_small(self, scope: Scope, most: int, before: float) -> int:
        said = await self._library.records(scope, _is_held)
        if len(said) <= most:
            return 0
        whole = [record for record in said if CONDENSED not in record.info and _BACK not in record.info]
        allowed = max(0, int(most * _LEFT) - (len(said) - len(whole)))
        found = await asyncio.to_thread(condense.oldest, whole, allowed, before)
        if not found:
            return 0
        holding = await asyncio.to_thread(condense.held_by, said)
        telling = partial(condense.telling, holding=holding, count=len(said), recalled=self._recalled)
        may_wait = len(said) <= most * _PATIENT
        return sum([await self._condense(scope, conversation, telling, may_wait) for conversation in found])

    async def _condense(self, scope: Scope, said: Sequence[Record], telling: Telling, may_wait: bool) -> int:
        now = time.time()
        try:
            summary = await self._summary(scope, said, now)
        except NotNow:
            if may_wait:  # a summary keeps more than the most telling messages do
                raise
            summary = None
        kept: set[str] = set()
        if summary is None:
            kept = await asyncio.to_thread(telling, said)
        after = condense.set_aside(said, kept, now, "" if summary is None else summary.id)
        seen = {record.id: record.version for record in said}
        await self._library.revise(after, [] if summary is None else [summary], seen)
        count = sum(record.status == "archived" for record in after)
        self._telemetry.bound("remembered", "condensed").inc(count)
        return count

    async def _summary(self, scope: Scope, said: Sequence[Record], now: float) -> Record | None:
        """None where no model sums it up, or its summary does not hold. Raises NotNow."""
        shown = [record for record in said if SUSPICIOUS not in record.info]
        if self.ask is None or not shown:
            return None
        window = window_of([], shown, _SHOWN, self._count)
        if len(window.new) < len(shown):  # too long for one question: its most telling messages stay
            return None
        found = await self.ask(scope, condense.INSTRUCTIONS, window.text, condense.SCHEMA)
        summary = condense.summary_in(found, said, now)
        if summary is None:
            return None
        return next(iter(await self._screen(scope, [summary])), None)

    async def bring_back(self, scopes: Sequence[Scope], query: str) -> int:
        """What was archived to make room and answers a question that nothing else does; each user's is looked into now
        and then. Returns how many messages came back."""
        back = 0
        for scope in scopes:
            try:
                back += await self._bring_back(scope, query) if self._may_look(scope, time.time()) else 0
            except MemoryUnavailable as error:
                _log.warning("nothing_brought_back", extra={"cause": str(error)})
        return back

    def _may_look(self, scope: Scope, now: float) -> bool:
        if not self.is_on or now - self._looked.get(scope.value, 0.0) < _LOOKED_EVERY:
            return False
        self._looked[scope.value] = now
        self._looked.move_to_end(scope.value)
        if len(self._looked) > _LOOKED:
            self._looked.popitem(last=False)
        return True

    async def _bring_back(self, scope: Scope, query: str) -> int:
        wanted = Wanted(
            text=_BROUGHT_BACK,
            min_relativity=_RELEVANT,
            is_archived=True,
            allows={scope.value: _may_come_back},
        )
        found = await self._search([scope], query, wanted)
        ids = [memory.record.id for memory in found.memories]
        if not ids:
            return 0
        now = time.time()
        back = await self._library.revise([_back(record, now) for record in await self._library.known(scope, ids)])
        self._telemetry.bound("remembered", "brought_back").inc(len(back))
        return len(back)


def _is_held(record: Record) -> bool:
    return record.kind == "turn" and record.status == "activated"


def _may_come_back(record: Record) -> bool:
    """True for what was archived to make room, and for nothing else."""
    return record.kind == "turn" and SET_ASIDE in record.info and TAKEN_OUT not in record.info


def _back(record: Record, now: float) -> Record:
    again = revived(record, now)
    return replace(again, info={**again.info, _BACK: now})
