"""How recall grows with the memory: from a thousand to a million memories on one store. `make bench-scale`.

Each size is a process of its own: a store with that many memories (200 a user, and one user with 2000), working sets
under a limit of 256 MiB. Measured: the first recall of a user (load, and search), later ones, one round of maintenance
after a burst of writes, memory. Vectors are random; words follow Zipf's law. Linux only: memory is read from /proc.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gateway.identity import scope_of
from gateway.recall.rank import RankWeights
from gateway.recall.working_sets import WorkingSets
from gateway.storage.folder import DataFolder
from gateway.storage.lance.catalog import TableEntry
from gateway.storage.lance.schema import to_arrow
from gateway.storage.lance.store import MemoryStore
from gateway.storage.rows import Row, RowFormat
from gateway.telemetry import Telemetry
from gateway.turn import Record, Scope

_SIZES = (1_000, 10_000, 100_000, 1_000_000)
_DIMENSIONS = 512
_OF_A_USER, _OF_THE_LARGE = 200, 2_000
_LIMIT = 256 * 2**20
_MADE = RowFormat("bench", _DIMENSIONS, 2)
_WORDS = [f"word{number}" for number in range(5_000)]
_LOADS, _SEARCHES = 40, 200
_COLUMNS = ("load_ms", "load_2000_ms", "search_ms", "search_2000_ms", "maintain_s", "resident_mib", "disk_mib")


def rows_of(scope: Scope, count: int, made: np.random.Generator) -> list[Row]:
    vectors = made.standard_normal((count, _DIMENSIONS), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = made.zipf(1.3, (count, 20)) % len(_WORDS)
    rows = []
    for number in range(count):
        terms = tuple(_WORDS[word] for word in words[number])
        at = 1_700_000_000.0 + number * 60
        record = Record(
            id=made.bytes(16).hex(),
            scope=scope.value,
            cube_id=scope.cube_id,
            user_id=scope.cube_id,
            session_id=f"s{number // 20}",
            kind="turn",
            source="assistant" if number % 2 else "user",
            text=" ".join(terms),
            event_time=at,
            created_at=at,
            updated_at=at,
        )
        rows.append(Row(record=record, vector=vectors[number], embedder="bench", terms=terms, tokens=40, seq=number))
    return rows


async def filled(store: MemoryStore, folder: DataFolder, scopes: list[tuple[Scope, int]]) -> None:
    """Settled tables, as rebuilding leaves them; the template's rows are copied to spare the making of a million."""
    made = np.random.default_rng(1)
    by_bucket: dict[int, list[tuple[Scope, int]]] = {}
    for scope, count in scopes:
        by_bucket.setdefault(store.buckets.number_of(scope.value), []).append((scope, count))
    for bucket, members in by_bucket.items():
        entry = TableEntry(f"memories_{bucket:03d}_1", _MADE, is_settled=True)
        table = await store.buckets.tables.create(entry)
        for begin in range(0, len(members), 20):
            group = sorted(members[begin : begin + 20], key=lambda one: one[0].value)
            rows = [row for scope, count in group for row in rows_of(scope, count, made)]
            await table.add(to_arrow(rows, _DIMENSIONS))
        growing = TableEntry(f"memories_{bucket:03d}_2", _MADE)
        store.buckets[bucket].handles = {entry.name: table, growing.name: await store.buckets.tables.create(growing)}
        await store.buckets.tables.enter(bucket, store.buckets[bucket], (entry, growing), 1)
        if sum(count for _, count in members) >= 5_000:
            from gateway.storage.lance.near import index_keys

            await index_keys(table)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def measured(size: int, path: Path) -> dict[str, float]:
    folder = DataFolder(path)
    folder.open(16, "bench", _DIMENSIONS)
    store = MemoryStore(folder, _MADE)
    await store.open()
    large = scope_of("t", "large")
    others = size - (_OF_THE_LARGE if size > _OF_THE_LARGE else 0)
    users = [scope_of("t", f"user{number}") for number in range(others // _OF_A_USER)]
    counts = [(scope, _OF_A_USER) for scope in users] + ([(large, _OF_THE_LARGE)] if size > _OF_THE_LARGE else [])
    await filled(store, folder, counts)
    await store.close()
    store = MemoryStore(folder, _MADE)
    await store.open()
    made = np.random.default_rng(2)
    found = await recalls(store, users, large if size > _OF_THE_LARGE else users[0], made)
    burst = [row for scope in users[:50] for row in rows_of(scope, 10, made)]
    for begin in range(0, len(burst), 5):
        await store.add(burst[begin : begin + 5])
    began = time.perf_counter()
    async for _ in store.maintain():
        pass
    found["maintain_s"] = time.perf_counter() - began
    files = (file for file in (path / "lance").rglob("*") if file.is_file())
    found["disk_mib"] = sum(file.stat().st_size for file in files) / 2**20
    await store.close()
    folder.close()
    return found


async def recalls(store: MemoryStore, users: list[Scope], large: Scope, made: np.random.Generator) -> dict[str, float]:
    sets = WorkingSets(store, Telemetry(), max_rows=200_000, max_bytes=_LIMIT)
    chosen = [users[int(number)] for number in made.integers(0, len(users), _LOADS)]
    await sets.get(chosen[0])
    loads = [await timed(sets.get(scope)) for scope in dict.fromkeys(chosen[1:])]
    large_loads = []
    for _ in range(5):
        sets.drop([large.value])
        large_loads.append(await timed(sets.get(large)))
    searches: dict[str, list[float]] = {"search_ms": [], "search_2000_ms": []}
    for name, scope in (("search_ms", chosen[-1]), ("search_2000_ms", large)):
        held = await sets.get(scope)
        for _ in range(_SEARCHES):
            terms = [_WORDS[word] for word in made.zipf(1.3, 8) % len(_WORDS)]
            vector = made.standard_normal(_DIMENSIONS).astype(np.float32)
            began = time.perf_counter()
            held.search(terms, vector, 128, RankWeights())
            searches[name].append((time.perf_counter() - began) * 1000)
    for scope in users[:3000]:  # more than the limit holds, where there are that many
        await sets.get(scope)
    found = {name: float(np.median(values)) for name, values in searches.items()}
    found |= {"load_ms": float(np.median(loads or [0])), "load_2000_ms": float(np.median(large_loads))}
    found["resident_mib"] = resident_mib()
    await sets.stop()
    return found


async def timed(work: Any) -> float:
    began = time.perf_counter()
    await work
    return (time.perf_counter() - began) * 1000


def draw(results: dict[int, dict[str, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    sizes = list(results)
    for name, label in (
        ("load_ms", "first recall, user of 200"),
        ("load_2000_ms", "first recall, user of 2000"),
        ("search_ms", "later recall, user of 200"),
        ("search_2000_ms", "later recall, user of 2000"),
    ):
        axes.plot(sizes, [results[size][name] for size in sizes], marker="o", label=label)
    axes.set(xscale="log", yscale="log", xlabel="memories in the store", ylabel="ms, median, embedding aside")
    axes.set_title("Recall by the size of the whole memory", loc="left")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    if len(sys.argv) > 2:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(asyncio.run(measured(int(sys.argv[1]), Path(folder) / "data"))))
        return
    results = {}
    for size in track(_SIZES, description="sizes"):
        command = [sys.executable, "-m", "tests.bench.scale", str(size), "alone"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results[size] = json.loads(done.stdout)
    table = Table(title=f"Recall by the size of the store (working sets: {_LIMIT // 2**20} MiB)")
    for name in ("memories", *_COLUMNS):
        table.add_column(name, justify="right")
    for size, found in results.items():
        table.add_row(f"{size:,}", *(f"{found[name]:.1f}" for name in _COLUMNS))
    Console().print(table)
    picture = Path(sys.argv[1] if len(sys.argv) > 1 else "scale.png")
    draw(results, picture)
    print(f"drew {picture}")


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    main()
