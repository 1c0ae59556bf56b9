"""The library: memories looked up, not searched: by id, by conversation, by filter; and taken out or changed.

Reading waits until what was written before can be found. By id a memory is found in whatever scope; who asks is told
only of those that are theirs, and a foreign id is answered as an unknown one.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.errors import MemoryUnavailable, NotFound
from gateway.identity import may_touch
from gateway.recall.cascade import Fallen, fallen, followed, next_version, to_be_learnt_from
from gateway.recall.startup import Startup
from gateway.store.filters import file_ids, plain_id
from gateway.store.journal import JournalFailed
from gateway.store.lineage import (
    EDIT_OF,
    EDITED,
    HELD,
    HELD_SINCE,
    chain,
    edited,
    held_since,
    held_until,
    put_away,
    revived,
    undone,
)
from gateway.store.lookup import ids_beginning
from gateway.store.memories import MemoryStore, StoreFailed
from gateway.store.registry import Registry
from gateway.turn import Principal, Record, Scope

if TYPE_CHECKING:
    from gateway.recall.working_set import WorkingSet
    from gateway.recall.working_sets import WorkingSets

__all__ = ["Library", "Outdated"]

_PATIENCE = 5.0  # seconds that a look-up waits for what was written before
_MAX_BEGINNING = 200  # ids that a prefix is compared with
_AT_ONCE = 500  # changes of one journal entry group

Filter = Callable[[Record], bool]
Change = Callable[[Sequence[Record]], Awaitable[None]]


class Outdated(Exception):
    """Something that a change rests on is another now; nothing was changed."""


class Library:
    """`ready` is called when the store is loaded; before, every method waits as `startup` says, and then raises
    MemoryUnavailable.

    `change` commits new versions of records; `drained` waits until they can be found; `on_change` are called
    with the scopes then.
    """

    def __init__(
        self,
        store: MemoryStore,
        registry: Registry,
        change: Change,
        drained: Callable[[float], Awaitable[bool]],
        on_change: Sequence[Callable[[Collection[str]], None]],
        *,
        startup: Startup,
    ) -> None:
        self._startup = startup
        self._store = store
        self._registry = registry
        self._change = change
        self._drained = drained
        self._on_change = on_change
        self._sets: WorkingSets | None = None
        self._changing = asyncio.Lock()  # an update and a deletion of one memory come one after the other

    def ready(self, sets: "WorkingSets") -> None:
        self._sets = sets

    async def records(self, scope: Scope, allows: Filter | None = None) -> list[Record]:
        """All memories of a scope that a filter allows, archived ones included, oldest first."""
        return await self._read(scope, lambda working_set: working_set.records(allows))

    async def known(self, scope: Scope, memory_ids: Collection[str]) -> list[Record]:
        """Those of a scope's memories that have these ids, in their order. Raises MemoryUnavailable."""
        found = await self._by_ids(await self._current(), memory_ids)
        return [record for record in found.values() if record.scope == scope.value]

    async def _by_ids(self, sets: "WorkingSets", memory_ids: Iterable[str]) -> dict[str, Record]:
        """Memories of these ids, in their order and in whatever scope, without what is deleted. Raises
        MemoryUnavailable."""
        wanted = list(dict.fromkeys(memory_ids))
        found = await sets.find(wanted)
        found |= {record.id: record for record in await self._stored([one for one in wanted if one not in found])}
        held = {id_: found[id_] for id_ in wanted if id_ in found}
        return {id_: one for id_, one in held.items() if one.status != "deleted" and not sets.is_struck(one)}

    async def _stored(self, memory_ids: Sequence[str]) -> list[Record]:
        try:
            return await self._store.find(memory_ids)
        except StoreFailed as error:
            raise MemoryUnavailable("the memory cannot be read now; try again") from error

    async def deleted(self, records: Sequence[Record]) -> dict[str, tuple[int, bool]]:
        """The ids of those that were deleted: the version of that, and whether somebody did it, or they went with a
        message. Raises MemoryUnavailable."""
        try:
            found = await self._store.deleted(records)
        except StoreFailed as error:
            raise MemoryUnavailable("the memory cannot be read now; try again") from error
        return {id_: (version, bool(links)) for id_, (version, links) in found.items()}

    async def conversation(self, scope: Scope, session_id: str, limit: int) -> list[Record]:
        """The newest `limit` records of a conversation, oldest first."""
        return await self._read(scope, lambda working_set: working_set.latest(session_id, limit))

    async def _read(self, scope: Scope, look: "Callable[[WorkingSet], list[Record]]") -> list[Record]:
        sets = await self._current()
        try:
            working_set = await sets.whole(scope)
        except StoreFailed as error:
            raise MemoryUnavailable("the memory cannot be read now; try again") from error
        return await sets.run(lambda: look(working_set))

    async def find(self, principal: Principal, memory_ids: Sequence[str]) -> list[Record]:
        """Memories by id that the holder of the key may touch, in the order of the ids."""
        sets = await self._current()
        found = await self._by_ids(sets, map(plain_id, memory_ids))
        scopes = [await self._registry.scope(record.scope) for record in found.values()]
        return [
            record
            for record, scope in zip(found.values(), scopes, strict=True)
            if scope is not None and may_touch(principal, scope)
        ]

    async def beginning(self, principal: Principal, prefix: str) -> list[Record]:
        """Some memories whose ids begin so, of those that the holder of the key may touch. Raises MemoryUnavailable."""
        await self._current()
        try:
            ids = await ids_beginning(self._store, prefix, _MAX_BEGINNING)
        except StoreFailed as error:
            raise MemoryUnavailable("the memory cannot be read now; try again") from error
        return await self.find(principal, ids)

    async def versions(self, memory_ids: Sequence[str]) -> dict[str, int]:
        """The versions of memories as they are now; what is deleted is left out. Raises MemoryUnavailable."""
        found = await self._by_ids(await self._loaded(), memory_ids)
        return {id_: record.version for id_, record in found.items()}

    async def delete(self, records: Iterable[Record]) -> int:
        """Delete memories, with what was concluded from them; at once in recall. Returns how many."""
        async with self._changing:
            return await self._delete(await self._current(is_change=True), records)

    async def delete_file(self, scope: Scope, file_id: str) -> int:
        """Delete what came of a file."""
        return await self.delete(await self.records(scope, lambda record: file_id in file_ids(record)))

    async def expire(self, records: Sequence[Record]) -> int:
        """Delete memories whose time is over, and nothing else. Returns how many."""
        async with self._changing:
            count = await self._erase(await self._current(is_change=True), records, [])
        await self._drained(_PATIENCE)  # so that who asks for the next ones does not get these again
        return count

    async def _delete(self, sets: "WorkingSets", records: Iterable[Record]) -> int:
        by_scope: dict[str, list[Record]] = {}
        for record in records:
            by_scope.setdefault(record.scope, []).append(record)
        now, changed, gone = time.time(), list[Record](), list[Record]()
        for value, members in by_scope.items():
            is_of_files = all(record.kind == "document" for record in members)  # nothing is made of those
            found = Fallen((), tuple(members))
            if not is_of_files:
                found = await asyncio.to_thread(fallen, members, await self._all(value), now)
            changed += found.changed
            gone += found.gone
        return await self._erase(sets, gone, changed)

    async def _all(self, value: str) -> list[Record]:
        scope = await self._registry.scope(value)
        return [] if scope is None else await self.records(scope)

    async def _erase(self, sets: "WorkingSets", members: Sequence[Record], again: Sequence[Record]) -> int:
        """Delete these, in this order, after what holds again does: whenever this is cut off, it can be done again."""
        now = time.time()
        changes = [*again, *(_deleted(record, now) for record in members)]
        for begin in range(0, len(changes), _AT_ONCE):
            await self._commit(changes[begin : begin + _AT_ONCE])
        await sets.strike(members)
        self._tell(changes)
        return len(members)

    async def update(
        self,
        record: Record,
        *,
        text: str | None = None,
        status: str | None = None,
        title: str | None = None,
        by: str = "",
    ) -> Record:
        """A new version of a memory; it can be found when this returns. Its earlier text is kept, archived, and so is
        what was concluded from that. `by`: the id of what takes the place of one that is archived. Raises NotFound if
        it was deleted meanwhile."""
        async with self._changing:
            sets = await self._current(is_change=True)
            record = await self._fresh(sets, record)
            now = time.time()
            changed = replace(
                record,
                text=record.text if text is None else text,
                status=record.status if status is None else status,
                info=record.info if title is None else {**record.info, "title": title},
            )
            if status == "archived":
                changed = put_away(replace(changed, status=record.status), now, by)
            elif changed.status == "activated" and record.status != "activated":
                changed = revived(replace(changed, status=record.status), now)
            changed = replace(changed, version=record.version + 1, updated_at=now)
            before = [edited(record, now)] if changed.text != record.text else []
            if held_since(record) > (held_until(record) or 0.0) > 0 and changed.status == "activated":
                changed = to_be_learnt_from(changed)  # its text was changed while it did not hold
            if before:
                kept = {name: value for name, value in changed.info.items() if name != HELD}
                changed = replace(changed, info={**kept, HELD_SINCE: now, EDITED: changed.version})
            made = await asyncio.to_thread(followed, record, changed, await self._all(record.scope), now)
            await self._committed([changed, *before, *made])
            return changed

    async def history(self, record: Record) -> list[Record]:
        """A memory with all that it replaced and that replaced it, the first one first."""
        return await asyncio.to_thread(chain, record.id, await self._all(record.scope))

    async def undo(self, record: Record) -> list[Record]:
        """Take back the last thing that happened to a memory. Returns what changed; nothing if nothing did."""
        async with self._changing:
            sets = await self._current(is_change=True)
            now, records = time.time(), await self._all(record.scope)
            line = {one.id: one for one in await asyncio.to_thread(chain, record.id, records)}
            changed = undone(line[record.id], list(line.values()), now) if record.id in line else []
            changed = [next_version(one, now) for one in changed if not sets.is_struck(one)]
            changed = [to_be_learnt_from(one) if one.text != line[one.id].text else one for one in changed]
            edits = {
                one.info[EDIT_OF]: held_until(line[one.id]) for one in changed if isinstance(one.info.get(EDIT_OF), str)
            }
            made: dict[str, Record] = {}
            for one in changed:
                found = await asyncio.to_thread(followed, line[one.id], one, records, now, edits.get(one.id))
                made |= {other.id: other for other in found if other.id not in line}
            await self._committed([*changed, *made.values()])
            return changed

    async def revise(
        self, records: Sequence[Record], added: Sequence[Record] = (), seen: Mapping[str, int] | None = None
    ) -> list[Record]:
        """New versions of memories, and new ones with them; what somebody else changed or deleted meanwhile is left
        out. With `seen` (ids and versions of all that it rests on) all is done or nothing: raises Outdated if any of
        these is another now. They can be found when this returns. Raises MemoryUnavailable."""
        async with self._changing:
            sets = await self._current(is_change=True)
            there = await self.versions([*(record.id for record in records), *(seen or ())])
            now = time.time()
            changed = [
                next_version(record, now)
                for record in records
                if there.get(record.id) == record.version and not sets.is_struck(record)
            ]
            is_same = all(there.get(id_) == version for id_, version in (seen or {}).items())
            if seen is not None and (not is_same or len(changed) < len(records)):
                raise Outdated
            await self._committed([*added, *changed])
            return changed

    @asynccontextmanager
    async def unchanged(self, seen: Sequence[Record]) -> AsyncIterator[None]:
        """What is written within rests on these: raises Outdated if any of them is another now, and nobody changes one
        meanwhile. Raises MemoryUnavailable."""
        async with self._changing:
            await self._current(is_change=True)
            there = await self.versions([record.id for record in seen])
            if any(there.get(record.id) != record.version for record in seen):
                raise Outdated
            yield

    async def _fresh(self, sets: "WorkingSets", record: Record) -> Record:
        """The record as it is now. Raises NotFound if it was deleted."""
        found = (await self._by_ids(sets, [record.id])).get(record.id)
        if found is None:
            raise NotFound("there is no memory of this id")
        return found

    async def _committed(self, records: Sequence[Record]) -> None:
        for begin in range(0, len(records), _AT_ONCE):
            await self._commit(records[begin : begin + _AT_ONCE])
        await self._drained(_PATIENCE)
        self._tell(records)

    def _tell(self, records: Iterable[Record]) -> None:
        scopes = {record.scope for record in records}
        for listener in self._on_change:
            listener(scopes)

    async def _commit(self, records: Sequence[Record]) -> None:
        try:
            await self._change(records)
        except JournalFailed as error:
            raise MemoryUnavailable("the change could not be written; nothing was changed; try again") from error
        except TimeoutError as error:
            raise MemoryUnavailable("the change could not be written in time; it may be made or not") from error

    async def _loaded(self) -> "WorkingSets":
        """The working sets, which are there soon after a start. Raises MemoryUnavailable."""
        await self._startup.wait()
        if self._sets is None:
            raise self._startup.error()
        return self._sets

    async def _current(self, *, is_change: bool = False) -> "WorkingSets":
        """The working sets, with all that was written before now; a change is not made on less than that."""
        sets = await self._loaded()
        if not await self._drained(_PATIENCE) and is_change:
            raise MemoryUnavailable("what was written before cannot be found yet; nothing was changed; try again")
        return sets


def _deleted(record: Record, now: float) -> Record:
    """What is left of a deleted memory: its ids."""
    return replace(
        record,
        status="deleted",
        text="",
        message_id="",
        tags=(),
        info={},
        metadata={},
        updated_at=now,
        version=record.version + 1,
    )
