"""Counters that the processes of a gateway share: amounts gather in RAM, and are added to a table once in a while."""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.concurrency.worker import Backoff, RepeatingWorker
from gateway.storage.errors import StorageError

__all__ = ["CounterAmount", "Counters", "SharedCounters"]

_log = logging.getLogger("gateway.counters")
_MAX_NAMES = 100_000  # in RAM; the least recently used are read again, and further new ones are not counted
_SHARED_INTERVAL = 0.25  # seconds between two writes
_OWN_INTERVAL = 5.0
_MAX_AGE = 0.7  # seconds after which a shared sum is read again; with the interval less than a second
_READ_TIMEOUT = 0.25  # seconds that a chat waits for the table
_OPEN_TIMEOUT = 5.0  # seconds that the first use waits
_REST = 1.0  # seconds without a read after one that failed


@dataclass(frozen=True, slots=True)
class CounterAmount:
    """An amount of a counter, which counts until it expires (seconds since 1970)."""

    value: float
    expires: float


class Counters(Protocol):
    """Sums by name, shared by all processes. An expired sum is as one that was never added to. `now`: seconds since
    1970. Names contain no personal data. Methods but `close` raise StorageError."""

    async def open(self) -> None:
        """Open the table; does nothing if it is open."""

    async def close(self) -> None: ...

    async def add(self, amounts: Mapping[str, CounterAmount], now: float) -> dict[str, CounterAmount]:
        """Add to the sums, all or none, and return the new ones. A sum expires when its newest amount does."""

    async def read(self, names: Collection[str], now: float) -> dict[str, CounterAmount]:
        """Those of these sums that are not expired."""

    async def newest(self, limit: int, now: float) -> dict[str, CounterAmount]:
        """Up to `limit` sums that are not expired, those that expire last first."""


@dataclass(slots=True)
class Total:
    """A sum as it was in the table at a moment of the monotonic clock."""

    value: float
    expires: float
    read_at: float


