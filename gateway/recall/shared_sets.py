"""Working sets of several workers: the owner of the store sends each change of its sets to the others.

All changes go through one stream in order, so a worker loads a set as the owner does: rows that the store may not have
yet were sent before. A worker that connects starts from a snapshot of what the store does not have; until then it
ignores the stream. Deletions are acknowledged: when `mark_deleted` returns, no worker recalls the memory.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.concurrency.worker import Worker
from gateway.recall.working_sets import WorkingSets
from gateway.storage.rows import Row
from gateway.workers import message_kinds
from gateway.workers.peers import Peers

__all__ = ["FollowerSets", "OwnersSets"]

_log = logging.getLogger("gateway.recall")
_JOIN_EVERY: Final = 0.2  # seconds
_TIMEOUT: Final = 3.0  # seconds that a worker may take to apply a deletion
_DELETED_AT_ONCE: Final = 1000  # memories of one message: more could take a worker that does not hang too long


@dataclass(frozen=True, slots=True)
class _Snapshot:
    rows: Sequence[Row]
    deletions: Mapping[str, Mapping[str, int]]


class OwnersSets(WorkingSets):
    """The working sets of the worker that owns the store. Call `publish_snapshot` when it has all earlier entries."""

    def share(self, peers: Peers) -> None:
        """Send the changes to these workers."""
        self._peers = peers
        self._is_complete = False
        self._joining: set[int] = set()
        peers.on(message_kinds.JOIN, self._join)

    def publish_snapshot(self) -> None:
        """Send the snapshot to the workers that wait for it, and from now on to those that connect."""
        self._is_complete = True
        waiting, self._joining = self._joining, set()
        for number in waiting:
            self._join(number)

    def _join(self, number: int) -> None:
        if self._is_complete:
            self._peers.send(number, message_kinds.SNAPSHOT, _Snapshot(*self.snapshot()))
        else:
            self._joining.add(number)

    async def add_unstored(self, rows: Sequence[Row]) -> None:
        self._peers.publish(message_kinds.ROWS, list(rows))
        await super().add_unstored(rows)

    async def apply(self, rows: Sequence[Row]) -> None:
        self._peers.publish(message_kinds.STORED_ROWS, list(rows))
        await super().apply(rows)

    def mark_stored(self, rows: Iterable[Row]) -> None:
        rows = list(rows)
        self._peers.publish(message_kinds.STORED, [row.seq for row in rows])
        super().mark_stored(rows)

    def retract(self, rows: Sequence[Row]) -> None:
        self._peers.publish(message_kinds.RETRACTED, [(row.seq, row.record.scope) for row in rows])
        super().retract(rows)

    async def mark_deletions(self, versions: Mapping[str, Mapping[str, int]]) -> None:
        """As `WorkingSets.mark_deletions`, in all workers."""
        await super().mark_deletions(versions)
        for scope, members in versions.items():
            pairs = list(members.items())
            for begin in range(0, len(pairs), _DELETED_AT_ONCE):
                part = {scope: dict(pairs[begin : begin + _DELETED_AT_ONCE])}
                await self._peers.require_all(message_kinds.DELETED, part, _TIMEOUT)

    def unmark(self, scope: str, memory_ids: Iterable[str]) -> None:
        memory_ids = list(memory_ids)
        self._peers.publish(message_kinds.UNDELETED, (scope, memory_ids))
        super().unmark(scope, memory_ids)

    def drop(self, scopes: Iterable[str]) -> None:
        scopes = list(scopes)
        self._peers.publish(message_kinds.DROPPED, scopes)
        super().drop(scopes)


class FollowerSets:
    """Applies the owner's changes to the sets of this worker. `on_snapshot` is called when it has started from one.
    `start` asks for the first one."""

    def __init__(self, peers: Peers, sets: WorkingSets, on_snapshot: Callable[[], None]) -> None:
        self._peers = peers
        self._sets = sets
        self._on_snapshot = on_snapshot
        self._unstored: dict[int, Row] = {}  # by journal number
        self._is_current = False
        self._worker = Worker("snapshot", self._request_snapshot, _log, "snapshot_fault")
        handlers: dict[str, Callable[[Any], Any]] = {
            message_kinds.ROWS: self._add_unstored,
            message_kinds.STORED_ROWS: self._apply,
            message_kinds.STORED: self._mark_stored,
            message_kinds.RETRACTED: self._retract,
            message_kinds.UNDELETED: self._unmark,
            message_kinds.DROPPED: self._drop,
        }
        for kind, handler in handlers.items():
            peers.on(kind, self._if_current(handler))
        peers.on(message_kinds.DELETED, sets.mark_deletions)  # also before a snapshot
        peers.on(message_kinds.SNAPSHOT, self._reset)
        peers.on_lost.append(self._note_loss)
        peers.on_join.append(lambda _: self._worker.start())

    def start(self) -> None:
        self._worker.start()

    async def stop(self) -> None:
        """Apply nothing more. Deletions are still acknowledged: nothing recalls from here now."""
        self._is_current = False
        self._peers.on(message_kinds.DELETED, lambda _: None)
        await self._worker.stop()

    async def _request_snapshot(self) -> None:
        """Ask for a snapshot until it comes: the owner may not be ready to hear of it."""
        while not self._is_current:
            self._peers.send(0, message_kinds.JOIN, self._peers.number)
            await asyncio.sleep(_JOIN_EVERY)

    def _note_loss(self) -> None:
        self._is_current = False

    def _if_current(self, handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda value: handler(value) if self._is_current else None

    def _reset(self, snapshot: _Snapshot) -> None:
        if self._is_current:  # it was asked for twice
            return
        self._unstored = {row.seq: row for row in snapshot.rows}
        self._sets.reset(snapshot.rows, snapshot.deletions)
        self._is_current = True
        self._on_snapshot()

    async def _add_unstored(self, rows: Sequence[Row]) -> None:
        self._unstored |= {row.seq: row for row in rows}
        await self._sets.add_unstored(rows)

    async def _apply(self, rows: Sequence[Row]) -> None:
        await self._sets.apply(rows)

    def _mark_stored(self, seqs: Collection[int]) -> None:
        self._sets.mark_stored(self._take(seqs))

    def _retract(self, pairs: Sequence[tuple[int, str]]) -> None:
        self._sets.retract(self._take([seq for seq, _ in pairs]))
        self._sets.drop({scope for _, scope in pairs})

    def _take(self, seqs: Collection[int]) -> list[Row]:
        return [self._unstored.pop(seq) for seq in seqs if seq in self._unstored]

    def _unmark(self, value: tuple[str, Sequence[str]]) -> None:
        self._sets.unmark(*value)

    def _drop(self, scopes: Sequence[str]) -> None:
        self._sets.drop(scopes)
