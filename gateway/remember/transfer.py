"""Memories out of one gateway and into another (or the same one again): a line of JSON for each.

A line holds all fields of a memory but its scope, which follows from the names of its cube; vectors and search terms
are made anew where it is taken in. Taking in the same lines twice changes nothing; a memory that was deleted meanwhile
comes back.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway import splice
from gateway.errors import BadRequest, MemoryUnavailable, PluginUnavailable
from gateway.identity import checked_id, named_scope
from gateway.remember.foreign import foreign_format
from gateway.remember.selection import Selection, chosen
from gateway.store.journal import Journal, JournalFailed
from gateway.store.lineage import named_by, renamed
from gateway.store.memories import MemoryStore, StoreFailed
from gateway.store.registry import Registry, RegistryFailed
from gateway.turn import Record, Scope, ScopeKind, derived_id, message_id

__all__ = ["COLUMNS", "TakenIn", "Transfer"]

_AT_ONCE = 250
_BYTES_AT_ONCE = 2**20
_DEEPEST = 64  # levels of a line
_NAMES = ("tenant", "owner", "cube_id", "user_id", "session_id", "agent_id", "app_id")
_KINDS = ("turn", "fact", "preference", "profile", "tool", "skill", "document")
_STATUSES = ("activated", "resolving", "archived")
_ID = r"^[0-9a-f]{32}$"
_LONGEST_TEXT = 65_536

COLUMNS = (
    *("id", "tenant", "cube_kind", "owner", "cube_id", "user_id", "session_id", "kind", "source", "text"),
    *("event_time", "created_at", "updated_at", "message_id", "part", "agent_id", "app_id", "status", "confidence"),
    *("tags", "links", "version", "info", "metadata"),
)
"""The names in a line."""

Screen = Callable[[Scope, Sequence[Record]], Awaitable[Sequence[Record]]]


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore")

    tenant: str = Field("default", min_length=1, max_length=256)
    cube_kind: ScopeKind = ScopeKind.USER
    owner: str = Field("", max_length=256)
    id: str = Field(pattern=_ID)
    cube_id: str = Field(min_length=1, max_length=256)
    user_id: str = Field("", max_length=256)
    session_id: str = Field("", max_length=256)
    kind: str = Field("turn", pattern="^(" + "|".join(_KINDS) + ")$")
    source: str = Field("user", pattern="^(user|assistant|document|tool)$")
    text: str = Field(min_length=1, max_length=_LONGEST_TEXT)
    event_time: float = Field(ge=-6e10, le=2e11)  # what a table can hold: years 68 to 8307
    created_at: float = Field(ge=0, le=2e11)
    updated_at: float = Field(ge=0, le=2e11)
    message_id: str = Field("", pattern=r"^([0-9a-f]{32})?$")
    part: int = Field(0, ge=0, le=1_000_000)
    agent_id: str = Field("", max_length=256)
    app_id: str = Field("", max_length=256)
    status: str = Field("activated", pattern="^(" + "|".join(_STATUSES) + ")$")
    confidence: float = Field(1.0, ge=0, le=1)
    tags: tuple[str, ...] = Field((), max_length=1000)
    links: tuple[str, ...] = Field((), max_length=1000)
    version: int = Field(1, ge=1, le=1_000_000)
    info: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TakenIn:
    """How many memories are new, and how many were there already."""

    imported: int = 0
    unchanged: int = 0


class Transfer:
    """`screen` shows plugins what is to be stored; `settled` waits until all that was written is stored; `on_change`
    are called with the scopes of an import when its memories can be found."""

    def __init__(
        self,
        journal: Journal,
        store: MemoryStore,
        registry: Registry,
        *,
        screen: Screen,
        settled: Callable[[], Awaitable[None]],
        on_change: Sequence[Callable[[Collection[str]], None]] = (),
    ) -> None:
        self._journal = journal
        self._store = store
        self._registry = registry
        self._screen = screen
        self._settled = settled
        self._on_change = on_change

    async def export(self, selection: Selection) -> AsyncIterator[bytes]:
        """Lines, some at a time. Raises MemoryUnavailable."""
        await self._settled()
        try:
            async for scope, records in chosen(selection, self._store, self._registry):
                for begin in range(0, len(records), _AT_ONCE):
                    yield b"".join(_written(scope, record) for record in records[begin : begin + _AT_ONCE])
        except (StoreFailed, RegistryFailed) as error:
            raise MemoryUnavailable(f"the memory cannot be read now ({error}); try again") from error

    async def take_in(self, lines: AsyncIterator[bytes], tenant: str | None) -> TakenIn:
        """Store what stands in the lines, under this tenant (None: as they say). What was taken in before a bad line
        stays. Raises BadRequest, MemoryUnavailable or PluginUnavailable."""
        imported = unchanged = number = size = 0
        batch: list[tuple[Scope, Record]] = []
        changed: set[str] = set()
        try:
            async for line in lines:
                number, size = number + 1, size + len(line)
                if line.strip():
                    batch.append(_read(line, number, tenant))
                if len(batch) >= _AT_ONCE or size >= _BYTES_AT_ONCE:
                    stored = await self._stored(batch, tenant, changed)
                    imported, unchanged = imported + stored, unchanged + len(batch) - stored
                    batch, size = [], 0
            stored = await self._stored(batch, tenant, changed)
            await self._settled()
        finally:
            for listener in self._on_change if changed else ():
                listener(changed)
        return TakenIn(imported + stored, unchanged + len(batch) - stored)

    async def _stored(self, batch: Sequence[tuple[Scope, Record]], tenant: str | None, changed: set[str]) -> int:
        """The number of new memories, without those that a plugin leaves out. Adds their scopes to `changed`."""
        if not batch:
            return 0
        count = 0
        try:
            await self._settled()  # also bounds what waits
            new = await self._new(batch, tenant)
            await self._registry.add_scopes({scope.value: scope for scope, _ in new}.values())
            for scope in {scope.value: scope for scope, _ in new}.values():
                records = list(await self._screen(scope, [record for own, record in new if own.value == scope.value]))
                changed.add(scope.value)
                await self._journal.append(records, may_exist=True)
                count += len(records)
        except (StoreFailed, RegistryFailed, JournalFailed) as error:
            raise MemoryUnavailable(f"the memories cannot be stored now ({error}); try again") from error
        except PluginUnavailable as error:
            raise MemoryUnavailable(f"{error.message}; try again") from error
        return count

    async def _new(self, batch: Sequence[tuple[Scope, Record]], tenant: str | None) -> list[tuple[Scope, Record]]:
        """What is not there, or older; a deleted one gets a version over that of its deletion."""
        known = {record.id: record for record in await self._store.find([record.id for _, record in batch])}
        if tenant is not None:  # an id of another tenant is one that is not known here: its memory gets another
            own = {scope.value for scope in await self._registry.all_scopes(tenant)}
            named = {id_ for _, record in batch for id_ in named_by(record)} - known.keys()
            found = {**known, **{one.id: one for one in await self._store.find(sorted(named))}}
            foreign = {id_ for id_, record in found.items() if record.scope not in own}
            foreign |= await self._copied_before(batch, found)
            if foreign:
                batch = [(scope, renamed(record, partial(_unless_own, scope, foreign))) for scope, record in batch]
                known |= {one.id: one for one in await self._store.find([record.id for _, record in batch])}
        versions = await self._store.versions([record for _, record in batch])
        new: list[tuple[Scope, Record]] = []
        for scope, record in _newest(batch):
            held, whose = versions.get(record.id, (0, scope.value))
            if whose != scope.value or known.get(record.id, record).scope != scope.value:
                raise BadRequest(f"the id {record.id} is that of a memory in another cube", param="id")
            if record.id in known and held >= record.version:
                continue
            version = record.version if held < record.version else held + 1
            new.append((scope, replace(record, version=version)))
        return new

    async def _copied_before(self, batch: Sequence[tuple[Scope, Record]], found: Mapping[str, Record]) -> set[str]:
        """The ids that are here under another name: whoever they were of is gone, their copies are not."""
        copies = {
            _copied(scope, id_): id_
            for scope, record in batch
            for id_ in (record.id, *named_by(record))
            if id_ not in found
        }
        return {copies[one.id] for one in await self._store.find(sorted(copies))}


def _newest(batch: Sequence[tuple[Scope, Record]]) -> list[tuple[Scope, Record]]:
    """Each id once, in its newest version. Raises BadRequest if one stands in two cubes."""
    found: dict[str, tuple[Scope, Record]] = {}
    for scope, record in batch:
        other = found.get(record.id)
        if other is not None and other[0].value != scope.value:
            raise BadRequest(f"the id {record.id} stands in two cubes", param="id")
        if other is None or other[1].version <= record.version:
            found[record.id] = (scope, record)
    return list(found.values())


def _copied(scope: Scope, id_: str) -> str:
    return derived_id(scope.value, id_)


def _unless_own(scope: Scope, foreign: Collection[str], id_: str) -> str:
    return _copied(scope, id_) if id_ in foreign else id_


def _written(scope: Scope, record: Record) -> bytes:
    fields = {"tenant": scope.tenant, "cube_kind": scope.kind.value, "owner": scope.owner, **asdict(record)}
    del fields["scope"]
    return orjson.dumps(fields, default=dict, option=orjson.OPT_APPEND_NEWLINE)


def _foreign(line: bytes, number: int) -> str:
    """What a file is whose first line is no memory, if it is known."""
    kind = foreign_format(line) if number == 1 else ""
    return f"the file is {kind}" if kind else ""


def _read(line: bytes, number: int, tenant: str | None) -> tuple[Scope, Record]:
    if line.count(b"[") + line.count(b"{") > _DEEPEST and splice.is_deeper(splice.structure(line), _DEEPEST):
        raise BadRequest(f"line {number} is nested deeper than {_DEEPEST} levels", param=f"lines[{number}]")
    try:
        found = _Line.model_validate(orjson.loads(line))
    except orjson.JSONDecodeError as error:
        raise BadRequest(
            _foreign(line, number) or f"line {number} is not valid JSON", param=f"lines[{number}]"
        ) from error
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))
        message = f"line {number}, `{where}`: {problem['msg']}" if where else f"line {number} is no JSON object"
        raise BadRequest(
            _foreign(line, number) or message, param=f"lines[{number}].{where}" if where else f"lines[{number}]"
        ) from error
    for name in _NAMES:
        if getattr(found, name):
            checked_id(getattr(found, name), f"lines[{number}].{name}")
    owner = found.owner or (found.user_id or found.cube_id if found.cube_kind is ScopeKind.USER else "")
    if found.cube_kind in (ScopeKind.USER, ScopeKind.CUBE) and not owner:
        raise BadRequest(f"line {number}: `owner` names nobody", param=f"lines[{number}].owner")
    scope = named_scope(tenant or found.tenant, found.cube_kind, found.cube_id, owner)
    fields = found.model_dump(exclude={"tenant", "cube_kind", "owner", "cube_id"})
    fields["message_id"] = found.message_id or message_id(found.text)
    if tenant not in (None, found.tenant):  # a copy in another tenant is another memory
        return scope, renamed(Record(**fields, scope=scope.value, cube_id=scope.cube_id), partial(_copied, scope))
    return scope, Record(**fields, scope=scope.value, cube_id=scope.cube_id)
