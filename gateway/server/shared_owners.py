"""Owners of stored responses that all workers know: an id that is not on the disk yet is asked for."""

from typing import Any, Final, Protocol

from gateway.storage.protocols import Owners
from gateway.storage.values import Owner
from gateway.workers import message_kinds
from gateway.workers.peers import Peers, PeerUnavailable

__all__ = ["LocalOwners", "SharedOwners"]

_ASK_TIMEOUT: Final = 1.0  # seconds that the owner of the store waits for the other workers
_TIMEOUT: Final = 2.0
_DROP_TIMEOUT: Final = 6.0


class LocalOwners(Owners, Protocol):
    """The owners that one process knows."""

    def recent(self, id_: str) -> Owner | None:
        """The owner of an id, if it is in RAM."""

    async def drop(self, tenant: str | None, user: str | None) -> None:
        """Drop entries from RAM only, and end writing them."""

    def forget_cached(self) -> None:
        """Read owners again, since another process may have erased some."""


class SharedOwners:
    """The owners of responses in one of several workers. Construct it before the peers start.

    An id of an upstream reaches the client before its row is on the disk. So before an id counts as unknown, all
    workers are asked for it.
    """

    def __init__(self, local: LocalOwners, peers: Peers) -> None:
        self._local = local
        self._peers = peers
        peers.on(message_kinds.RECENT_RESPONSE_OWNER, local.recent)
        peers.on(message_kinds.RESPONSE_OWNER, self.get, is_slow=True)
        peers.on(message_kinds.RESPONSE_OWNERS_DROP, self._drop, is_slow=True)

    def put(self, id_: str, owner: Owner) -> None:
        """Set an owner; it is written to the disk in the background."""
        self._local.put(id_, owner)

    async def get(self, id_: str) -> Owner | None:
        """The owner of an id that any worker knows; None if none does."""
        owner = await self._local.get(id_)
        if owner is not None:
            return owner
        if self._peers.is_owner:
            replies = await self._peers.ask_all(message_kinds.RECENT_RESPONSE_OWNER, id_, _ASK_TIMEOUT)
            return next((owner for owner in replies.values() if owner is not None), None)
        try:
            reply: Owner | None = await self._peers.ask(0, message_kinds.RESPONSE_OWNER, id_, _TIMEOUT)
        except PeerUnavailable:
            return None
        return reply

    async def forget(self, tenant: str | None, user: str | None) -> None:
        """Erase all entries of a user (None: of all users) in all workers. Raises StorageError."""
        await self._peers.require_all(message_kinds.RESPONSE_OWNERS_DROP, (tenant, user), _DROP_TIMEOUT)
        await self._local.forget(tenant, user)
        # one may have read a row once more before it was erased
        await self._peers.require_all(message_kinds.RESPONSE_OWNERS_DROP, (tenant, user), _DROP_TIMEOUT)

    async def _drop(self, value: tuple[Any, Any]) -> None:
        await self._local.drop(*value)
