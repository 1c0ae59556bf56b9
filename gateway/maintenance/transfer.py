"""Export and import of memories between gateways (or into the same one), as one line of JSON each.

A line has all fields of a memory except its scope, which is derived from the names of its cube. Vectors are an option;
an import uses those of the embedder that its memories have there, and computes all others, and search terms. Importing
the same lines twice changes nothing; a memory deleted meanwhile is restored.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from gateway.concurrency.listeners import Listener, notify
from gateway.errors import BadRequest, MemoryUnavailable, PluginUnavailable
from gateway.formats import json_splice
from gateway.identity import checked_id, named_scope
from gateway.maintenance.foreign_exports import foreign_format
from gateway.maintenance.selection import MemorySelection, scopes_of, selected_rows
from gateway.maintenance.vectors import encode_vectors, parse_vector
from gateway.memory.annotations import build_record, plain_fields
from gateway.memory.kinds import KINDS
from gateway.memory.record import Record, derived_id, message_id
from gateway.memory.versions import referenced_ids, rename_ids
from gateway.storage.errors import StorageError
from gateway.storage.protocols import MemoryTable, RecordLog, Registry
from gateway.storage.rows import RowFormat
from gateway.storage.values import GivenVector
from gateway.turn import Scope, ScopeKind

__all__ = ["COLUMNS", "VECTOR_COLUMNS", "ImportResult", "Transfer", "encode_line", "parse_line"]

_LINES_AT_ONCE = 250  # that are encoded or parsed in one step, and embedded before the next batch is read
_BATCH_ITEMS = 2_000
_BATCH_BYTES = 2**20  # of a batch's lines without their vectors
_DEEPEST = 64  # levels of nesting in a line
_NAMES = ("tenant", "owner", "cube_id", "user_id", "session_id", "agent_id", "app_id")
_STATUSES = ("activated", "resolving", "archived")
_ID = r"^[0-9a-f]{32}$"
_LONGEST_TEXT = 65_536

COLUMNS = (
    *("id", "tenant", "cube_kind", "owner", "cube_id", "user_id", "session_id", "kind", "source", "text"),
    *("event_time", "created_at", "updated_at", "message_id", "part", "agent_id", "app_id", "status", "confidence"),
    *("tags", "links", "version", "info", "metadata"),
)
"""The field names of a line."""
VECTOR_COLUMNS = ("embedder", "embedding")
"""The field names of a vector in a line."""

Screen = Callable[[Scope, Sequence[Record]], Awaitable[Sequence[Record]]]


def _check_kind(name: str) -> str:
    if name not in KINDS:
        raise ValueError(f"String should match pattern '^({'|'.join(KINDS)})$'")
    return name


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore")

    tenant: str = Field("default", min_length=1, max_length=256)
    cube_kind: ScopeKind = ScopeKind.USER
    owner: str = Field("", max_length=256)
    id: str = Field(pattern=_ID)
    cube_id: str = Field(min_length=1, max_length=256)
    user_id: str = Field("", max_length=256)
    session_id: str = Field("", max_length=256)
    kind: Annotated[str, AfterValidator(_check_kind)] = "turn"
    source: str = Field("user", pattern="^(user|assistant|document|tool)$")
    text: str = Field(min_length=1, max_length=_LONGEST_TEXT)
    event_time: float = Field(ge=-6e10, le=2e11)  # the range of a table's timestamps: years 68 to 8307
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
    embedder: Any = None
    embedding: Any = None


_RECORD_FIELDS = (
    _Line.model_fields.keys() - {"tenant", "cube_kind", "owner", "cube_id", "info", "metadata"} - {*VECTOR_COLUMNS}
)


@dataclass(frozen=True, slots=True)
class _Item:
    """A parsed line: a memory, with the vector and its embedder as the line has them."""

    scope: Scope
    record: Record
    embedder: Any
    embedding: Any


@dataclass(slots=True)
class _Batch:
    """Items to be stored together. `unembedded`: those to be embedded; `size`: bytes of lines without vectors."""

    items: list[_Item] = field(default_factory=list)
    unembedded: int = 0
    size: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.items) >= _BATCH_ITEMS or self.unembedded >= _LINES_AT_ONCE or self.size >= _BATCH_BYTES


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Result of an import: the number of new memories, and of those stored already."""

    imported: int = 0
    unchanged: int = 0


