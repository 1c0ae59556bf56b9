"""Selects memories for deletion and export: by tenant, user, conversation or id."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway.memory.record import Record
from gateway.storage.protocols import MemoryTable, Registry
from gateway.storage.rows import LoadedRows
from gateway.turn import Scope, ScopeKind

__all__ = ["MemorySelection", "SelectedRows", "scopes_of", "selected_memories", "selected_rows"]

_SHARED = (ScopeKind.AGENT, ScopeKind.PUBLIC)  # may contain copies of users' messages


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySelection:
    """Criteria of a selection; None or empty does not restrict it. `tenant` None: all tenants."""

    tenant: str | None = None
    user: str | None = None
    session: str | None = None
    ids: frozenset[str] = frozenset()

    @property
    def is_everything(self) -> bool:
        """True for a whole tenant, or all tenants."""
        return not (self.user or self.session or self.ids)

    @property
    def is_whole(self) -> bool:
        """True for all memories of a user, a tenant or everything: no single conversation and no single memories."""
        return not (self.session or self.ids)

    def takes(self, scope: Scope, record: Record) -> bool:
        if self.user is not None and self.user not in (scope.owner, record.user_id):
            return False
        if self.session is not None and record.session_id != self.session:
            return False
        return not self.ids or record.id in self.ids


async def scopes_of(selection: MemorySelection, registry: Registry) -> list[Scope]:
    """The scopes to search: a user's own, and those that may contain copies of the user's messages. Raises
    StorageError."""
    scopes = await registry.scopes(selection.tenant)
    if selection.user is None:
        return scopes
    return [scope for scope in scopes if scope.owner == selection.user or scope.kind in _SHARED]


@dataclass(frozen=True, slots=True)
class SelectedRows:
    """The selected memories of a scope in the order of storage, with the numbers of their rows."""

    scope: Scope
    loaded: LoadedRows
    numbers: list[int]
    records: list[Record]


async def selected_rows(
    selection: MemorySelection, store: MemoryTable, registry: Registry
) -> AsyncIterator[SelectedRows]:
    """The selected memories by scope. Raises StorageError."""
    for scope in await scopes_of(selection, registry):
        loaded = await store.load(scope)
        selected = await asyncio.to_thread(_select, selection, scope, loaded)
        if selected.numbers:
            yield selected


def _select(selection: MemorySelection, scope: Scope, loaded: LoadedRows) -> SelectedRows:
    records = loaded.records()
    numbers = [number for number, record in enumerate(records) if selection.takes(scope, record)]
    return SelectedRows(scope, loaded, numbers, [records[number] for number in numbers])


async def selected_memories(
    selection: MemorySelection, store: MemoryTable, registry: Registry
) -> AsyncIterator[tuple[Scope, list[Record]]]:
    """The selected memories by scope, each in the order of storage. Raises StorageError."""
    async for selected in selected_rows(selection, store, registry):
        yield selected.scope, selected.records
