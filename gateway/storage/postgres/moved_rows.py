"""The rows of a cluster in PostgreSQL, as a move reads and writes them."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import orjson

from gateway.storage.moved_tables import MovedTable, RowBatch
from gateway.storage.postgres.database import PostgresDatabase, PostgresStatements
from gateway.storage.postgres.names import SCHEMA, TABLES

__all__ = ["PostgresRows"]

_CLAIM_RETENTION: Final = 86_400.0  # seconds that a claim is known at most
_RENAMED: Final = {("counters", "expires"): "until"}
_POSITION: Final = "position"
_PLACES: Final = "SELECT name, value FROM places WHERE name NOT LIKE 'position%'"
# extraction has come so far in all buckets; what it has not noted of one of them comes later
_FIRST_UNNOTED: Final = """
SELECT CAST(min(e.seq) AS BIGINT) FROM entries e
LEFT JOIN places p ON p.name=CASE WHEN e.bucket=0 THEN 'position' ELSE 'position:' || e.bucket END
WHERE e.state=1 AND e.payload IS NOT NULL AND e.seq>coalesce(p.value, 0)
"""
_LAST_NOTED: Final = "SELECT max(value) FROM places WHERE name LIKE 'position%'"
_SEQUENCE: Final = f"pg_get_serial_sequence('{SCHEMA}.entries', 'seq')::regclass"
_UNCLEARED: Final = {"meta", "documents", "leases"}
_NEEDED_EMPTY: Final = [name for name in TABLES if name not in ("meta", "leases", "mail", "counters")]


class PostgresRows:
    """Reads and writes the tables of a cluster; see `MovedRows`. `bucket_of`: the bucket of a scope; `buckets`: their
    number."""

    def __init__(self, database: PostgresDatabase, bucket_of: Callable[[str], int], buckets: Callable[[], int]) -> None:
        self._database = database
        self._bucket_of = bucket_of
        self._buckets = buckets

    async def find_content(self) -> str | None:
        """A table that has rows, but the mark of a move; None if the cluster is empty."""
        for name in _NEEDED_EMPTY:
            condition = "WHERE name<>'move'" if name == "documents" else ""
            rows = await self._database.read(f"SELECT EXISTS (SELECT 1 FROM {name} {condition})")  # noqa: S608 — ours
            if rows[0][0]:
                return name
        return None

    async def clear(self) -> None:
        """Delete what an interrupted move has written."""
        names = ", ".join(f"{SCHEMA}.{name}" for name in TABLES if name not in _UNCLEARED)

        def work(statements: PostgresStatements) -> None:
            statements.execute(f"TRUNCATE {names} RESTART IDENTITY")
            statements.execute("DELETE FROM documents WHERE name<>'move'")

        await self._database.run(lambda: self._database.transaction(work))

    async def count(self, table: MovedTable) -> int:
        if table.name == "places":
            places = "SELECT count(*) FROM places WHERE name NOT LIKE 'position%'"
            (others,), (position,) = [*await self._database.read(places), *await self._database.read(_LAST_NOTED)]
            return int(others) + (position is not None)
        return int((await self._database.read(f"SELECT count(*) FROM {table.name}"))[0][0])  # noqa: S608 — ours

    async def read(self, table: MovedTable) -> AsyncIterator[RowBatch]:
        if table.name == "places":
            yield await self._read_places()
            return
        database = self._database
        names = ", ".join(f'"{name}"' for name in _columns(table))
        declare = f"DECLARE moved CURSOR FOR SELECT {names} FROM {table.name}"  # noqa: S608 — ours
        begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"

        def start() -> None:
            statements = PostgresStatements(database.connection)
            for statement in (begin, "SET LOCAL idle_in_transaction_session_timeout=0", declare):
                statements.execute(statement)

        def fetch(statement: str) -> list[tuple[Any, ...]]:
            return PostgresStatements(database.connection).execute(statement)

        await database.run(start)
        try:
            while rows := await database.run(lambda: fetch(f"FETCH {table.batch} FROM moved")):
                yield rows
        finally:
            await database.run(lambda: fetch("ROLLBACK"))

    async def write(self, table: MovedTable, rows: RowBatch) -> None:
        if table.name == "places":
            rows = [place for row in rows for place in self._spread(row)]
        columns, overriding = [*_columns(table)], ""
        if table.name == "entries":
            columns += ["bucket", "scope", "is_tombstone"]
            rows = [(*row, *self._describe(row[-1])) for row in rows]
            overriding = "OVERRIDING SYSTEM VALUE"
        elif table.name == "claims":
            columns.append("until")
            rows = [(*row, row[2] + _CLAIM_RETENTION) for row in rows]
        names = ", ".join(f'"{name}"' for name in columns)
        places = ", ".join("?" * len(columns))
        await self._database.write(
            f"INSERT INTO {table.name} ({names}) {overriding} VALUES ({places})",  # noqa: S608 — ours
            list(rows),
        )

    async def newest_seq(self) -> int:
        rows = await self._database.read(f"SELECT coalesce(pg_sequence_last_value({_SEQUENCE}), 0)")
        return int(rows[0][0])

    async def continue_after(self, seq: int) -> None:
        await self._database.read(f"SELECT setval({_SEQUENCE}, greatest(?, 1), ?)", (seq, seq > 0))

    async def _read_places(self) -> RowBatch:
        """The places, with one position for all buckets."""
        rows = await self._database.read(_PLACES)
        last = (await self._database.read(_LAST_NOTED))[0][0]
        if last is None:
            return rows
        first = (await self._database.read(_FIRST_UNNOTED))[0][0]
        return [*rows, (_POSITION, last if first is None else min(last, float(first - 1)))]

    def _spread(self, row: tuple[Any, ...]) -> Sequence[tuple[Any, ...]]:
        """A place; the position once for each bucket."""
        name, value = row
        if name != _POSITION:
            return [row]
        return [(f"{_POSITION}:{bucket}" if bucket else _POSITION, value) for bucket in range(self._buckets())]

    def _describe(self, payload: bytes | None) -> tuple[int, str, bool]:
        """Bucket, scope, and whether it is a deletion, of an entry; only its id is needed of one without its text."""
        if payload is None:
            return 0, "", False
        record = orjson.loads(payload)
        return self._bucket_of(record["scope"]), record["scope"], record["status"] == "deleted"


def _columns(table: MovedTable) -> Sequence[str]:
    return [_RENAMED.get((table.name, name), name) for name in table.columns]