class Transfer:
    """Exports and imports memories.

    `screen` passes the records to be stored to plugins; `settled` waits until all writes of some scopes (None: of all)
    are stored; `on_change` are called with the scopes of an import when its memories can be found.
    """

    def __init__(
        self,
        journal: RecordLog,
        store: MemoryTable,
        registry: Registry,
        *,
        screen: Screen,
        settled: Callable[[Collection[str] | None], Awaitable[None]],
        on_change: Sequence[Listener[Collection[str]]] = (),
    ) -> None:
        self._journal = journal
        self._store = store
        self._registry = registry
        self._screen = screen
        self._wait_settled = settled
        self._on_change = on_change

    async def export(self, selection: MemorySelection, *, with_vectors: bool = False) -> AsyncIterator[bytes]:
        """The selected memories as lines, in batches. Raises MemoryUnavailable."""
        try:
            scopes = None  # all
            if selection.user is not None:
                scopes = [scope.value for scope in await scopes_of(selection, self._registry)]
            await self._wait_settled(scopes)
            async for selected in selected_rows(selection, self._store, self._registry):
                vectors: Sequence[Mapping[str, str]] = ({},) * len(selected.numbers)
                if with_vectors:
                    row_format = self._store.format_of(selected.scope.value)
                    vectors = await asyncio.to_thread(encode_vectors, selected.loaded, selected.numbers, row_format)
                for begin in range(0, len(selected.records), _LINES_AT_ONCE):
                    records = selected.records[begin : begin + _LINES_AT_ONCE]
                    yield await asyncio.to_thread(
                        _encode_lines, selected.scope, records, vectors[begin : begin + _LINES_AT_ONCE]
                    )
        except StorageError as error:
            raise MemoryUnavailable(f"the memory cannot be read now ({error}); try again") from error

    async def import_lines(self, lines: AsyncIterator[bytes], tenant: str | None) -> ImportResult:
        """Import the memories of the lines into this tenant (None: the tenant of each line). Batches before that of an
        invalid line are kept. Raises BadRequest, MemoryUnavailable or PluginUnavailable."""
        imported = unchanged = 0
        batch = _Batch()
        changed: set[str] = set()
        try:
            async for numbered in _group_lines(lines):  # meanwhile the writer stores the previous batch
                self._fill(batch, await asyncio.to_thread(_parse_lines, numbered, tenant), numbered)
                if batch.is_full:
                    stored = await self._store_batch(batch.items, tenant, changed)
                    imported, unchanged = imported + stored, unchanged + len(batch.items) - stored
                    batch = _Batch()
            stored = await self._store_batch(batch.items, tenant, changed)
            await self._wait_settled(None)
        finally:
            if changed:
                await notify(self._on_change, changed)
        return ImportResult(imported + stored, unchanged + len(batch.items) - stored)

    def _fill(self, batch: _Batch, items: Sequence[_Item], lines: Collection[tuple[int, bytes]]) -> None:
        """Add parsed lines to a batch."""
        batch.items += items
        batch.unembedded += sum(item.embedder != self._store.format_of(item.scope.value).embedder for item in items)
        batch.size += sum(len(line) for _, line in lines)
        batch.size -= sum(len(item.embedding) for item in items if isinstance(item.embedding, str))

    async def _store_batch(self, batch: Sequence[_Item], tenant: str | None, changed: set[str]) -> int:
        """Store a batch. Returns the number of new memories that plugins let pass. Adds their scopes to `changed`."""
        if not batch:
            return 0
        count = 0
        try:
            await self._wait_settled(None)  # also bounds the backlog
            new = await self._select_new(batch, tenant)
            scopes = {item.scope.value: item.scope for item in new}
            await self._registry.add_scopes(scopes.values())
            for scope in scopes.values():
                items = [item for item in new if item.scope.value == scope.value]
                records = list(await self._screen(scope, [item.record for item in items]))
                vectors = await asyncio.to_thread(_parse_vectors, items, records, self._store.format_of(scope.value))
                changed.add(scope.value)
                await self._journal.append(records, may_exist=True, vectors=vectors)
                count += len(records)
        except StorageError as error:
            raise MemoryUnavailable(f"the memories cannot be stored now ({error}); try again") from error
        except PluginUnavailable as error:
            raise MemoryUnavailable(f"{error.message}; try again") from error
        return count

    async def _select_new(self, batch: Sequence[_Item], tenant: str | None) -> list[_Item]:
        """The items not stored yet, or only in an older version; a deleted one gets a version above its deletion."""
        stored = {record.id: record for record in await self._store.find([item.record.id for item in batch])}
        if tenant is not None:  # an id that another tenant uses is replaced by a new one
            own_scopes = {scope.value for scope in await self._registry.scopes(tenant)}
            missing = {id_ for item in batch for id_ in referenced_ids(item.record)} - stored.keys()
            referenced = {**stored, **{match.id: match for match in await self._store.find(sorted(missing))}}
            foreign = {id_ for id_, record in referenced.items() if record.scope not in own_scopes}
            foreign |= await self._find_copied(batch, referenced)
            if foreign:
                batch = [_rename(item, foreign) for item in batch]
                stored |= {match.id: match for match in await self._store.find([item.record.id for item in batch])}
        versions = await self._store.versions([item.record for item in batch])
        new: list[_Item] = []
        for item in _keep_newest(batch):
            record, scope = item.record, item.scope
            stored_version, owner_scope = versions.get(record.id, (0, scope.value))
            if owner_scope != scope.value or stored.get(record.id, record).scope != scope.value:
                raise BadRequest(f"the id {record.id} is that of a memory in another cube", param="id")
            if record.id in stored and stored_version >= record.version:
                continue
            if stored_version >= record.version:
                item = replace(item, record=replace(record, version=stored_version + 1))  # noqa: PLW2901
            new.append(item)
        return new

    async def _find_copied(self, batch: Sequence[_Item], referenced: Mapping[str, Record]) -> set[str]:
        """The ids whose copies were imported before under a derived id, while their originals no longer exist."""
        copies = {
            _copy_id(item.scope, id_): id_
            for item in batch
            for id_ in (item.record.id, *referenced_ids(item.record))
            if id_ not in referenced
        }
        return {copies[record.id] for record in await self._store.find(sorted(copies))}


