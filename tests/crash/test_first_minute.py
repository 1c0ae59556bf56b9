"""A fresh data folder survives a kill at every step of its first minute, a lost catalog, and a full disk."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Scale
from tests.fakes.process import Process, spawn, stopped, url_of
from tests.fakes.running import configuration, eventually, running_gateway
from tests.fakes.upstream import FakeUpstream

_USERS = 4
_WATCHED = 40.0  # seconds at most
_Signature = tuple[tuple[str, int, int], ...]


def signature(folder: Path) -> _Signature:
    """Names, sizes and times of all files but the tokenizer's."""
    found = []
    for path, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - {"tokenizers"})
        found.append((path, 0, 0))
        for name in sorted(files):
            with contextlib.suppress(OSError):
                status = os.stat(os.path.join(path, name))
                found.append((os.path.join(path, name), status.st_size, status.st_mtime_ns))
    return tuple(found)


@dataclass
class State:
    """A copy of a data folder as a kill would have left it, and what had been acknowledged before."""

    folder: Path
    acknowledged: list[str]
    names: frozenset[str]


@dataclass
class Recorder:
    """Stops a process again and again, and copies its data folder whenever it has changed."""

    process: BaseProcess
    source: Path
    target: Path
    acknowledged: list[str]
    states: list[State] = field(default_factory=list)
    is_over: bool = False

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def run(self) -> None:
        last: _Signature = ()
        chance, deadline = random.Random(1), time.monotonic() + _WATCHED
        while not self.is_over and time.monotonic() < deadline:
            before = list(self.acknowledged)
            os.kill(self.pid, signal.SIGSTOP)
            self._wait_until_stopped()
            now = signature(self.source) if self.source.exists() else ()
            if now != last:
                last = now
                self._copy(before, now)
            os.kill(self.pid, signal.SIGCONT)
            time.sleep(chance.uniform(0.0, 0.002))

    def _wait_until_stopped(self) -> None:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            tasks = Path(f"/proc/{self.pid}/task").iterdir()
            if all((task / "stat").read_text().rpartition(")")[2].split()[0] in "TtZ" for task in tasks):
                return
            os.sched_yield()
        raise AssertionError("the process did not stop")

    def _copy(self, acknowledged: list[str], now: _Signature) -> None:
        target = self.target / str(len(self.states)) / "data"
        shutil.copytree(self.source, target, ignore=shutil.ignore_patterns("tokenizers"))
        self.states.append(State(target.parent, acknowledged, frozenset(name for name, _, _ in now)))


async def say(gateway: Process, text: str, number: int) -> None:
    body = {"model": "m", "user": f"user{number % _USERS}", "messages": [{"role": "user", "content": text}]}
    status, _ = await gateway.post("/v1/chat/completions", body)
    assert status == 200


async def recorded(folder: Path, upstream_url: str) -> list[State]:
    """The states of a fresh folder while its first users speak, until the store is synced."""
    configuration(folder, upstream_url)
    process = await asyncio.to_thread(spawn, folder)
    acknowledged: list[str] = []
    recorder = Recorder(process, folder / "data", folder / "states", acknowledged)
    watching = threading.Thread(target=recorder.run)
    watching.start()
    try:
        async with aiohttp.ClientSession() as session:
            gateway = Process(process, await url_of(process, folder), session, folder / "gateway.log")
            for number in range(2 * _USERS):
                text = f"Cargo {number} is on board."
                await say(gateway, text, number)
                acknowledged.append(text)
            await gateway.texts()  # an export syncs the files of the store
    finally:
        recorder.is_over = True
        watching.join()
        await stopped(process)
    return recorder.states


def chosen(states: list[State], count: int) -> list[State]:
    """States spread over the whole time; those in which a file first appears come first."""
    seen: set[str] = set()
    fresh: list[State] = []
    for state in states:
        if state.names - seen:
            fresh.append(state)
        seen |= state.names
    others = [state for state in states if state not in fresh]
    picked = random.Random(2).sample(fresh, min(count, len(fresh)))
    return picked + random.Random(3).sample(others, min(max(0, count - len(picked)), len(others)))


async def check(state: State, upstream_url: str) -> None:
    """A gateway on this state is ready and has each acknowledged text exactly once."""
    async with running_gateway(configuration(state.folder, upstream_url)) as gateway:
        await gateway.settled()
        reply = await gateway.get("/v1/memory/export")
        assert reply.status == 200, reply.body
        for text in state.acknowledged:
            assert reply.body.decode().count(text) == 1, (text, sorted(state.names))
        assert (await gateway.chat("One more word.")).status == 200


@pytest.mark.one_process("stops its one process at each step, and opens each of the states")
@pytest.mark.timeout(3600)
async def test_a_kill_at_any_step_of_a_fresh_folder_loses_nothing(
    tmp_path: Path, upstream: FakeUpstream, scale: Scale
) -> None:
    states = await recorded(tmp_path, upstream.url)
    assert len(states) > 30
    for state in chosen(states, scale(30, 10_000)):
        await check(state, upstream.url)


