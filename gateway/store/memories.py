"""The record of all memories: LanceDB tables in the data folder.

Every method takes a `Scope` or rows that carry one; there is no way to read without. No text of a user ever becomes
part of a filter: a scope is 64 hex characters. The tables are split into buckets by scope, so that the tables of many
users stay small. Ids are ours, and one process writes (it holds the lock of the folder), so plain adds suffice; a row
that an earlier process may have added goes through an upsert.
"""

import asyncio
import os
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from gateway.store.folder import DataFolder, fsync
from gateway.store.lean_import import import_lancedb
from gateway.store.loaded import ENUMERATED, RECORD_FIELDS, TIMES, Loaded, Row
from gateway.turn import Record, Scope

__all__ = ["MemoryStore", "Row", "StoreFailed"]

_HEX = re.compile(r"^[0-9a-f]{64}\Z")
_ID = re.compile(r"^[0-9a-f]{32}\Z")
_READ_TIMEOUT = timedelta(seconds=10)
_INDEX_CACHE_BYTES = 64 * 2**20
_METADATA_CACHE_BYTES = 32 * 2**20
_FRAGMENTS_BEFORE_COMPACTION = 100  # reads are rare (working sets), and compaction rewrites a table
_ROWS_BEFORE_INDEX = 5_000
_VERSIONS_KEPT = timedelta(minutes=15)
_PROBE_BYTES = 2**20


class StoreFailed(Exception):
    """LanceDB did not do it. The journal keeps what was to be written."""


class MemoryStore:
    """Reads and writes rows. `open` takes seconds (LanceDB is heavy): call it behind the open port."""

    def __init__(self, folder: DataFolder, dimensions: int) -> None:
        self._folder = folder
        self._dimensions = dimensions
        self._database: Any = None
        self._tables: dict[int, Any] = {}
        self._writing = asyncio.Lock()
        self._synced_at = time.time()

    async def open(self) -> None:
        """Import LanceDB and open what is there. Raises StoreFailed."""
        os.environ.setdefault("LANCEDB_LOG", "error")
        database = await asyncio.to_thread(_connect_sync, self._folder.path / "lance")
        try:
            self._database = await database()
            names = (await self._database.list_tables()).tables
            for bucket in range(self._folder.buckets):
                if _table_name(bucket) in names:
                    self._tables[bucket] = table = await self._database.open_table(_table_name(bucket))
                    if "version" not in (await table.schema()).names:
                        await table.add_columns({"version": "CAST(1 AS INT)"})
        except Exception as error:
            self._database = None
            raise StoreFailed(_short(error)) from error

    async def close(self) -> None:
        tables, self._tables = self._tables, {}
        for table in tables.values():
            table.close()
        if self._database is not None:
            self._database.close()
            self._database = None

    async def find(self, memory_ids: Sequence[str]) -> list[Record]:
        """Memories by their ids, in whatever scope: whoever asks checks whose they are. Raises StoreFailed."""
        ids = [f"'{id_}'" for id_ in memory_ids if _ID.match(id_)]
        if not ids:
            return []
        self._require_open()
        condition = f"id IN ({','.join(ids)})"
        queries = [table.query().where(condition).to_arrow(timeout=_READ_TIMEOUT) for table in self._tables.values()]
        found = await asyncio.gather(*(_guarded(query) for query in queries))
        return await asyncio.to_thread(
            lambda: [record for arrow in found for record in Loaded(arrow, None, len(arrow)).records()]
        )

    async def load(self, scope: Scope, limit: int) -> Loaded:
        """All rows of a scope in the order they were remembered; the newest `limit`. Raises StoreFailed."""
        condition = f"scope = '{_hex(scope.value)}'"
        table = self._tables.get(self._bucket(scope.value))
        if table is None:
            self._require_open()
            return Loaded((), scope, limit)
        query = table.query().where(condition)
        arrow = await _guarded(query.to_arrow(timeout=_READ_TIMEOUT))
        return await asyncio.to_thread(Loaded, arrow, scope, limit)

    async def write(self, rows: Sequence[Row], *, may_exist: bool) -> None:
        """Add rows. With `may_exist`, rows whose id is there are replaced. Raises StoreFailed."""
        self._require_open()
        by_bucket: dict[int, dict[str, Row]] = defaultdict(dict)
        for row in rows:
            by_bucket[self._bucket(row.record.scope)][row.record.id] = row
        async with self._writing:
            for bucket, members in by_bucket.items():
                data = await _guarded(asyncio.to_thread(_arrow, list(members.values()), self._dimensions))
                await _guarded(self._write_bucket(bucket, data, may_exist))

    async def sync(self) -> None:
        """Bring all files written since the last call to the disk; LanceDB itself never does. Raises StoreFailed."""
        started = time.time()
        async with self._writing:
            try:
                await asyncio.to_thread(_sync_tree, self._folder.path / "lance", self._synced_at - 2)
            except OSError as error:
                raise StoreFailed(_short(error)) from error
        self._synced_at = started

    async def probe(self) -> None:
        """Raises StoreFailed if nothing could be written or read now, whatever it is."""
        self._require_open()
        try:
            await asyncio.to_thread(_probe_disk, self._folder.path / "lance" / "probe")
        except OSError as error:
            raise StoreFailed(_short(error)) from error
        for table in list(self._tables.values())[:1]:
            await _guarded(table.version())

    async def maintain(self) -> int:
        """Compact tables that have many fragments, and index large ones. Returns how many were compacted."""
        compacted = 0
        for table in list(self._tables.values()):
            stats = await _guarded(table.stats())
            if stats["fragment_stats"]["num_fragments"] < _FRAGMENTS_BEFORE_COMPACTION:
                continue
            async with self._writing:
                await _guarded(table.delete("status = 'deleted'"))
                if stats["num_rows"] >= _ROWS_BEFORE_INDEX and not await _guarded(table.list_indices()):
                    await _guarded(_create_indexes(table))
                await _guarded(table.optimize(cleanup_older_than=_VERSIONS_KEPT))
            compacted += 1
        return compacted

    async def _write_bucket(self, bucket: int, data: Any, may_exist: bool) -> None:
        table = self._tables.get(bucket)
        if table is None:
            table = await self._database.create_table(_table_name(bucket), schema=data.schema, exist_ok=True)
            await table.set_unenforced_primary_key("id")
            self._tables[bucket] = table
        if may_exist:
            upsert = table.merge_insert("id").use_index(False)
            await upsert.when_matched_update_all().when_not_matched_insert_all().execute(data)
        else:
            await table.add(data)

    def _bucket(self, scope: str) -> int:
        return int(scope[:8], 16) % self._folder.buckets

    def _require_open(self) -> None:
        if self._database is None:
            raise StoreFailed("the store is not open")