class SharedCounters:
    """Counts in RAM, and shares the sums with other processes through a table (None: there is none).

    Without other processes (`is_shared` false) a sum is exact, and the table is there for restarts; with them a sum
    lacks what others counted within the last second. Faults of the table are logged, and never raised: the sums of this
    process count on. The table is opened at the first use.
    """

    def __init__(
        self, table: Counters | None = None, *, is_shared: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self._table = table
        self._is_shared = is_shared
        self._clock = clock
        self._totals: OrderedDict[str, Total] = OrderedDict()
        self._pending: dict[str, CounterAmount] = {}
        self._writing: dict[str, CounterAmount] = {}
        self._asked: set[str] = set()  # since the last write
        self._is_complete = table is None  # all names that the table has are in RAM
        self._is_open = table is None
        self._was_opened = False  # or at least tried
        self._rests_until = 0.0
        self._lock = asyncio.Lock()  # of the table: so that a sum has each amount once
        interval = _SHARED_INTERVAL if is_shared else _OWN_INTERVAL
        self._interval = interval
        self._worker = RepeatingWorker("counters", self._work, _log, "counters_fault", pauses=Backoff(interval))

    def add(self, name: str, amount: float, expires: float) -> None:
        """Add an amount; the counter exists until `expires` (seconds since 1970)."""
        if name not in self._pending and len(self._pending) >= _MAX_NAMES:
            return
        _merge(self._pending, {name: CounterAmount(amount, expires)}, self._clock())
        if self._table is None:
            self._settle()
        else:
            self._worker.start()

    async def get(self, names: Iterable[str]) -> dict[str, float]:
        """The sums of these counters; 0 for those that do not exist or have expired."""
        wanted = list(names)
        if self._table is not None:
            self._worker.start()
            if self._is_shared:
                self._asked.update(wanted)
            if not self._is_open or self._stale(wanted):
                await self._refresh(wanted)
        now = self._clock()
        return {name: self._sum(name, now) for name in wanted}

    def named(self, owner: str) -> "NamedCounters":
        """The counters of one owner, who does not see those of others."""
        return NamedCounters(self, f"{owner}:")

    async def stop(self) -> None:
        """Write what is pending, and close the table."""
        if self._table is None:
            return
        if await self._worker.stop():
            await self._write()
        with contextlib.suppress(StorageError):
            await self._table.close()

    def _sum(self, name: str, now: float) -> float:
        total = self._totals.get(name)
        if total is not None:
            self._totals.move_to_end(name)
        parts = (total, self._writing.get(name), self._pending.get(name))
        return sum(part.value for part in parts if part is not None and part.expires > now)

    def _stale(self, names: Iterable[str]) -> list[str]:
        """Those of these names whose sums must be read from the table."""
        if self._is_shared:
            oldest = time.monotonic() - _MAX_AGE
            return [name for name in names if name not in self._totals or self._totals[name].read_at < oldest]
        return [] if self._is_complete else [name for name in names if name not in self._totals]

    async def _refresh(self, names: Collection[str]) -> None:
        """Read sums, unless the table does not answer in time. The first call opens it; later the worker does."""
        if time.monotonic() < self._rests_until or (self._was_opened and not self._is_open):
            return
        timeout = _READ_TIMEOUT if self._was_opened else _OPEN_TIMEOUT
        self._was_opened = True
        try:
            async with asyncio.timeout(timeout), self._lock:
                await self._open()
                stale = self._stale(names)  # another request may have read them meanwhile
                if stale:
                    await self._read(stale)
        except (StorageError, TimeoutError) as error:
            self._rests_until = time.monotonic() + _REST
            _log.warning("counters_failed", extra={"cause": str(error) or "no answer in time"})

    async def _open(self) -> None:
        if self._is_open:
            return
        assert self._table is not None  # noqa: S101 — else it is open from the beginning
        await self._table.open()
        self._is_open = True
        if not self._is_shared:
            rows = await self._table.newest(_MAX_NAMES, self._clock())
            self._note(rows)
            self._is_complete = len(rows) < _MAX_NAMES

    async def _read(self, names: Collection[str]) -> None:
        assert self._table is not None  # noqa: S101 — without a table nothing is stale
        rows = await self._table.read(names, self._clock())
        self._note({name: rows.get(name, CounterAmount(0.0, 0.0)) for name in names})

    def _note(self, rows: Mapping[str, CounterAmount]) -> None:
        """Note sums of the table."""
        read_at = time.monotonic()
        for name, row in rows.items():
            self._totals[name] = Total(row.value, row.expires, read_at)
            self._totals.move_to_end(name)
        while len(self._totals) > _MAX_NAMES:
            _, dropped = self._totals.popitem(last=False)
            if dropped.expires > self._clock():
                self._is_complete = self._table is None

    def _settle(self) -> None:
        """Without a table: what was added is the sum."""
        now = self._clock()
        sums = {name: self._totals.get(name, CounterAmount(0.0, 0.0)) for name in self._pending}
        before = {name: CounterAmount(total.value, total.expires) for name, total in sums.items()}
        _merge(before, self._pending, now)
        self._pending = {}
        self._note(before)

    async def _work(self) -> None:
        await asyncio.sleep(self._interval)
        await self._write()

    async def _write(self) -> None:
        """Add what is pending to the table. A caller that is cancelled leaves the write to end by itself."""
        await asyncio.shield(asyncio.ensure_future(self._write_pending()))

    async def _write_pending(self) -> None:
        async with self._lock:
            asked, self._asked = self._asked, set()
            if self._is_open and not self._pending and not asked:
                return
            assert self._table is not None  # noqa: S101 — the worker runs only with a table
            self._writing, self._pending = self._pending, {}
            try:
                await self._open()
                now = self._clock()
                amounts = {name: amount for name, amount in self._writing.items() if amount.expires > now}
                if amounts:
                    self._note(await self._table.add(amounts, now))
                self._writing = {}
                if asked - amounts.keys():
                    await self._read(asked - amounts.keys())
            except StorageError as error:
                _log.warning("counters_failed", extra={"cause": str(error)})
            finally:
                pending, self._pending, self._writing = self._pending, self._writing, {}
                _merge(self._pending, pending, self._clock())


class NamedCounters:
    """Counters whose names have a prefix, which their user does not see."""

    def __init__(self, counters: SharedCounters, prefix: str) -> None:
        self._counters = counters
        self._prefix = prefix

    def add(self, name: str, amount: float, expires: float) -> None:
        self._counters.add(self._prefix + name, amount, expires)

    async def get(self, names: Iterable[str]) -> dict[str, float]:
        sums = await self._counters.get([self._prefix + name for name in names])
        return {name.removeprefix(self._prefix): value for name, value in sums.items()}


def _merge(sums: dict[str, CounterAmount], amounts: Mapping[str, CounterAmount], now: float) -> None:
    """Add amounts to sums; an expired sum begins again."""
    for name, amount in amounts.items():
        earlier = sums.get(name)
        before = 0.0 if earlier is None or earlier.expires <= now else earlier.value
        sums[name] = CounterAmount(before + amount.value, amount.expires)