@pytest.mark.parametrize("is_written", [False, True], ids=["empty table", "rows in it"])
async def test_tables_that_no_catalog_names_are_entered_again(
    tmp_path: Path, upstream: FakeUpstream, is_written: bool
) -> None:
    config = configuration(tmp_path, upstream.url, memory__buckets=1)
    async with running_gateway(config) as gateway:
        await gateway.chat("My cat is called Miso.")
        await gateway.settled()
    (tmp_path / "data" / "tables.json").write_bytes(b"") if is_written else (tmp_path / "data" / "tables.json").unlink()
    if is_written:  # and the journal has nothing any more
        for path in (tmp_path / "data").glob("journal.sqlite*"):
            path.unlink()
    else:
        table = next((tmp_path / "data" / "lance").glob("memories_000_*.lance"))
        for path in table.rglob("*"):  # as if it was being made
            if path.is_file():
                path.unlink()
    async with running_gateway(config) as gateway:
        await gateway.settled()
        assert (await gateway.get("/v1/memory/export")).body.count(b"My cat is called Miso.") == 1
        assert (tmp_path / "data" / "tables.json").exists()


def can_mount() -> bool:
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


async def has_loaded(gateway: Process) -> bool:
    """True once the memory is ready, or a part of it has failed and is tried again."""
    return bool((await gateway.state())["memory"] != "loading")


async def has_tried(gateway: Process) -> bool:
    """True once the store has tried to take what the journal has, or cannot, since it lacks a part."""
    failures, state = await gateway.metric("gateway_drain_failures_total"), await gateway.state()
    return bool(failures > 0 or state["journal_backlog"] == 0 or state["memory"].startswith("degraded"))


@contextlib.asynccontextmanager
async def small_disk(folder: Path, free_kib: int) -> AsyncIterator[tuple[int, Path]]:
    """A file system of 24 MiB at `folder` with so much room left: the process that sees it, and the file whose removal
    gives it room."""
    folder.mkdir()
    fill = f"dd if=/dev/zero of={folder}/filler bs=1K count={24 * 1024 - free_kib} 2>/dev/null"
    script = f"mount -t tmpfs -o size=24m tmpfs {folder} && {fill}; touch {folder}.full; exec sleep 110"
    keeper = subprocess.Popen(["unshare", "-rm", "sh", "-c", script])  # noqa: ASYNC220 — it only holds the mount
    try:
        await eventually(lambda: Path(f"{folder}.full").exists(), 10)
        yield keeper.pid, Path(f"/proc/{keeper.pid}/root{folder}/filler")
    finally:
        keeper.kill()
        await asyncio.to_thread(keeper.wait, 10)


@contextlib.asynccontextmanager
async def started(folder: Path, keeper: int) -> AsyncIterator[Process | None]:
    """A gateway beside the small disk, killed at the end; None if it refused to start, in words."""
    process = await asyncio.to_thread(spawn, folder, beside=keeper)
    try:
        try:
            url = await url_of(process, folder)
        except AssertionError:
            assert "cannot write to the data folder" in (folder / "gateway.log").read_text()
            yield None
            return
        async with aiohttp.ClientSession() as session:
            yield Process(process, url, session, folder / "gateway.log")
    finally:
        await stopped(process)


@pytest.mark.skipif(not can_mount(), reason="a full disk needs a file system of its own")
@pytest.mark.parametrize("free_kib", [0, 64, 1024, 4096])
async def test_a_disk_full_from_the_first_byte_loses_nothing_that_was_acknowledged(
    tmp_path: Path, upstream: FakeUpstream, free_kib: int
) -> None:
    configuration(tmp_path, upstream.url)
    acknowledged: list[str] = []
    async with small_disk(tmp_path / "data", free_kib) as (keeper, filler):
        for start in range(2):
            async with started(tmp_path, keeper) as gateway:
                if gateway is not None and free_kib >= 1024:
                    await eventually(partial(has_loaded, gateway), 20)  # what it writes at the start may fill the disk
                for number in range(5 if gateway else 0):
                    assert gateway is not None
                    await say(gateway, "Nothing of note.", number)  # chats go on
                    text = f"Cargo {start} {number} is on board."
                    body = {"user_id": f"user{number}", "messages": [{"role": "user", "content": text}]}
                    status, _ = await gateway.post("/product/add", {**body, "async_mode": "async"})
                    if status == 200:
                        acknowledged.append(text)
                if gateway is not None:
                    await eventually(partial(has_tried, gateway), 10)
        await asyncio.to_thread(filler.unlink)
        async with started(tmp_path, keeper) as gateway:
            assert gateway is not None
            texts = [text for text in await gateway.texts() if text.startswith("Cargo")]
    assert set(acknowledged) <= set(texts)
    assert len(texts) == len(set(texts))
    if free_kib >= 1024:
        assert acknowledged
