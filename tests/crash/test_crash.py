"""Nothing acknowledged is lost, whatever ends the process, and nothing is there twice."""

import asyncio
import itertools
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.identity import scope_of
from gateway.storage.sqlite.journal import Journal
from gateway.storage.values import JournalEntry
from tests.conftest import Scale
from tests.fakes.made import record
from tests.fakes.process import Process, command, running_process
from tests.fakes.running import Running, eventually
from tests.fakes.upstream import FakeUpstream, pause


class Load:
    """Chats and adds of several clients; keeps the texts that were acknowledged. With `is_persistent` a client goes on
    after a connection that broke."""

    def __init__(self, *, is_persistent: bool = False) -> None:
        self._is_persistent = is_persistent
        self.acknowledged: list[str] = []
        self.is_over = False
        self._numbers = itertools.count()

    async def run(self, gateway: Process, clients: int = 4) -> None:
        """Until the gateway is gone, or `is_over`."""
        self.is_over = False
        await asyncio.gather(*(self._work(gateway) for _ in range(clients)))

    async def _work(self, gateway: Process) -> None:
        for _ in range(50_000 if self._is_persistent else 2_000):
            if self.is_over:
                return
            try:
                text = f"Cargo {next(self._numbers)} is on board."
                status, _ = await gateway.post(*self._request(text))
            except (aiohttp.ClientError, ConnectionError):
                if not self._is_persistent:
                    return
                await pause(0.02)
                continue
            if status == 200:
                self.acknowledged.append(text)
            elif status != 503:  # stopping
                raise AssertionError(status)

    def _request(self, text: str) -> tuple[str, dict[str, Any]]:
        number = next(self._numbers)
        user = f"user{number % 5}"
        if number % 3 == 0:
            messages = [{"role": "user", "content": text}]
            return "/product/add", {"user_id": user, "session_id": "s", "messages": messages, "async_mode": "async"}
        body = {"model": "m", "user": user, "messages": [{"role": "user", "content": text}]}
        return "/v1/chat/completions", {**body, "stream": number % 2 == 0}


def check(texts: list[str], acknowledged: list[str]) -> None:
    cargo = [text for text in texts if text.startswith("Cargo")]
    assert set(acknowledged) - set(cargo) == set(), "lost"
    assert len(cargo) == len(set(cargo)), "doubled"


async def test_nothing_acknowledged_is_lost_or_doubled_by_kill_9(
    tmp_path: Path, upstream: FakeUpstream, scale: Scale
) -> None:
    chance, load = random.Random(scale.seed), Load()
    starts = []
    rounds, count = scale(4, 100), scale(100, 5_000)
    for round_ in range(rounds):
        async with running_process(tmp_path, upstream.url, memory__recall__start_wait=0) as gateway:
            starts.append(gateway.started_in)
            loading = asyncio.create_task(load.run(gateway))
            await asyncio.sleep(chance.uniform(0.2, 2.5))
            if round_ == rounds - 1:
                await eventually(lambda: len(load.acknowledged) >= count, 60)
            if chance.random() < 0.2:
                assert await gateway.terminate() == 0
            else:
                await gateway.kill()
            await loading
    async with running_process(tmp_path, upstream.url, memory__recall__start_wait=0) as gateway:
        check(await gateway.texts(), load.acknowledged)
    # the middle of all: a single start may wait for the processor, which other tests use too
    assert statistics.median(starts) < 3, f"seconds of a start; all: {starts}"


@pytest.mark.parametrize("how", ["garbage", "cut"])
async def test_a_torn_journal_costs_nothing_that_was_synced(
    tmp_path: Path, upstream: FakeUpstream, scale: Scale, how: str
) -> None:
    chance, load = random.Random(scale.seed), Load()
    wal = tmp_path / "data" / "journal.sqlite-wal"
    for _ in range(scale(2, 25)):
        async with running_process(tmp_path, upstream.url, memory__recall__start_wait=0) as gateway:
            loading = asyncio.create_task(load.run(gateway, 2))
            await asyncio.sleep(chance.uniform(0.5, 1.5))
            if how == "cut":  # a write that was under way, and not one that was acknowledged
                load.is_over = True
                await loading
                await gateway.settled()
            await gateway.kill()
            await loading
        if how == "garbage":
            with wal.open("ab") as file:
                file.write(chance.randbytes(chance.randint(1, 20_000)))
        else:
            size = wal.stat().st_size
            with wal.open("ab") as file:
                file.truncate(max(0, size - chance.randint(1, 4_000)))
    async with running_process(tmp_path, upstream.url, memory__recall__start_wait=0) as gateway:
        check(await gateway.texts(), load.acknowledged)


