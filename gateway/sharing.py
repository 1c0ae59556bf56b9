"""The memory of several workers: what that of the store's owner, and those of the others, tell each other beside the
changes of working sets (`recall.shared_sets`)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final, Protocol

from gateway.concurrency.listeners import Listener, notify
from gateway.concurrency.worker import Backoff, RepeatingWorker, Worker
from gateway.prompt.pinned import PinnedBlocks
from gateway.storage.errors import StorageError
from gateway.storage.protocols import RecordLog, Registry
from gateway.workers.peers import DELETED, Peers, PeerUnavailable

__all__ = ["FollowerLink", "OwnerLink", "share_blocks"]

_log = logging.getLogger("gateway.memory")
_APPENDED, _SEARCHABLE, _BACKLOG = "appended", "searchable", "backlog"
_CHANGED, _SCOPES_DROPPED, _BLOCK = "changed", "scopes-dropped", "block"
_APPLY_TIMEOUT: Final = 3.0  # seconds that a worker may take to note a change of memories
_BACKLOG_EVERY: Final = 1.0  # seconds
_CATCH_UP_PAUSE: Final = 0.5  # seconds until the journal is read again after a failure

Wait = Callable[[float, int | None], Awaitable[bool]]
"""Waits, at most some seconds, until the journal can be found up to a number (None: all of it)."""


class _Parts(Protocol):
    @property
    def journal(self) -> RecordLog: ...

    @property
    def registry(self) -> Registry: ...


class OwnerLink:
    """The owner's side. `searchable` waits for the writer."""

    def __init__(self, peers: Peers, parts: _Parts, searchable: Wait) -> None:
        self._peers = peers
        self._journal = parts.journal
        self._searchable = searchable
        self._worker = Worker("journal-catch-up", self._catch_up, _log, "journal_catch_up_failed")
        self._is_behind = False
        peers.on(_APPENDED, self._note_append)
        peers.on(_SEARCHABLE, lambda question: searchable(*question), is_slow=True)
        peers.on(_BACKLOG, lambda _: (self._journal.backlog_entries, self._journal.backlog_bytes))
        peers.on_join.append(self._note_append)  # it may have appended while it was not connected
        parts.registry.on_drop.append(lambda: peers.publish(_SCOPES_DROPPED, None))

    async def stop(self) -> None:
        await self._worker.stop()

    async def publish_changes(self, scopes: Collection[str]) -> None:
        """Tell all workers that memories of these scopes were changed, and wait until they have noted it."""
        await self._peers.require_all(_CHANGED, set(scopes), _APPLY_TIMEOUT)

    def _note_append(self, _: int) -> None:
        self._is_behind = True
        self._worker.start()

    async def _catch_up(self) -> None:
        while self._is_behind:
            self._is_behind = False
            try:
                await self._journal.catch_up()
            except StorageError as error:
                _log.warning("journal_catch_up_failed", extra={"cause": str(error)})
                self._is_behind = True  # perhaps nothing is appended for long
                await asyncio.sleep(_CATCH_UP_PAUSE)


class FollowerLink:
    """Another worker's side. `on_change` are called with the scopes whose memories were changed."""

    def __init__(self, peers: Peers, parts: _Parts, on_change: Collection[Listener[Collection[str]]]) -> None:
        self._peers = peers
        self._journal = parts.journal
        self._worker = RepeatingWorker(
            "backlog", self._read_backlog, _log, "backlog_fault", pauses=Backoff(_BACKLOG_EVERY)
        )
        peers.on(_CHANGED, lambda scopes: notify(on_change, scopes))
        peers.on(DELETED, lambda _: None)  # until there are working sets
        peers.on(_SCOPES_DROPPED, lambda _: parts.registry.forget_cached())

    def start(self) -> None:
        self._worker.start()

    async def stop(self) -> None:
        await self._worker.stop()

    def note_append(self) -> None:
        """Tell the owner that the journal has new entries."""
        self._peers.send(0, _APPENDED, self._journal.last_seq)

    async def searchable(self, timeout: float, seq: int | None = None) -> bool:
        """Wait until this worker can find the journal up to a number (None: all of it). False after the timeout."""
        try:
            # the reply comes after all rows that the owner sent before it
            is_searchable: bool = await self._peers.ask(0, _SEARCHABLE, (timeout, seq), timeout)
        except PeerUnavailable:
            return False
        return is_searchable

    async def _read_backlog(self) -> None:
        """The owner alone knows which entries of the journal are stored."""
        await asyncio.sleep(_BACKLOG_EVERY)
        if not self._journal.backlog_bytes:
            return
        try:
            entries, size = await self._peers.ask(0, _BACKLOG, None, _BACKLOG_EVERY)
        except PeerUnavailable:
            return
        self._journal.backlog_entries, self._journal.backlog_bytes = entries, size


def share_blocks(peers: Peers, blocks: PinnedBlocks) -> None:
    """Tell the other workers of injected blocks: a conversation may go on in any of them."""
    peers.on(_BLOCK, lambda entry: blocks.note(*entry))
    blocks.on_keep.append(lambda place, key, block: peers.publish(_BLOCK, (place, key, block)))
