"""Read all memories of a cluster from its tables, and write them to files with the vectors of another embedder.

    python deploy/ray/reembed.py --source cluster.yaml --config new.yaml --out parts
    ls parts/*/*.jsonl | xargs -P 4 -n 1 gateway memory import --config new.yaml

Stop the gateways of the source before, when all is stored: the job refuses to start while memories wait in the journal.
The source is only read.
"""

import argparse
import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lance_ray
import pyarrow as pa
import ray
import ray.data
from parts import LINE, SMALL, add_arguments, start_ray, write_parts

from gateway.config import load
from gateway.maintenance.transfer import encode_line
from gateway.storage.lance.catalog import TableEntry, bucket_of, decode, encode
from gateway.storage.lance.object_place import ObjectStorage, object_storage
from gateway.storage.postgres.catalog import PostgresCatalog
from gateway.storage.postgres.database import PostgresDatabase
from gateway.storage.postgres.parts import build_registry
from gateway.storage.postgres.probe import find_move
from gateway.storage.rows import LoadedRows
from gateway.turn import Scope

_CHANGED = "version > 1 OR status = 'deleted'"
_TABLES_AT_ONCE = 64


class ToLines:
    """Converts rows to lines. Left out: deleted memories and old versions, by the newest version of each changed id;
    and memories of scopes that are not registered any more."""

    def __init__(
        self, scopes: "ray.ObjectRef[Mapping[str, Scope]]", newest: "ray.ObjectRef[Mapping[str, int]]"
    ) -> None:
        self._scopes: Mapping[str, Scope] = ray.get(scopes)
        self._newest: Mapping[str, int] = ray.get(newest)

    def __call__(self, batch: pa.Table) -> dict[str, list[bytes]]:
        records = LoadedRows([batch]).records() if len(batch) else []
        current = [record for record in records if self._newest.get(record.id, record.version) == record.version]
        return {
            LINE: [
                encode_line(self._scopes[record.scope], record, {})
                for record in current
                if record.scope in self._scopes
            ]
        }


async def find_obstacles(url: str) -> list[str]:
    """Why the tables do not have the whole memory."""
    if problems := await asyncio.to_thread(find_move, url):
        return problems
    database = PostgresDatabase(url, "journal")
    await database.open()
    try:
        ((count,),) = await database.read("SELECT count(*) FROM entries WHERE state<>1")
    finally:
        await database.close()
    advice = "let a gateway run without requests for memory.store.flush_seconds, and stop it then"
    return [f"{count} memories wait in the journal: {advice}"] if count else []


async def read_database(url: str) -> tuple[list[TableEntry], dict[str, Scope]]:
    """The tables of the catalog, and the registered scopes."""
    catalog: PostgresCatalog[TableEntry] = PostgresCatalog(url, lambda _: 0, encode, decode)
    registry = build_registry(url, is_owner=False)
    await catalog.open()
    await registry.open()
    try:
        tables = [entry for bucket in sorted(map(bucket_of, catalog.names)) for entry in catalog.tables(bucket)]
        return list(dict.fromkeys(tables)), {scope.value: scope for scope in await registry.scopes()}
    finally:
        await registry.close()
        await catalog.close()


def read_tables(storage: ObjectStorage, tables: list[TableEntry], **options: Any) -> ray.data.Dataset:
    first, *others = [
        lance_ray.read_lance(
            f"{storage.uri}/{entry.name}.lance",
            storage_options=dict(storage.options),
            ray_remote_args={"num_cpus": SMALL},
            **options,
        )
        for entry in tables
    ]
    return first.union(*others) if others else first


def newest_versions(storage: ObjectStorage, tables: list[TableEntry]) -> dict[str, int]:
    """The newest version of each changed memory; 0 for a deleted one."""
    newest: dict[str, tuple[int, bool]] = {}
    for begin in range(0, len(tables), _TABLES_AT_ONCE):
        group = tables[begin : begin + _TABLES_AT_ONCE]
        rows = read_tables(storage, group, columns=["id", "version", "status"], filter=_CHANGED)
        for row in rows.iter_rows():
            version, is_deleted = newest.get(row["id"], (0, False))
            if row["version"] >= version:
                newest[row["id"]] = (
                    row["version"],
                    row["status"] == "deleted" or (is_deleted and row["version"] == version),
                )
    return {id_: 0 if is_deleted else version for id_, (version, is_deleted) in newest.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, help="configuration of the cluster")
    parser.add_argument("--config", required=True, help="configuration with the new embedder, on all nodes")
    add_arguments(parser)
    options = parser.parse_args()
    memory = load(Path(options.source)).memory
    if memory.database is None:
        parser.error("the source is no cluster: use gateway memory reindex")
    url = memory.database.get_secret_value()
    if problems := asyncio.run(find_obstacles(url)):
        parser.error(problems[0])
    storage = object_storage(memory.uri, memory.storage)
    tables, scopes = asyncio.run(read_database(url))
    start_ray(options.address)
    count = 0
    arguments = ray.put(scopes), ray.put(newest_versions(storage, tables))
    for begin in range(0, len(tables), _TABLES_AT_ONCE):
        rows = read_tables(storage, tables[begin : begin + _TABLES_AT_ONCE])
        lines = rows.map_batches(
            ToLines,
            fn_constructor_args=arguments,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=1),
            num_cpus=SMALL,
        )
        count += write_parts(lines, options.config, options)
    print(f"{count} memories are in {options.out}")


if __name__ == "__main__":
    main()
