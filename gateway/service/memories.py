"""The memory service: looks up memories by id, conversation or filter (no search), and adds, changes and deletes them.

Reads wait until all earlier writes can be found. A look-up by id covers all scopes; callers get only memories that
their key may touch, and a foreign id is answered as an unknown one.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from gateway.concurrency.listeners import Listener, notify
from gateway.errors import MemoryUnavailable, NotFound
from gateway.identity import may_touch
from gateway.memory.cascade import (
    Cascade,
    Deletion,
    cascade_delete,
    cascade_update,
    mark_for_extraction,
    next_version,
)
from gateway.memory.edits import Edit, apply_edit, tombstone
from gateway.memory.filters import plain_id
from gateway.memory.kinds import kind_of
from gateway.memory.record import Record
from gateway.memory.versions import earlier_text, undo, valid_to, version_chain
from gateway.recall.startup import Startup
from gateway.storage.errors import StorageError
from gateway.storage.protocols import MemoryTable, Registry
from gateway.turn import Principal, Scope, Turn

if TYPE_CHECKING:
    from gateway.recall.working_set import WorkingSet
    from gateway.recall.working_sets import WorkingSets

__all__ = ["MemoryService", "Outdated"]

_PATIENCE = 5.0  # seconds that a look-up waits for earlier writes
_MAX_BEGINNING = 200  # ids that a prefix is compared with
_MAX_GROUPED_CHANGES = 500  # changes of one journal entry group

RecordFilter = Callable[[Record], bool]
Add = Callable[[Turn, Sequence[Record], float], Awaitable[list[Record]]]
Change = Callable[[Sequence[Record]], Awaitable[object]]


class Outdated(Exception):
    """Raised when a record that a change rests on has a newer version; nothing was changed."""


class MemoryService:
    """Reads and changes of stored memories.

    `ready` is called when the store is loaded; before that, every method waits as `startup` says, and then raises
    MemoryUnavailable. `add` stores new records, `change` commits new versions of stored ones; `searchable` waits
    until they can be found, `drained` until they are in the store; `on_change` are called with the scopes then.
    `change_lock`: one for the memories of some scopes, which other processes respect, too; it raises MemoryUnavailable.
    """

    def __init__(
        self,
        store: MemoryTable,
        registry: Registry,
        add: Add,
        change: Change,
        *,
        searchable: Callable[[float], Awaitable[bool]],
        drained: Callable[[float], Awaitable[bool]],
        on_change: Sequence[Listener[Collection[str]]],
        startup: Startup,
        change_lock: Callable[[Collection[str]], AbstractAsyncContextManager[None]] | None = None,
    ) -> None:
        self._startup = startup
        self._store = store
        self._registry = registry
        self._add = add
        self._change = change
        self._searchable = searchable
        self._drained = drained
        self._on_change = on_change
        self._sets: WorkingSets | None = None
        own_lock = asyncio.Lock()
        # serialises updates and deletions of one memory
        self._change_lock = change_lock or (lambda _: own_lock)

    def ready(self, sets: "WorkingSets") -> None:
        self._sets = sets

    async def records(self, scope: Scope, allows: RecordFilter | None = None) -> list[Record]:
        """All memories of a scope that a filter allows, archived ones included, oldest first."""
        sets = await self._current()
        with _readable():
            working_set = await sets.whole(scope)
        return await sets.records(working_set, allows)

    async def known(self, scope: Scope, memory_ids: Collection[str]) -> list[Record]:
        """Those of a scope's memories that have these ids, in their order. Raises MemoryUnavailable."""
        records = await self._by_ids(await self._current(), memory_ids)
        return [record for record in records.values() if record.scope == scope.value]

    async def _by_ids(self, sets: "WorkingSets", memory_ids: Iterable[str]) -> dict[str, Record]:
        """Memories of these ids, in their order and from all scopes, without deleted ones. Raises MemoryUnavailable."""
        ids = list(dict.fromkeys(memory_ids))
        by_id = await sets.find(ids)
        by_id |= {record.id: record for record in await self._load_records([id_ for id_ in ids if id_ not in by_id])}
        records = [by_id[id_] for id_ in ids if id_ in by_id]
        return {
            record.id: record for record in records if record.status != "deleted" and not sets.is_marked_deleted(record)
        }

    async def _load_records(self, memory_ids: Sequence[str]) -> list[Record]:
        with _readable():
            return await self._store.find(memory_ids)

    async def deleted(self, records: Sequence[Record]) -> dict[str, tuple[int, bool]]:
        """By the id of each deleted one of these records: the version of the deletion, and True if it was deleted
        directly, False if along with a message. Raises MemoryUnavailable."""
        await self._drained(_PATIENCE)
        with _readable():
            deletions = await self._store.deleted(records)
        return {id_: (version, bool(links)) for id_, (version, links) in deletions.items()}

    async def profile(self, scope: Scope) -> list[Record]:
        """The standing preferences and facts about the user that are in force in a scope."""
        return await self._read(scope, lambda working_set: [memory.record for memory in working_set.profile()])

    async def conversation(self, scope: Scope, session_id: str, limit: int) -> list[Record]:
        """The newest `limit` records of a conversation, oldest first."""
        return await self._read(scope, lambda working_set: working_set.latest(session_id, limit))

    async def _read(self, scope: Scope, look: "Callable[[WorkingSet], list[Record]]") -> list[Record]:
        sets = await self._current()
        with _readable():
            working_set = await sets.whole(scope)
        return await sets.run(lambda: look(working_set))

    async def find(self, principal: Principal, memory_ids: Sequence[str]) -> list[Record]:
        """Memories by id that the holder of the key may touch, in the order of the ids."""
        sets = await self._current()
        records = (await self._by_ids(sets, map(plain_id, memory_ids))).values()
        scopes = [await self._registry.scope(record.scope) for record in records]
        return [
            record
            for record, scope in zip(records, scopes, strict=True)
            if scope is not None and may_touch(principal, scope)
        ]

    async def beginning(self, principal: Principal, prefix: str) -> list[Record]:
        """Some memories whose ids have a prefix, of those that the key may touch. Raises MemoryUnavailable."""
        await self._loaded()
        await self._drained(_PATIENCE)
        with _readable():
            ids = await self._store.find_ids(prefix, _MAX_BEGINNING)
        return await self.find(principal, ids)

    async def versions(self, memory_ids: Sequence[str]) -> dict[str, int]:
        """The current versions of memories, without deleted ones. Raises MemoryUnavailable."""
        records = await self._by_ids(await self._loaded(), memory_ids)
        return {id_: record.version for id_, record in records.items()}

    async def delete(self, records: Iterable[Record]) -> int:
        """Delete memories and the records derived from them. Recall omits them at once. Returns how many."""
        records = list(records)
        async with self._change_lock(_scopes_of(records)):
            return await self._delete(await self._current(is_change=True), records)

    async def delete_file(self, scope: Scope, file_id: str) -> int:
        """Delete the memories of a file."""
        return await self.delete(await self.records(scope, lambda record: file_id in record.origin.file_ids))

    async def expire(self, records: Sequence[Record]) -> int:
        """Delete expired memories, without a cascade. Returns how many. Raises MemoryUnavailable, also if the store
        does not have the deletions yet: a caller that asks it for the next ones would get these again."""
        async with self._change_lock(_scopes_of(records)):
            count = await self._erase(await self._current(is_change=True), records, [])
        if not await self._drained(_PATIENCE):
            raise MemoryUnavailable("the memories are deleted, but still in the store")
        return count

    async def preview_deletion(self, records: Iterable[Record]) -> Deletion:
        """What `remove` would do now. Raises MemoryUnavailable."""
        current = await self._by_ids(await self._current(), [record.id for record in records])
        return Deletion.of(current, await self._find_cascade(current.values()))

    async def remove(self, records: Iterable[Record]) -> Deletion:
        """Delete those of the memories that still exist, as `delete` does, and return all effects."""
        records = list(records)
        async with self._change_lock(_scopes_of(records)):
            sets = await self._current(is_change=True)
            current = await self._by_ids(sets, [record.id for record in records])
            cascade = await self._find_cascade(current.values())
            await self._erase(sets, cascade.deleted, cascade.updated)
            return Deletion.of(current, cascade)

    async def _delete(self, sets: "WorkingSets", records: Iterable[Record]) -> int:
        cascade = await self._find_cascade(records)
        return await self._erase(sets, cascade.deleted, cascade.updated)

    async def _find_cascade(self, records: Iterable[Record]) -> Cascade:
        """The effects of deleting memories of any scopes."""
        by_scope: dict[str, list[Record]] = {}
        for record in records:
            by_scope.setdefault(record.scope, []).append(record)
        now, updated, deleted = time.time(), list[Record](), list[Record]()
        for value, members in by_scope.items():
            # no records are derived from chunks of files
            is_of_files = all(kind_of(record.kind).is_file_chunk for record in members)
            cascade = Cascade((), tuple(members))
            if not is_of_files:
                records_of_scope = await self._all(value)
                by_id = {record.id: record for record in records_of_scope}
                current = [by_id.get(record.id, record) for record in members]  # changed since they were read
                cascade = await asyncio.to_thread(cascade_delete, current, records_of_scope, now)
            updated += cascade.updated
            deleted += cascade.deleted
        return Cascade(tuple(updated), tuple(deleted))

    async def _all(self, value: str) -> list[Record]:
        scope = await self._registry.scope(value)
        return [] if scope is None else await self.records(scope)

    async def _erase(self, sets: "WorkingSets", members: Sequence[Record], updated: Sequence[Record]) -> int:
        """Commit the updates, then delete the members in this order, so that an interrupted deletion can be repeated.
        Returns how many were deleted."""
        now = time.time()
        changes = [*updated, *(tombstone(record, now) for record in members)]
        await sets.mark_deleted(members)  # before their tombstones can be stored, which ends the mark
        try:
            await self._commit_groups(changes)
        except BaseException:
            sets.unmark_deleted(members)
            raise
        await self._notify(changes)
        return len(members)

    async def add(self, turn: Turn, records: Sequence[Record], same_within: float = 0.0) -> list[Record]:
        """Store new memories durably, after the plugins' store hook. Returns them as stored: long texts in chunks, with
        the preferences that they state. `same_within`: seconds within which another gateway may have stored the same
        for a client that retries. Raises MemoryUnavailable or PluginUnavailable."""
        try:
            return await self._add(turn, records, same_within)
        except StorageError as error:
            raise MemoryUnavailable("the memories could not be written; nothing was stored; try again") from error
        except TimeoutError as error:
            raise MemoryUnavailable(
                "the memories could not be written in time; they may or may not be stored"
            ) from error

    async def edit(
        self,
        record: Record,
        *,
        text: str | None = None,
        title: str | None = None,
        status: str | None = None,
        version: int | None = None,
    ) -> Record:
        """Change the text or title of a memory, and its status with it (activated, resolving or archived). Its earlier
        text is archived, and so are the records derived from that. Raises NotFound if the memory was deleted meanwhile,
        and Outdated if it is not of this `version` any more.
        """
        return await self._change_record(record, Edit(text=text, title=title, status=status, version=version))

    async def archive(self, record: Record) -> Record:
        """Archive a memory on request: it is listed, but never recalled. Raises NotFound as `edit`."""
        return await self._change_record(record, Edit(status="archived"))

    async def restore(self, record: Record) -> Record:
        """Make an archived memory valid again. Raises NotFound as `edit`."""
        return await self._change_record(record, Edit(status="activated"))

    async def supersede(self, record: Record, successor_id: str) -> Record:
        """Archive a memory as superseded by another. Raises NotFound as `edit`."""
        return await self._change_record(record, Edit(status="archived", successor_id=successor_id))

    async def _change_record(self, record: Record, edit: Edit) -> Record:
        """Write a new version of a memory, with all that follows from it; it can be found when this returns."""
        async with self._change_lock([record.scope]):
            sets = await self._current(is_change=True)
            record = await self._reload(sets, record)
            if edit.version not in (None, record.version):
                raise Outdated
            now = time.time()
            changed = apply_edit(record, edit, now)
            before = [earlier_text(record, now)] if changed.text != record.text else []
            derived = await asyncio.to_thread(cascade_update, record, changed, await self._all(record.scope), now)
            await self._commit_all([changed, *before, *derived])
            return changed

    async def history(self, record: Record) -> list[Record]:
        """A memory with all that it superseded and that superseded it, oldest first."""
        return await asyncio.to_thread(version_chain, record.id, await self._all(record.scope))

    async def undo(self, record: Record) -> list[Record]:
        """Undo the last change of a memory. Returns the changed records; none if there was nothing to undo."""
        async with self._change_lock([record.scope]):
            sets = await self._current(is_change=True)
            now, records = time.time(), await self._all(record.scope)
            line = {member.id: member for member in await asyncio.to_thread(version_chain, record.id, records)}
            undone = undo(line[record.id], list(line.values()), now) if record.id in line else []
            changed = [next_version(member, now) for member in undone if not sets.is_marked_deleted(member)]
            changed = [mark_for_extraction(new) if new.text != line[new.id].text else new for new in changed]
            edits = {new.lineage.edit_of: valid_to(line[new.id]) for new in changed if new.lineage.edit_of}
            derived: dict[str, Record] = {}
            for new in changed:
                updates = await asyncio.to_thread(cascade_update, line[new.id], new, records, now, edits.get(new.id))
                derived |= {update.id: update for update in updates if update.id not in line}
            await self._commit_all([*changed, *derived.values()])
            return changed

    async def revise(
        self, records: Sequence[Record], added: Sequence[Record] = (), seen: Collection[Record] | None = None
    ) -> list[Record]:
        """Write new versions of memories, and new ones with them; memories that were changed or deleted meanwhile are
        left out. With `seen` (the records that the change rests on) all is done or nothing: raises
        Outdated if any of these has changed. They can be found when this returns. Raises MemoryUnavailable."""
        async with self._change_lock(_scopes_of([*records, *added, *(seen or ())])):
            sets = await self._current(is_change=True)
            versions = await self.versions([record.id for record in (*records, *(seen or ()))])
            now = time.time()
            changed = [
                next_version(record, now)
                for record in records
                if versions.get(record.id) == record.version and not sets.is_marked_deleted(record)
            ]
            is_same = all(versions.get(record.id) == record.version for record in seen or ())
            if seen is not None and (not is_same or len(changed) < len(records)):
                raise Outdated
            await self._commit_all([*added, *changed])
            return changed

    @asynccontextmanager
    async def unchanged(self, seen: Sequence[Record]) -> AsyncIterator[None]:
        """Blocks changes while the body writes records that rest on these; raises Outdated if any of them has changed
        already. Raises MemoryUnavailable."""
        async with self._change_lock(_scopes_of(seen)):
            await self._current(is_change=True)
            versions = await self.versions([record.id for record in seen])
            if any(versions.get(record.id) != record.version for record in seen):
                raise Outdated
            yield

    async def _reload(self, sets: "WorkingSets", record: Record) -> Record:
        """The current version of a record. Raises NotFound if it was deleted."""
        current = (await self._by_ids(sets, [record.id])).get(record.id)
        if current is None:
            raise NotFound("there is no memory of this id")
        return current

    async def _commit_all(self, records: Sequence[Record]) -> None:
        await self._commit_groups(records)
        await self._searchable(_PATIENCE)
        await self._notify(records)

    async def _commit_groups(self, records: Sequence[Record]) -> None:
        for begin in range(0, len(records), _MAX_GROUPED_CHANGES):
            await self._commit(records[begin : begin + _MAX_GROUPED_CHANGES])

    async def _notify(self, records: Iterable[Record]) -> None:
        await notify(self._on_change, _scopes_of(records))

    async def _commit(self, records: Sequence[Record]) -> None:
        try:
            await self._change(records)
        except StorageError as error:
            raise MemoryUnavailable("the change could not be written; nothing was changed; try again") from error
        except TimeoutError as error:
            raise MemoryUnavailable(
                "the change could not be written in time; it may or may not have been made"
            ) from error

    async def _loaded(self) -> "WorkingSets":
        """The working sets, once the store is loaded. Raises MemoryUnavailable."""
        await self._startup.wait()
        if self._sets is None:
            raise self._startup.error()
        return self._sets

    async def _current(self, *, is_change: bool = False) -> "WorkingSets":
        """The working sets with all earlier writes. For a change, raises MemoryUnavailable if some are missing."""
        sets = await self._loaded()
        if not await self._searchable(_PATIENCE) and is_change:
            raise MemoryUnavailable("earlier writes are not searchable yet; nothing was changed; try again")
        return sets


@contextmanager
def _readable() -> Iterator[None]:
    """Report a failure of the store as one of reading. Raises MemoryUnavailable."""
    try:
        yield
    except StorageError as error:
        raise MemoryUnavailable("the memory cannot be read now; try again") from error


def _scopes_of(records: Iterable[Record]) -> set[str]:
    return {record.scope for record in records}