def _connect_sync(path: Path) -> Any:
    lancedb = import_lancedb()  # a second and more of loading: behind the open port
    path.mkdir(parents=True, exist_ok=True)
    session = lancedb.Session(
        index_cache_size_bytes=_INDEX_CACHE_BYTES, metadata_cache_size_bytes=_METADATA_CACHE_BYTES
    )
    return lambda: lancedb.connect_async(str(path), session=session)


async def _create_indexes(table: Any) -> None:
    from lancedb.index import BTree  # noqa: PLC0415

    for column in ("scope", "id"):
        await table.create_index(column, config=BTree())


async def _guarded(awaitable: Any) -> Any:
    try:
        return await awaitable
    except Exception as error:
        raise StoreFailed(_short(error)) from error


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"


def _table_name(bucket: int) -> str:
    return f"memories_{bucket:03d}"


def _hex(scope: str) -> str:
    if not _HEX.match(scope):
        raise ValueError("a scope is 64 hex characters")
    return scope


def _schema(dimensions: int) -> Any:
    import pyarrow as pa  # noqa: PLC0415 — heavy: loaded behind the open port

    moment = pa.timestamp("us", tz="UTC")
    required = {"id": pa.utf8(), "scope": pa.utf8(), "seq": pa.int64()}
    fields = {
        "cube_id": pa.utf8(),
        "user_id": pa.utf8(),
        "session_id": pa.utf8(),
        "message_id": pa.utf8(),
        "part": pa.int32(),
        "agent_id": pa.utf8(),
        "app_id": pa.utf8(),
        "kind": pa.utf8(),
        "source": pa.utf8(),
        "status": pa.utf8(),
        "text": pa.utf8(),
        "fts": pa.utf8(),
        "tokens": pa.int32(),
        "tags": pa.list_(pa.utf8()),
        "links": pa.list_(pa.utf8()),
        "version": pa.int32(),
        "info": pa.utf8(),
        "confidence": pa.float32(),
        "event_time": moment,
        "created_at": moment,
        "updated_at": moment,
        "embedder": pa.utf8(),
        "vector": pa.list_(pa.float32(), dimensions),
    }
    return pa.schema(
        [pa.field(name, kind, nullable=False) for name, kind in required.items()]
        + [pa.field(name, kind) for name, kind in fields.items()]
    )


def _arrow(rows: Sequence[Row], dimensions: int) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    columns: dict[str, list[Any]] = {name: [getattr(row.record, name) for row in rows] for name in RECORD_FIELDS}
    for name in TIMES:
        columns[name] = [datetime.fromtimestamp(getattr(row.record, name), UTC) for row in rows]
    for name in ENUMERATED:
        columns[name] = [list(getattr(row.record, name)) for row in rows]
    columns["info"] = [orjson.dumps(dict(row.record.info)).decode() for row in rows]
    columns["fts"] = [" ".join(row.terms) for row in rows]
    columns["tokens"] = [row.tokens for row in rows]
    columns["seq"] = [row.seq for row in rows]
    columns["embedder"] = [row.embedder for row in rows]
    columns["vector"] = [None if row.vector is None else row.vector for row in rows]
    schema = _schema(dimensions)
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema=schema)


def _probe_disk(path: Path) -> None:
    path.write_bytes(bytes(_PROBE_BYTES))
    fsync(path)
    path.unlink()


def _sync_tree(root: Path, since: float) -> None:
    """fsync files changed since then, and the folders that name them."""
    for folder, _, files in os.walk(root):
        changed = [Path(folder, name) for name in files if _modified(Path(folder, name)) >= since]
        for path in changed:
            fsync(path)
        if changed:
            fsync(Path(folder))


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
