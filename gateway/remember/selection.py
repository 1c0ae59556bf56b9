"""Which memories somebody means: a tenant's, a user's, a conversation's, or some by their ids."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway.store.memories import MemoryStore
from gateway.store.registry import Registry
from gateway.turn import Record, Scope, ScopeKind

__all__ = ["Selection", "chosen", "scopes_of"]

_SHARED = (ScopeKind.AGENT, ScopeKind.PUBLIC)  # hold copies of what users said


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is None or empty does not narrow it. `tenant` None: all tenants."""

    tenant: str | None = None
    user: str | None = None
    session: str | None = None
    ids: frozenset[str] = frozenset()

    @property
    def is_everything(self) -> bool:
        """True if it is a whole tenant, or all."""
        return not (self.user or self.session or self.ids)

    @property
    def is_whole(self) -> bool:
        """True if it is all of somebody's, whoever that is: no single conversation and no single memories."""
        return not (self.session or self.ids)

    def takes(self, scope: Scope, record: Record) -> bool:
        if self.user is not None and self.user not in (scope.owner, record.user_id):
            return False
        if self.session is not None and record.session_id != self.session:
            return False
        return not self.ids or record.id in self.ids


async def scopes_of(selection: Selection, registry: Registry) -> list[Scope]:
    """Where to look: a user's own scopes, and those that may hold copies of what the user said. Raises
    RegistryFailed."""
    known = await registry.all_scopes(selection.tenant)
    if selection.user is None:
        return known
    return [scope for scope in known if scope.owner == selection.user or scope.kind in _SHARED]


async def chosen(
    selection: Selection, store: MemoryStore, registry: Registry
) -> AsyncIterator[tuple[Scope, list[Record]]]:
    """The memories, scope by scope, each in the order it was remembered. Raises RegistryFailed or StoreFailed."""
    for scope in await scopes_of(selection, registry):
        loaded = await store.load(scope)
        records = await asyncio.to_thread(loaded.records)
        wanted = [record for record in records if selection.takes(scope, record)]
        if wanted:
            yield scope, wanted
