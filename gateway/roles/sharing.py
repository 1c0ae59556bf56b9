"""Messages between the memory engines of several workers, beside those on working sets (`recall.shared_sets`)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final, Protocol

from gateway.concurrency.listeners import Listener, notify
from gateway.concurrency.worker import Backoff, RepeatingWorker, Worker
from gateway.prompt.pinned import PinnedBlocks
from gateway.storage.errors import StorageError
from gateway.storage.protocols import RecordLog, Registry
from gateway.workers import message_kinds
from gateway.workers.peers import Peers, PeerUnavailable

__all__ = ["FollowerLink", "OwnerLink", "share_blocks"]

_log = logging.getLogger("gateway.memory")
_APPLY_TIMEOUT: Final = 3.0  # seconds that a worker may take to apply a change of memories
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
    """The engine of the owner: it publishes changes, and answers the questions of followers. `searchable` waits for the
    writer."""

    def __init__(self, peers: Peers, parts: _Parts, searchable: Wait) -> None:
        self._peers = peers
        self._journal = parts.journal
        self._worker = Worker("journal-catch-up", self._catch_up, _log, "journal_catch_up_failed")
        self._is_behind = False
        peers.on(message_kinds.APPENDED, self._note_append)
        peers.on(message_kinds.SEARCHABLE, lambda question: searchable(*question), is_slow=True)
        peers.on(message_kinds.BACKLOG, lambda _: (self._journal.backlog_entries, self._journal.backlog_bytes))
        peers.on_join.append(self._note_append)  # it may have appended while it was not connected
        parts.registry.on_drop.append(lambda: peers.publish(message_kinds.SCOPES_DROPPED, None))

    async def stop(self) -> None:
        await self._worker.stop()

    async def publish_changes(self, scopes: Collection[str]) -> None:
        """Tell all workers that memories of these scopes were changed, and wait until they have dropped what depends on
        them."""
        await self._peers.require_all(message_kinds.CHANGED, set(scopes), _APPLY_TIMEOUT)

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
    """The engine of a follower: it tells the owner of its writes, and passes changes on: `on_change` are called with
    the scopes whose memories were changed."""

    def __init__(self, peers: Peers, parts: _Parts, on_change: Collection[Listener[Collection[str]]]) -> None:
        self._peers = peers
        self._journal = parts.journal
        self._worker = RepeatingWorker(
            "backlog", self._read_backlog, _log, "backlog_fault", pauses=Backoff(_BACKLOG_EVERY)
        )
        peers.on(message_kinds.CHANGED, lambda scopes: notify(on_change, scopes))
        peers.on(
            message_kinds.DELETED, lambda _: None
        )  # replaced with the working sets, which begin with all deletions
        peers.on(message_kinds.SCOPES_DROPPED, lambda _: parts.registry.forget_cached())

    def start(self) -> None:
        self._worker.start()

    async def stop(self) -> None:
        await self._worker.stop()

    def note_append(self) -> None:
        """Tell the owner that the journal has new entries."""
        self._peers.send(0, message_kinds.APPENDED, self._journal.last_seq)

    async def searchable(self, timeout: float, seq: int | None = None) -> bool:
        """Wait until this worker can find the journal up to a number (None: all of it). False after the timeout."""
        try:
            # the reply comes after all rows that the owner sent before it
            is_searchable: bool = await self._peers.ask(0, message_kinds.SEARCHABLE, (timeout, seq), timeout)
        except PeerUnavailable:
            return False
        return is_searchable

    async def _read_backlog(self) -> None:
        """The owner alone knows which entries of the journal are stored."""
        await asyncio.sleep(_BACKLOG_EVERY)
        if not self._journal.backlog_bytes:
            return
        try:
            entries, size = await self._peers.ask(0, message_kinds.BACKLOG, None, _BACKLOG_EVERY)
        except PeerUnavailable:
            return
        self._journal.backlog_entries, self._journal.backlog_bytes = entries, size


def share_blocks(peers: Peers, blocks: PinnedBlocks) -> None:
    """Send injected blocks to the other workers: a conversation may go on in any of them."""
    peers.on(message_kinds.BLOCK, lambda entry: blocks.note(*entry))
    blocks.on_keep.append(lambda place, key, block: peers.publish(message_kinds.BLOCK, (place, key, block)))