async def _group_lines(lines: AsyncIterator[bytes]) -> AsyncIterator[list[tuple[int, bytes]]]:
    """Lines that are not empty, with their numbers, in groups."""
    number = size = 0
    group: list[tuple[int, bytes]] = []
    async for line in lines:
        number, size = number + 1, size + len(line)
        if line.strip():
            group.append((number, line))
        if len(group) >= _LINES_AT_ONCE or size >= _BATCH_BYTES:
            yield group
            group, size = [], 0
    yield group


def _parse_lines(lines: Sequence[tuple[int, bytes]], tenant: str | None) -> list[_Item]:
    return [parse_line(line, number, tenant) for number, line in lines]


def _parse_vectors(items: Sequence[_Item], records: Sequence[Record], row_format: RowFormat) -> dict[str, GivenVector]:
    """The usable vectors of the items, by id. `records`: the same after the plugins; a changed text is embedded."""
    texts = {record.id: record.text for record in records}
    vectors: dict[str, GivenVector] = {}
    for item in items:
        if texts.get(item.record.id) == item.record.text:
            vector = parse_vector(item.embedder, item.embedding, row_format)
            if vector is not None:
                vectors[item.record.id] = vector
    return vectors


def _keep_newest(batch: Sequence[_Item]) -> list[_Item]:
    """Each id once, in its newest version. Raises BadRequest if an id occurs in two cubes."""
    newest: dict[str, _Item] = {}
    for item in batch:
        id_ = item.record.id
        previous = newest.get(id_)
        if previous is not None and previous.scope.value != item.scope.value:
            raise BadRequest(f"the id {id_} occurs in two cubes", param="id")
        if previous is None or previous.record.version <= item.record.version:
            newest[id_] = item
    return list(newest.values())