@pytest.mark.parametrize("what", ["*.manifest", "data/*.lance"])
async def test_an_emptied_file_of_the_store_costs_nothing(
    tmp_path: Path, upstream: FakeUpstream, scale: Scale, what: str
) -> None:
    load = Load()
    for _ in range(scale(1, 10)):
        async with running_process(tmp_path, upstream.url, memory__recall__start_wait=0, memory__buckets=2) as gateway:
            loading = asyncio.create_task(load.run(gateway, 2))
            await eventually(lambda load=load: len(load.acknowledged) > 30, 20)  # type: ignore[misc]  # not inferred
            load.is_over = True
            await loading
            await gateway.texts()  # an export syncs the files of the store; then they are done in the journal
            await gateway.kill()
            await loading
        lance = tmp_path / "data" / "lance"
        newest = max(
            lance.rglob(f"*.lance/{what}" if "data" in what else what), key=lambda path: path.stat().st_mtime_ns
        )
        newest.write_bytes(b"")
    async with running_process(tmp_path, upstream.url, memory__recall__start_wait=0, memory__buckets=2) as gateway:
        status, _ = await gateway.post(
            "/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        )
        assert status == 200
        check(await gateway.texts(), load.acknowledged)
        assert (await gateway.state())["mended"]
        assert "table_mended" in gateway.log(), "a person is told"


async def test_a_copy_of_the_folder_made_while_it_runs_holds_what_was_acknowledged(
    tmp_path: Path, upstream: FakeUpstream, scale: Scale
) -> None:
    for round_ in range(scale(2, 20)):
        here, there = tmp_path / f"here{round_}", tmp_path / f"there{round_}"
        here.mkdir()
        there.mkdir()
        load = Load()
        async with running_process(here, upstream.url, memory__recall__start_wait=0) as gateway:
            loading = asyncio.create_task(load.run(gateway))
            await eventually(lambda load=load: len(load.acknowledged) > 60, 20)  # type: ignore[misc]  # not inferred
            acknowledged = list(load.acknowledged)
            await asyncio.to_thread(_copied, here / "data", there / "data")
            await gateway.kill()
            await loading
        assert len(acknowledged) > 30
        async with running_process(there, upstream.url) as gateway:
            check(await gateway.texts(), acknowledged)


def _copied(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", str(source), str(target)], check=False)  # a file that is gone meanwhile is no error


async def test_a_killed_process_leaves_no_lock(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_process(tmp_path, upstream.url, memory__recall__start_wait=0) as gateway:
        await gateway.settled()
        second = await command("serve", "--config", str(tmp_path / "config.yaml"), "--port", "0")
        assert second.returncode == 1
        assert "another process uses the data folder" in second.stderr
        await gateway.kill()
    async with running_process(tmp_path, upstream.url, memory__recall__start_wait=0) as gateway:
        assert gateway.started_in < 10
        await gateway.settled()


async def test_a_large_backlog_is_worked_off_beside_the_chats(
    tmp_path: Path, upstream: FakeUpstream, scale: Scale
) -> None:
    count = scale(3_000, 100_000)
    body = {"model": "m", "user": "somebody", "messages": [{"role": "user", "content": "What is on board?"}]}
    (tmp_path / "empty").mkdir()
    async with running_process(tmp_path / "empty", upstream.url) as gateway:
        await gateway.settled()
        for _ in range(30):
            await gateway.post("/v1/chat/completions", body)
        idle = gateway.own_mib()
    await asyncio.to_thread(_fill, tmp_path / "data", count)
    async with running_process(tmp_path, upstream.url, memory__recall__start_wait=0) as gateway:
        assert gateway.started_in < 10
        began = time.monotonic()

        async def is_loaded() -> bool:
            return bool((await gateway.state())["memory"] == "ready")

        slowest = largest = 0.0
        while (await gateway.state())["journal_backlog"] and time.monotonic() - began < scale(60, 600):
            asked = time.monotonic()
            status, _ = await gateway.post("/v1/chat/completions", body)
            assert status == 200
            slowest = max(slowest, time.monotonic() - asked)
            largest = max(largest, gateway.own_mib())
        assert slowest < 2
        await eventually(is_loaded, 10)
        assert largest < idle + 300, f"{largest:.0f} MiB; {idle:.0f} without a backlog"
        texts = await gateway.texts()
        assert len([text for text in texts if text.startswith("Backlog")]) == count


def _fill(folder: Path, count: int) -> None:
    """A journal as a process leaves it that could not store for a while."""
    folder.mkdir(parents=True)

    async def work() -> None:
        journal = Journal(folder / "journal.sqlite", 10**10, lambda: None)
        await journal.open()
        users = [scope_of("default", f"user{number}") for number in range(50)]
        for begin in range(0, count, 1_000):
            await journal.append(
                [
                    record(
                        f"Backlog {number} is on board.",
                        number,
                        scope=users[number % 50].value,
                        cube_id=users[number % 50].cube_id,
                        user_id=users[number % 50].owner,
                    )
                    for number in range(begin, min(begin + 1_000, count))
                ]
            )
        await journal.close()
        from gateway.storage.sqlite.registry import SqliteRegistry

        registry = SqliteRegistry(folder / "registry.sqlite")
        await registry.open()
        await registry.add_scopes(users)
        await registry.close()

    asyncio.run(work())


@pytest.mark.one_process("holds back a write of the journal")
@pytest.mark.parametrize("way", ["stream", "plain", "add"])
async def test_the_end_of_an_answer_waits_for_the_sync(
    gateway: Running, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    journal = gateway.gateway.memory.journal
    assert isinstance(journal, Journal)
    insert, begun, gate, order = journal._insert, threading.Event(), threading.Event(), list[str]()

    def held(batch: Any) -> tuple[list[JournalEntry], int]:
        begun.set()
        assert gate.wait(10)
        added = insert(batch)
        order.append("synced")
        return added

    monkeypatch.setattr(journal, "_insert", held)
    database = journal._database
    level = await database.run(lambda: database.connection.execute("PRAGMA synchronous").fetchone()[0])
    assert level == 2, "FULL: a commit returns when the disk has it"
    message = {"role": "user", "content": "Keep this."}
    path, body = {
        "stream": ("/v1/chat/completions", {"model": "m", "user": "ada", "stream": True, "messages": [message]}),
        "plain": ("/v1/chat/completions", {"model": "m", "user": "ada", "messages": [message]}),
        "add": ("/product/add", {"user_id": "ada", "messages": [message]}),
    }[way]

    async def ask() -> None:
        reply = await gateway.post(path, body)
        assert reply.status == 200
        assert way != "stream" or b"[DONE]" in reply.body
        order.append("answered")

    asking = asyncio.create_task(ask())
    assert await asyncio.to_thread(begun.wait, 10)
    await asyncio.wait({asking}, timeout=0.4)
    assert order == [], "nobody was told yet"
    gate.set()
    await asking
    assert order == ["synced", "answered"]


_LIMITED = """
import asyncio, json, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from gateway.storage.errors import StorageError
from gateway.storage.sqlite.journal import Journal
from tests.fakes.made import record

async def work():
    journal = Journal(Path(sys.argv[1]) / "journal.sqlite", 10**9, lambda: None)
    await journal.open()
    acknowledged, refused, size = [], [], 0
    for number in range(int(sys.argv[3])):
        wal = Path(sys.argv[1]) / "journal.sqlite-wal"
        # the file may grow by so many bytes and no more: the write fails at its n-th byte
        limit = (wal.stat().st_size if wal.exists() else 0) + number * 97 % 9000
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
        text = f"record {number} " + "x" * (number * 53 % 3000)
        try:
            await journal.append([record(text, number)])
            acknowledged.append(text)
        except StorageError:
            refused.append(text)
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        after = f"after {number}"
        await journal.append([record(after, number)])
        acknowledged.append(after)
    await journal.close()
    print(json.dumps([acknowledged, refused]))

asyncio.run(work())
"""


async def test_a_write_that_fails_at_any_byte_leaves_the_old_state_and_later_ones_work(
    tmp_path: Path, scale: Scale
) -> None:
    from tests.fakes.clients import ROOT

    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _LIMITED, str(tmp_path), str(ROOT), str(scale(200, 1_000))],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    acknowledged, refused = json.loads(done.stdout)
    assert refused, "the limit was never met"
    assert acknowledged
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT payload FROM entries").fetchall()
    kept = [json.loads(payload)["text"] for (payload,) in rows]
    assert sorted(kept) == sorted(acknowledged), "all that was acknowledged, and nothing that was refused"
