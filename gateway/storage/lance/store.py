"""The store of all memories: LanceDB tables in the data folder or on object storage. See `MemoryTable` for its methods.

Methods take a `Scope` or rows that carry one; those by id are for callers that check owners. User text never becomes
part of a filter: a scope is 64 hex characters. Ids are the gateway's own, and one process writes (it holds the folder's
lock), so plain adds suffice; a row that an earlier process may have added goes through an upsert. The parts that are
rebuilt one at a time are the buckets.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final

from gateway.memory.record import Record, id_prefix
from gateway.storage.folder import DataFolder
from gateway.storage.lance import expiry
from gateway.storage.lance.buckets import Buckets
from gateway.storage.lance.conditions import begins_with, gathered, guarded, has_id, is_of
from gateway.storage.lance.homes import FOLDER_FRAGMENTS, folder_home, reading_home
from gateway.storage.lance.near import WordIndexes, near
from gateway.storage.lance.place import Bucket, Home
from gateway.storage.lance.rebuild import Rebuilder
from gateway.storage.lance.sizes import scope_sizes
from gateway.storage.protocols import Prepare
from gateway.storage.rows import LoadedRows, Row, RowFormat
from gateway.storage.values import ScopeSize
from gateway.turn import Scope

__all__ = ["MemoryStore"]

_NO_SCOPE: Final = "0" * 64


class MemoryStore:
    """Reads and writes rows. `open` takes seconds (LanceDB is heavy): call it behind the open port. `row_format`: the
    format of new rows; rows of earlier formats stay readable until their bucket is rebuilt. `is_reader`: another
    process has the lock of the folder and writes its tables, and this one reads them. `compact_fragments`: as in
    `Home`, for a folder."""

    def __init__(
        self,
        home: Home | DataFolder,
        row_format: RowFormat,
        *,
        is_reader: bool = False,
        compact_fragments: int = FOLDER_FRAGMENTS,
    ) -> None:
        if not isinstance(home, Home):
            home = reading_home(home) if is_reader else folder_home(home, compact_fragments)
        self.buckets = Buckets(home, row_format)
        self.rebuilder = Rebuilder(self.buckets, home.compact_fragments)
        self._home = home
        self._word_indexes = WordIndexes()

    async def open(self) -> None:
        """Import LanceDB and open the existing tables. Raises StorageError."""
        await self.buckets.open()

    async def close(self) -> None:
        await self._word_indexes.stop()
        self.buckets.close()

    @property
    def repaired(self) -> Sequence[str]:
        """Tables that were damaged at the start, and repaired as far as they can be read."""
        return self._home.place.repaired

    @property
    def is_durable(self) -> bool:
        """True on object storage."""
        return self._home.place.is_lazy

    def part_of(self, scope: str) -> int:
        """The number of a scope's bucket."""
        return self.buckets.number_of(scope)

    async def warm_up(self) -> None:
        """Open the tables of all buckets, and read of them what every load needs: on object storage that takes the
        first one in a bucket several requests, one after the other. Raises StorageError."""
        for number, bucket in list(self.buckets.by_number.items()):
            if bucket.entries:
                await self.buckets.read(number, is_of(_NO_SCOPE))

    async def find(self, memory_ids: Sequence[str]) -> list[Record]:
        """Memories by their ids, in all scopes; the caller checks their owner. Raises StorageError."""
        self.buckets.require_open()
        by_bucket: dict[int | None, list[str]] = defaultdict(list)
        for id_ in memory_ids:
            if has_id([id_]):
                by_bucket[None if self._asks_all else self.buckets.number_of_id(id_)].append(id_)
        shown = {number: ids for number, ids in by_bucket.items() if number is not None}
        records = await self._find_in(shown)
        present_ids = {record.id for record in records}
        rest: dict[int, list[str]] = defaultdict(list)
        for number, ids in by_bucket.items():
            for other in self.buckets.others(number):
                rest[other] += [id_ for id_ in ids if id_ not in present_ids]
        return records + await self._find_in(rest)

    @property
    def _asks_all(self) -> bool:
        """True where asking all buckets at once is cheaper than asking one in vain."""
        return self.buckets.has_plain_ids and not self.is_durable

    async def _find_in(self, ids_by_bucket: Mapping[int, Sequence[str]]) -> list[Record]:
        reads = [self.buckets.read(number, has_id(ids)) for number, ids in ids_by_bucket.items() if ids]
        results = await asyncio.gather(*reads)
        return await asyncio.to_thread(
            lambda: [record for tables in results for record in LoadedRows(tables).records()]
        )

    async def has_plain_ids(self) -> bool:
        """True if an id does not show the bucket of its scope. Reads the ids and scopes of all rows. Raises
        StorageError."""
        for number in self.buckets.by_number:
            for table in await self.buckets.read(number, None, ["id", "scope"]):
                pairs = zip(table.column("id").to_pylist(), table.column("scope").to_pylist(), strict=True)
                if any(not id_.startswith(id_prefix(scope)) for id_, scope in pairs):
                    return True
        return False

    async def find_ids(self, prefix: str, limit: int) -> list[str]:
        """Up to `limit` ids of all scopes that begin with these hexadecimal digits. Raises StorageError."""
        condition = begins_with(prefix)
        if not condition:
            return []
        shown = self.buckets.number_of_id(prefix)
        ids: set[str] = set()
        for number in [*([] if shown is None else [shown]), *self.buckets.others(shown)]:
            for table in await self.buckets.read(number, condition, ["id"]):
                ids.update(table.column("id").to_pylist())
            if len(ids) > limit:
                break
        return sorted(ids)[:limit]

    async def load(self, scope: Scope) -> LoadedRows:
        """All rows of a scope in order of creation. Raises StorageError."""
        condition = is_of(scope.value)
        tables = await self.buckets.read(self.buckets.number_of(scope.value), condition)
        return await asyncio.to_thread(LoadedRows, tables, scope)

    async def is_larger(self, scope: Scope, rows: int) -> bool:
        """True if a scope has more than `rows` rows, where each version counts as one. Raises StorageError."""
        number = self.buckets.number_of(scope.value)
        known_rows = await self.buckets.known_rows(number)
        count = self.buckets.count
        if known_rows < 0:
            known_rows = await count(number)
        return known_rows > rows and await count(number, is_of(scope.value)) > rows

    async def sizes(self, scopes: Iterable[str]) -> dict[str, ScopeSize]:
        """The sizes of these scopes; those without rows are left out. Raises StorageError."""
        return await scope_sizes(self.buckets, scopes)

    async def with_rows(self, scopes: Iterable[str]) -> set[str]:
        """Those of these scopes that have any rows. Raises StorageError."""
        members, present = set(scopes), set[str]()
        for number in self._numbers_of(members):
            for table in await self.buckets.read(number, self.buckets.narrowed(number, members), ["scope"]):
                present.update(table.column("scope").unique().to_pylist())
        return members & present

    async def near(self, scope: Scope, words: Sequence[str], vector: Any) -> LoadedRows:
        """Candidate rows of a scope for a query, with a background sample for scoring. Raises StorageError."""
        number = self.buckets.number_of(scope.value)
        tables = await self.buckets.query(number, lambda bucket: self._candidates(bucket, scope, words, vector))
        return await asyncio.to_thread(LoadedRows, tables, scope)

    async def _candidates(self, bucket: Bucket, scope: Scope, words: Sequence[str], vector: Any) -> list[Any]:
        """Candidate rows as Arrow tables, all versions of each. Raises StorageError."""
        condition, number = is_of(scope.value), self.buckets.number_of(scope.value)
        dimensions = self.format_of(scope.value).dimensions
        may_build = self.buckets.owns(number)
        reads = []
        with bucket.reading() as opened:
            for entry, table in opened:
                is_indexed = await guarded(self._word_indexes.is_there(entry.name, table, may_build=may_build))
                indexed_words = words if is_indexed else ()
                comparable = vector if entry.row_format.dimensions == dimensions else None
                reads.append(guarded(near(table, condition, indexed_words, comparable)))
            results = await gathered(reads)
        tables = [table for result in results for table in result]
        if len(bucket.tables) > 1:  # a newer version, or a tombstone, may be in another table, and far from the query
            ids = {id_ for table in tables for id_ in table.column("id").to_pylist()}
            id_condition = has_id(ids)
            tables += await self.buckets.read_tables(bucket, f"{condition} AND {id_condition}") if id_condition else []
        return tables

    async def versions(self, records: Iterable[Record]) -> dict[str, tuple[int, str]]:
        """The newest stored version and the scope of each record, by id, without unknown ids. Raises StorageError."""
        newest: dict[str, tuple[int, str]] = {}
        async for id_, version, scope in self.buckets.read_versions(records, ("id", "version", "scope")):
            newest[id_] = max((version, scope), newest.get(id_, (0, "")))
        return newest

    async def entries_since(self, seq: int) -> set[tuple[int, str]]:
        """Journal number and id of all rows that were entered in the journal from a number on. Raises StorageError."""
        pairs: set[tuple[int, str]] = set()
        for number in self.buckets.owned:
            for table in await self.buckets.read(number, f"seq >= {seq}", ["seq", "id"]):
                pairs.update(zip(table.column("seq").to_pylist(), table.column("id").to_pylist(), strict=True))
        return pairs

    async def deleted(self, records: Iterable[Record]) -> dict[str, tuple[int, tuple[str, ...]]]:
        """The tombstones among these records: version and former links, by id. Raises StorageError."""
        newest: dict[str, tuple[int, str, tuple[str, ...]]] = {}
        names = ("id", "version", "status", "links")
        async for id_, version, status, links in self.buckets.read_versions(records, names):
            newest[id_] = max((version, status, tuple(links or ())), newest.get(id_, (0, "", ())))
        return {id_: (version, links) for id_, (version, status, links) in newest.items() if status == "deleted"}

    async def older(self, kind: str, before: float, limit: int) -> list[Record]:
        """Up to `limit` memories of a kind, or of `task`, that were created before a moment. Raises StorageError."""
        return await expiry.older(self.buckets, kind, before, limit)

    async def crowded(self, most: int, limit: int) -> list[Record]:
        """Up to `limit` of the oldest memories of scopes that have more than `most`. Raises StorageError."""
        return await expiry.crowded(self.buckets, most, limit)

    async def add(self, rows: Sequence[Row]) -> None:
        """Add rows whose ids are new, or whose versions are newer than the stored ones. Raises StorageError, also if a
        row has a format that its bucket no longer uses."""
        await self.buckets.write(rows)

    async def put(self, rows: Sequence[Row]) -> list[Row]:
        """Add rows that may exist already, or may be older than the stored versions. Returns those that are current.
        Raises StorageError as `add`."""
        newest: dict[str, tuple[int, int]] = {}  # version and journal number by id
        records = [row.record for row in rows]
        async for id_, version, seq in self.buckets.read_versions(records, ("id", "version", "seq")):
            newest[id_] = max((version, seq), newest.get(id_, (0, 0)))
        current = [row for row in rows if (row.record.version, row.seq) >= newest.get(row.record.id, (0, 0))]
        await self.buckets.write(current, set(newest))
        return current

    async def sync(self) -> None:
        """Make all rows durable that were added before this call. Raises StorageError."""
        await self.buckets.sync()

    async def probe(self, scope: str) -> None:
        """Check that a scope can be written and read now. Raises StorageError."""
        await self.buckets.probe(scope)

    async def sweep(self, now: float) -> int:
        """Drop the tables that have had no entry in the catalog for an hour. `now` is of `time.monotonic`. Returns how
        many. Needed where several processes share a place. Raises StorageError."""
        self.buckets.require_open()
        return int(await guarded(self.buckets.tables.sweep(now)))

    async def maintain(self) -> AsyncIterator[None]:
        """Compact or rebuild the buckets that need it; yields after each. Raises StorageError."""
        for number in self.buckets.owned:
            if await self.rebuilder.maintain(number):
                yield

    async def purge(self, scopes: Iterable[str]) -> None:
        """Rebuild the buckets of these scopes without deleted rows. Raises StorageError."""
        for number in self._numbers_of(scopes):
            await self.rebuilder.purge(number)

    async def purge_older(self, before: float) -> int:
        """Rebuild the buckets with rows that were deleted or superseded before a moment. Returns how many. Raises
        StorageError."""
        numbers = await expiry.stale(self.buckets, before)
        for number in numbers:
            await self.rebuilder.purge(number)
        return len(numbers)

    def format_of(self, scope: str) -> RowFormat:
        """The format of a scope's rows; rows that are added to it must have the same format."""
        return self.buckets.format_of(scope)

    def outdated(self) -> dict[int, RowFormat]:
        """Buckets with rows of an outdated format, with that format."""
        return {
            number: entry.row_format
            for number, bucket in self.buckets.by_number.items()
            for entry in reversed(bucket.entries)
            if entry.row_format != self.buckets.row_format
        }

    async def refresh(self) -> None:
        """Read the lists of tables of the buckets that other processes own. Raises StorageError."""
        await self.buckets.refresh_others()

    def owns(self, part: int) -> bool:
        """True if this process may change a bucket now."""
        return self.buckets.owns(part)

    async def count(self, part: int) -> int:
        """The number of rows of a bucket, where each version counts as one. Raises StorageError."""
        return await self.buckets.count(part)

    async def rebuild(self, part: int, prepare: Prepare) -> list[str]:
        """Rebuild a bucket in the current format. Returns the scopes in it. Raises StorageError."""
        return await self.rebuilder.rebuild(part, self.buckets.row_format, prepare)

    def _numbers_of(self, scopes: Iterable[str]) -> list[int]:
        return sorted({self.buckets.number_of(scope) for scope in scopes})