def _rename(item: _Item, foreign: Collection[str]) -> _Item:
    """The item with the ids of other tenants' memories replaced."""
    return replace(item, record=rename_ids(item.record, partial(_map_id, item.scope, foreign)))


def _copy_id(scope: Scope, id_: str) -> str:
    return derived_id(scope.value, id_)


def _map_id(scope: Scope, foreign: Collection[str], id_: str) -> str:
    return _copy_id(scope, id_) if id_ in foreign else id_


def _encode_lines(scope: Scope, records: Sequence[Record], vectors: Sequence[Mapping[str, str]]) -> bytes:
    return b"".join(map(partial(encode_line, scope), records, vectors))


def encode_line(scope: Scope, record: Record, vector: Mapping[str, str]) -> bytes:
    """A memory as a line, with the fields `vector`."""
    fields = {"tenant": scope.tenant, "cube_kind": scope.kind.value, "owner": scope.owner, **plain_fields(record)}
    del fields["scope"]
    fields |= vector
    return orjson.dumps(fields, default=dict, option=orjson.OPT_APPEND_NEWLINE)


def _describe_foreign(line: bytes, number: int) -> str:
    """The detected format of a file whose first line is no memory, as an error message; "" if unknown."""
    kind = foreign_format(line) if number == 1 else ""
    return f"the file is {kind}" if kind else ""


def parse_line(line: bytes, number: int, tenant: str | None) -> _Item:
    """Parse the line of this number. Raises BadRequest."""
    if line.count(b"[") + line.count(b"{") > _DEEPEST and json_splice.is_deeper(json_splice.structure(line), _DEEPEST):
        raise BadRequest(f"line {number} is nested deeper than {_DEEPEST} levels", param=f"lines[{number}]")
    try:
        parsed = _Line.model_validate(orjson.loads(line))
    except orjson.JSONDecodeError as error:
        raise BadRequest(
            _describe_foreign(line, number) or f"line {number} is not valid JSON", param=f"lines[{number}]"
        ) from error
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))
        reason = problem["msg"].removeprefix("Value error, ")
        message = f"line {number}, `{where}`: {reason}" if where else f"line {number} is no JSON object"
        raise BadRequest(
            _describe_foreign(line, number) or message,
            param=f"lines[{number}].{where}" if where else f"lines[{number}]",
        ) from error
    for name in _NAMES:
        if getattr(parsed, name):
            checked_id(getattr(parsed, name), f"lines[{number}].{name}")
    owner = parsed.owner or (parsed.user_id or parsed.cube_id if parsed.cube_kind is ScopeKind.USER else "")
    if parsed.cube_kind in (ScopeKind.USER, ScopeKind.CUBE) and not owner:
        raise BadRequest(f"line {number}: `owner` is needed", param=f"lines[{number}].owner")
    scope = named_scope(tenant or parsed.tenant, parsed.cube_kind, parsed.cube_id, owner)
    fields = {name: getattr(parsed, name) for name in _RECORD_FIELDS}
    fields |= {"scope": scope.value, "cube_id": scope.cube_id}
    fields["message_id"] = parsed.message_id or message_id(parsed.text)
    record = build_record(fields, parsed.info, parsed.metadata)
    if tenant not in (None, parsed.tenant):  # a copy in another tenant is another memory
        record = rename_ids(record, partial(_copy_id, scope))
    return _Item(scope, record, parsed.embedder, parsed.embedding)
