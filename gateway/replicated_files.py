"""Usage and owners of responses in a cluster: replicas share tables, and tell each other what must not stay in RAM."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway import bus_kinds
from gateway.bus import Bus
from gateway.server.shared_owners import LocalOwners
from gateway.storage.protocols import Ledger, Owners
from gateway.storage.values import Owner, UsageRow
from gateway.usage.shared_ledger import LocalLedger

__all__ = ["ReplicatedLedger", "ReplicatedOwners"]

_UNWRITTEN: Final = 0.2  # seconds within which another replica has written an id that a client has


class ReplicatedLedger(Ledger):
    """The ledger of a replica. What others have counted in the last seconds is missing when it is read."""

    def __init__(self, local: LocalLedger, bus: Bus) -> None:
        self._local = local
        self._bus = bus
        bus.on(bus_kinds.USAGE_FLUSH, lambda _: local.flush())

    def note(self, used: UsageRow, *, tenant: str, key: str, user: str, model: str, upstream: str) -> None:
        self._local.note(used, tenant=tenant, key=key, user=user, model=model, upstream=upstream)

    async def read(
        self, by: Sequence[str], *, tenant: str | None, since: float, until: float, only: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        return await self._local.read(by, tenant=tenant, since=since, until=until, only=only)

    async def forget(self, tenant: str | None, user: str | None) -> None:
        """Anonymise the usage of a user, after all replicas have written theirs. Raises MemoryUnavailable or
        StorageError."""
        await self._bus.require_all(bus_kinds.USAGE_FLUSH, None)
        await self._local.forget(tenant, user)


class ReplicatedOwners(Owners):
    """The owners of responses in a replica."""

    def __init__(self, local: LocalOwners, bus: Bus) -> None:
        self._local = local
        self._bus = bus
        bus.on(bus_kinds.RESPONSE_OWNERS_DROP, lambda value: local.drop(*value))
        bus.on_gap.append(local.forget_cached)

    def put(self, id_: str, owner: Owner) -> None:
        self._local.put(id_, owner)

    async def get(self, id_: str) -> Owner | None:
        """The owner of an id. One that is not known is looked for once more: another replica may be writing it."""
        owner = await self._local.get(id_)
        if owner is None:
            await asyncio.sleep(_UNWRITTEN)
            owner = await self._local.get(id_)
        return owner

    async def forget(self, tenant: str | None, user: str | None) -> None:
        """Erase all entries of a user in all replicas. Raises MemoryUnavailable or StorageError."""
        await self._bus.require_all(bus_kinds.RESPONSE_OWNERS_DROP, [tenant, user])
        await self._local.forget(tenant, user)
        # one may have read a row once more before it was erased
        await self._bus.require_all(bus_kinds.RESPONSE_OWNERS_DROP, [tenant, user])
