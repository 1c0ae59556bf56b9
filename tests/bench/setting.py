"""The setting of a run: the commits under measurement, the servers beside them, the folders, the number of rounds."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.client import Client
from tests.bench.processes import ROOT, Server, free_port, spawn, start_gateway, wait_until
from tests.bench.results import AGAIN, OWN

__all__ = ["FULL", "QUICK", "READY", "Bench", "Sizes", "Variant", "fill_folders", "running_servers", "variants_of"]

READY = b'"memory":"ready"'


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    rounds: int
    requests: int  # of one load with memory
    plain_requests: int  # of one load without
    streams: int
    latencies: int  # requests of a round on one connection
    steady_seconds: int
    additions: int
    drained: int
    imported: int
    growth: tuple[int, ...]
    questions: int  # on a grown memory
    starts: int
    embedded: int  # texts whose vectors are computed for filling


FULL = Sizes(
    rounds=5,
    requests=240,
    plain_requests=2400,
    streams=50,
    latencies=40,
    steady_seconds=8,
    additions=50,
    drained=3000,
    imported=6000,
    growth=(20_000, 200_000),
    questions=150,
    starts=3,
    embedded=3000,
)
QUICK = Sizes(
    rounds=2,
    requests=120,
    plain_requests=1200,
    streams=50,
    latencies=30,
    steady_seconds=5,
    additions=20,
    drained=800,
    imported=1000,
    growth=(20_000,),
    questions=60,
    starts=1,
    embedded=1500,
)


@dataclass(frozen=True, slots=True)
class Variant:
    """One process of a commit under measurement."""

    label: str
    root: Path


@dataclass
class Bench:
    """The parts that all figures share. `step` advances the progress bar."""

    folder: Path
    client: Client
    variants: Sequence[Variant]
    sizes: Sizes
    upstream: Server
    bare: Server
    step: Callable[[str], None]

    @asynccontextmanager
    async def gateways(self, data: Path | None = None, *, has_memory: bool = True) -> AsyncIterator[list[Server]]:
        """A gateway of each variant, ready; on copies of the folder `data`, or on empty folders."""
        async with AsyncExitStack() as stack:
            starts = [self.gateway(variant, data, has_memory=has_memory) for variant in self.variants]
            yield [await stack.enter_async_context(start) for start in starts]

    @asynccontextmanager
    async def gateway(
        self,
        variant: Variant,
        data: Path | None = None,
        *,
        has_memory: bool = True,
        is_traced: bool = False,
        workers: int = 1,
        upstream: Server | None = None,
    ) -> AsyncIterator[Server]:
        """The gateway of a variant, ready."""
        folder = self.prepare(variant, data)
        server = start_gateway(
            variant.label,
            variant.root,
            folder,
            (upstream or self.upstream).port,
            has_memory=has_memory,
            is_traced=is_traced,
            workers=workers,
        )
        try:
            await wait_until(self.client.session, server, "/ready", READY)
            yield server
        finally:
            await asyncio.to_thread(server.stop)
            shutil.rmtree(folder, ignore_errors=True)

    def prepare(self, variant: Variant, data: Path | None = None) -> Path:
        """An empty folder for a variant's gateway, or one with a copy of `data`."""
        folder = self.folder / "running" / variant.label.replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if data is not None:
            shutil.copytree(data, folder / "data")
        return folder

    async def in_rounds(
        self, name: str, servers: Sequence[Server], measure: Callable[[Server, int], Awaitable[None]]
    ) -> None:
        """Measure all servers in each round, another one first each time. Round 0 warms up: it does not count."""
        for number in range(self.sizes.rounds + 1):
            begin = number % len(servers)
            for server in (*servers[begin:], *servers[:begin]):
                await measure(server, number)
            self.step(f"{name}, round {number} of {self.sizes.rounds}")


def variants_of(label: str = "", root: Path | None = None) -> list[Variant]:
    """One process of the working tree; beside another commit (its label and checkout) two of each, so that noise
    shows."""
    if root is None:
        return [Variant(OWN, ROOT)]
    pairs = [(OWN, ROOT), (label, root)]
    return [Variant(name + ending, folder) for ending in ("", AGAIN) for name, folder in pairs]


def fill_folders(folders: Mapping[Path, Mapping[str, int]], embedded: int) -> None:
    """Fill data folders with memories, in a process of its own. Raises CalledProcessError."""
    spec = json.dumps({str(folder): users for folder, users in folders.items()})
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.bench.filling", str(embedded), spec]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


@asynccontextmanager
async def running_servers(client: Client) -> AsyncIterator[tuple[Server, Server]]:
    """The upstream and the bare pass-through."""
    upstream_port, bare_port = free_port(), free_port()
    module = "tests.bench.servers"
    upstream = Server("upstream", upstream_port, spawn(module, "upstream", str(upstream_port)))
    bare = Server("bare", bare_port, spawn(module, "bare", str(bare_port), str(upstream_port)))
    try:
        for server in (upstream, bare):
            await wait_until(client.session, server, "/nothing", b"404")
        yield upstream, bare
    finally:
        for server in (bare, upstream):
            await asyncio.to_thread(server.stop)
