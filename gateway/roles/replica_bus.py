"""The bus of a replica: its messages are rows in the database that all replicas share."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final, Protocol

from gateway.bus import Bus
from gateway.concurrency.worker import Backoff, RepeatingWorker
from gateway.errors import MemoryUnavailable
from gateway.pipeline.background import BackgroundTasks
from gateway.storage.cluster import ClusterStorage
from gateway.storage.errors import StorageError, failure_name

__all__ = ["MailBox", "ReplicaBus", "build_bus"]

_log = logging.getLogger("gateway.memory")
_POLL: Final = 0.05  # seconds
_GRACE: Final = 3.0  # seconds beyond the length of a lease: then a replica that ended is no longer waited for
_SWEEP_EVERY: Final = 600.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 3.0


class MailBox(Protocol):
    """Messages in a table. Every method raises StorageError."""

    async def send(self, recipients: Collection[str], kind: str, value: Any) -> dict[int, str]:
        """Send a message. Returns its recipients by the numbers of their rows."""

    async def pending(self, numbers: Collection[int]) -> set[int]:
        """Those of these rows that their recipients have not acted on."""

    async def withdraw(self, numbers: Collection[int]) -> None:
        """Delete rows."""

    async def take(self, excluded: Collection[int]) -> list[tuple[int, str, Any]]:
        """The messages to this replica in order: number, kind and value. Waits for them for a while."""

    async def done(self, number: int) -> None:
        """This replica has acted on a message."""

    async def sweep(self) -> None:
        """Delete messages to replicas that ended long ago."""


class ReplicaBus(Bus):
    """Sends and handles messages by a mail box. `owner`: the name of this replica; `owners` returns those of the
    replicas that run; `lease_seconds`: after which one that ended is none of them any more."""

    is_shared = True

    def __init__(
        self, mail: MailBox, owner: str, owners: Callable[[], Awaitable[Collection[str]]], *, lease_seconds: float
    ) -> None:
        super().__init__()
        self._mail = mail
        self._owner = owner
        self._owners = owners
        self._lease_seconds = lease_seconds
        self._tasks = BackgroundTasks()
        self._acting: set[int] = set()  # messages whose slow handlers run
        self._swept_at = time.monotonic()
        self._pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._worker = RepeatingWorker("replica-bus", self._work, _log, "replica_bus_fault", pauses=self._pauses)

    def start(self) -> None:
        """Begin to act on messages. The mail is open."""
        self._worker.start()

    async def stop(self) -> None:
        await self._tasks.stop(_GRACE)
        await self._worker.stop()

    def publish(self, kind: str, value: Any) -> None:
        self._tasks.run(self._publish(kind, value))

    async def require_all(self, kind: str, value: Any) -> None:
        try:
            recipients = await self._others()
            numbers = await self._mail.send(recipients, kind, value)
            await self._wait(numbers, kind, self._lease_seconds + _GRACE)
        except StorageError as error:
            raise MemoryUnavailable(f"other gateways could not be reached ({error}); try again") from error

    async def require(self, recipient: str, kind: str, value: Any, timeout: float) -> None:
        try:
            await self._wait(await self._mail.send([recipient], kind, value), kind, timeout)
            if recipient not in await self._owners():
                raise MemoryUnavailable("the gateway that was asked has ended; try again")
        except StorageError as error:
            raise MemoryUnavailable(f"another gateway could not be reached ({error}); try again") from error

    async def _others(self) -> set[str]:
        return set(await self._owners()) - {self._owner}

    async def _wait(self, numbers: dict[int, str], kind: str, timeout: float) -> None:
        """Wait until the recipients have acted, or have ended."""
        deadline = time.monotonic() + timeout
        pause = _POLL
        while numbers:
            pending = await self._mail.pending(numbers)
            numbers = {number: recipient for number, recipient in numbers.items() if number in pending}
            if not numbers:
                return
            others = await self._others()
            ended = {number for number, recipient in numbers.items() if recipient not in others}
            await self._mail.withdraw(ended)
            numbers = {number: recipient for number, recipient in numbers.items() if number not in ended}
            if numbers and time.monotonic() > deadline:
                _log.warning("replica_silent", extra={"kind": kind, "count": len(numbers)})
                await self._mail.withdraw(numbers)
                raise MemoryUnavailable("another gateway of the cluster does not answer; try again")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.5)

    async def _publish(self, kind: str, value: Any) -> None:
        try:
            await self._mail.send(await self._others(), kind, value)
        except StorageError as error:
            _log.warning("message_not_sent", extra={"kind": kind, "cause": str(error)})

    async def _work(self) -> None:
        try:
            for number, kind, value in await self._mail.take(self._acting):
                if kind in self._slow:
                    self._acting.add(number)
                    self._tasks.run(self._act_slowly(number, kind, value))
                else:
                    await self._act(number, kind, value)
            self._pauses.reset()
            if time.monotonic() - self._swept_at >= _SWEEP_EVERY:
                self._swept_at = time.monotonic()
                await self._mail.sweep()
        except (StorageError, MemoryUnavailable) as error:
            seconds = self._pauses.next()
            _log.warning("messages_not_read", extra={"cause": failure_name(error), "detail": str(error)})
            await asyncio.sleep(seconds)

    async def _act_slowly(self, number: int, kind: str, value: Any) -> None:
        try:
            await self._act(number, kind, value)
        except (StorageError, MemoryUnavailable) as error:
            _log.warning("message_not_handled", extra={"kind": kind, "cause": str(error)})
            await asyncio.sleep(_LONGEST_PAUSE)
        finally:
            self._acting.discard(number)  # it is taken again, unless it is done

    async def _act(self, number: int, kind: str, value: Any) -> None:
        """Act on a message. Raises MemoryUnavailable and StorageError: it is taken again then."""
        handler = self._handlers.get(kind)  # None: of a later version
        try:
            result = None if handler is None else handler(value)
            if result is not None:
                await result
        except (StorageError, MemoryUnavailable):
            raise
        except Exception:  # noqa: BLE001 — one message must not stop the others; it is logged whole
            _log.exception("replica_bus_fault")
        await self._mail.done(number)


def build_bus(storage: ClusterStorage, lease_seconds: float) -> ReplicaBus:
    """The bus of the replica with this storage."""
    return ReplicaBus(storage.mail, storage.leases.owner, storage.owners, lease_seconds=lease_seconds)
