"""A gateway with workers as an operator runs it: real processes that are started, killed, stopped and reloaded."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from gateway.storage.folder import is_in_use
from tests.fakes.process import Process, children, command, frozen, is_running, running_process
from tests.fakes.running import configuration, eventually
from tests.fakes.upstream import FakeUpstream, deltas, pause, stream
from tests.fakes.worker_processes import worker_pids

TIMEOUT = 60.0  # seconds for starts of several processes beside other tests
CHAT = {"model": "fake-1", "messages": [{"role": "user", "content": "Hello."}]}


def workers(
    folder: Path, upstream: FakeUpstream, count: int = 3, **changes: Any
) -> AbstractAsyncContextManager[Process]:
    """A gateway with workers and without memory."""
    options = {"memory__enabled": False, "log__level": "info", "server__workers": count, **changes}
    return running_process(folder, upstream.url, **options)


def events(gateway: Process, event: str) -> list[dict[str, Any]]:
    """The log lines of an event. Each is whole."""
    lines = [json.loads(line) for line in gateway.log().splitlines(keepends=True) if line.endswith("}\n")]
    return [line for line in lines if line["event"] == event]


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for the folders of sockets; its path must be short."""
    with tempfile.TemporaryDirectory(prefix="runtime-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def is_listening(gateway: Process) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) == 0


async def chat(gateway: Process, key: str = "") -> int:
    """The status of a chat over a new connection."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(f"{gateway.url}/v1/chat/completions", json=CHAT, headers=headers) as response,
    ):
        await response.read()
        return response.status


async def repeated(request: Callable[[], Awaitable[int]]) -> int:
    """The status of a request, repeated once if its connection is closed before it begins, as clients do."""
    try:
        return await request()
    except aiohttp.ClientConnectionError:
        return await request()


async def answering(gateway: Process) -> list[int]:
    """The numbers of the workers that answered 24 chats, each over a connection of its own."""
    before = len(events(gateway, "turn"))
    assert await asyncio.gather(*(chat(gateway) for _ in range(24))) == [200] * 24
    await eventually(lambda: len(events(gateway, "turn")) >= before + 24)
    return [line["worker"] for line in events(gateway, "turn")[before:]]


def has_died(gateway: Process, number: int) -> bool:
    return number in [line["worker"] for line in events(gateway, "worker_died")]


async def all_answer(gateway: Process, count: int = 3) -> None:
    async def do_all_answer() -> bool:
        return set(await answering(gateway)) == set(range(count))

    await eventually(do_all_answer, TIMEOUT)


async def test_connections_spread_over_all_workers(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with workers(tmp_path, upstream) as gateway:
        output = (tmp_path / "gateway.out").read_text(encoding="utf-8")
        assert output.count("Memory Gateway") == 1
        assert "3 processes" in output
        numbers = await answering(gateway)
        assert {number: numbers.count(number) > 0 for number in range(3)} == {0: True, 1: True, 2: True}
        processes = {line["worker"]: line["pid"] for line in events(gateway, "worker_ready")}
        assert processes.keys() == {0, 1, 2}
        assert set(processes.values()) == set(worker_pids(gateway))


async def test_a_worker_that_is_killed_is_restarted_and_the_others_go_on(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with workers(tmp_path, upstream) as gateway:
        for number, pid in enumerate(worker_pids(gateway)):
            os.kill(pid, signal.SIGKILL)
            await eventually(partial(has_died, gateway, number), TIMEOUT)
            assert await chat(gateway) == 200
            await all_answer(gateway)
        deaths = events(gateway, "worker_died")
        assert [line["worker"] for line in deaths] == [0, 1, 2]
        assert all("SIGKILL" in line["reason"] for line in deaths)


async def test_a_crash_loop_is_told_in_words(tmp_path: Path, upstream: FakeUpstream, runtime: Path) -> None:
    plugin = tmp_path / "plugins" / "crasher.py"
    plugin.parent.mkdir()
    plugin.write_text("import os, sys\nprint('out of luck', file=sys.stderr, flush=True)\nos._exit(7)\n")
    configuration(tmp_path, upstream.url, memory__enabled=False, server__workers=2, plugins=[{"use": "crasher"}])
    result = await command("serve", "--config", str(tmp_path / "config.yaml"))
    assert result.returncode == 1
    assert (
        "gateway: worker 0 died 5 times within 60 s before it was ready; at last it exited with status 7"
        in result.stderr
    )
    assert result.stderr.count("\nout of luck\n") + result.stderr.startswith("out of luck\n") == 5
    assert "  out of luck\n" in result.stderr
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize("count", [1, 2])
async def test_what_worker_0_refuses_ends_the_start_as_without_workers(
    tmp_path: Path, upstream: FakeUpstream, count: int
) -> None:
    configuration(tmp_path, upstream.url, memory__enabled=False, plugins=[{"use": "no_such_plugin"}])
    result = await command("serve", "--config", str(tmp_path / "config.yaml"), "--workers", str(count))
    assert result.returncode == 2
    assert result.stderr.startswith("gateway: ")
    assert "no_such_plugin" in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


async def test_sigterm_lets_answers_end_and_leaves_nothing_behind(
    tmp_path: Path, upstream: FakeUpstream, runtime: Path
) -> None:
    begun = asyncio.Event()

    async def script(request: Any) -> Any:
        begun.set()
        return await stream(request, [*deltas("a b c d e f g h")], pause=0.1)

    upstream.script = script
    async with workers(tmp_path, upstream, server__shutdown_timeout=20, memory__enabled=True, count=2) as gateway:
        pids = worker_pids(gateway)
        assert is_in_use(tmp_path / "data")
        assert len(list(runtime.iterdir())) == 1
        streaming = asyncio.create_task(gateway.post("/v1/chat/completions", {**CHAT, "stream": True}))
        await asyncio.wait_for(begun.wait(), TIMEOUT)
        assert await gateway.terminate(TIMEOUT) == 0
        status, body = await streaming
        assert status == 200
        assert body.count(b"data: ") == len(deltas("a b c d e f g h"))
        assert not any(is_running(pid) for pid in pids)
        assert not is_in_use(tmp_path / "data")
        assert list(runtime.iterdir()) == []
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", int(gateway.url.rpartition(":")[2])))


async def test_a_worker_that_gets_sigterm_ends_its_answers_and_is_started_again(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    begun = asyncio.Event()

    async def script(request: Any) -> Any:
        begun.set()
        return await stream(request, [*deltas("a b c d e f g h")], pause=0.1)

    upstream.script = script
    async with workers(tmp_path, upstream, server__shutdown_timeout=20, count=2) as gateway:
        pids = worker_pids(gateway)
        streaming = asyncio.create_task(gateway.post("/v1/chat/completions", {**CHAT, "stream": True}))
        await asyncio.wait_for(begun.wait(), TIMEOUT)
        for pid in pids:  # one of them answers
            os.kill(pid, signal.SIGTERM)
        status, body = await streaming
        assert status == 200
        assert body.count(b"data: ") == len(deltas("a b c d e f g h"))
        upstream.script = None
        await eventually(lambda: len(set(worker_pids(gateway)) - set(pids)) == 2, TIMEOUT)
        await eventually(lambda: len(events(gateway, "worker_ready")) == 4, TIMEOUT)
        assert await chat(gateway) == 200


@asynccontextmanager
async def started_alone(folder: Path, *prefix: str, stdin: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A gateway with the configuration in a folder, whose workers are ready."""
    arguments = (*prefix, sys.executable, "-m", "gateway", "serve", "--config", str(folder / "config.yaml"))
    with (folder / "gateway.log").open("wb") as log:
        # the tests themselves may run under nohup
        follow_hangups = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)
        process = await asyncio.create_subprocess_exec(
            *arguments, stdin=stdin, stdout=log, stderr=log, preexec_fn=follow_hangups
        )
    try:
        await eventually(lambda: (folder / "gateway.log").read_bytes().count(b"worker_ready") == 2, TIMEOUT)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), TIMEOUT)


async def test_a_terminal_that_closes_ends_the_gateway(tmp_path: Path, upstream: FakeUpstream) -> None:
    configuration(tmp_path, upstream.url, memory__enabled=False, log__level="info", server__workers=2)
    ours, theirs = os.openpty()
    try:
        async with started_alone(tmp_path, stdin=theirs) as gateway:
            gateway.send_signal(signal.SIGHUP)
            assert await asyncio.wait_for(gateway.wait(), TIMEOUT) == 0
    finally:
        os.close(ours)
        os.close(theirs)


async def test_with_nohup_a_hangup_is_ignored(tmp_path: Path, upstream: FakeUpstream) -> None:
    configuration(tmp_path, upstream.url, memory__enabled=False, log__level="info", server__workers=2)
    nohup = ("sh", "-c", 'trap "" HUP; exec "$@"', "sh")
    async with started_alone(tmp_path, *nohup, stdin=asyncio.subprocess.DEVNULL) as gateway:
        for pid in (gateway.pid, *children(gateway.pid)):
            (ignored,) = re.findall(r"SigIgn:\s+([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
            assert int(ignored, 16) & 1 << signal.SIGHUP - 1, pid


async def test_a_second_interrupt_ends_answers(tmp_path: Path, upstream: FakeUpstream) -> None:
    begun = asyncio.Event()

    async def script(request: Any) -> Any:
        begun.set()
        return await stream(request, deltas("a b c"), pause=30)

    upstream.script = script
    async with workers(tmp_path, upstream, server__shutdown_timeout=50, count=2) as gateway:
        streaming = asyncio.create_task(gateway.post("/v1/chat/completions", {**CHAT, "stream": True}))
        await asyncio.wait_for(begun.wait(), TIMEOUT)
        os.kill(gateway.pid, signal.SIGINT)
        await eventually(lambda: not is_listening(gateway), TIMEOUT)
        os.kill(gateway.pid, signal.SIGINT)
        await asyncio.to_thread(gateway.process.join, 10)
        assert gateway.process.exitcode == 130
        with contextlib.suppress(aiohttp.ClientError):
            await streaming


async def test_sighup_reads_the_configuration_again(tmp_path: Path, upstream: FakeUpstream) -> None:
    file = tmp_path / "config.yaml"
    async with workers(tmp_path, upstream, auth__keys=[{"key": "key-of-old"}], count=2) as gateway:
        pids = worker_pids(gateway)
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))

        def reload(**changes: Any) -> None:
            file.write_text(yaml.safe_dump({**raw, **changes}), encoding="utf-8")
            os.kill(gateway.pid, signal.SIGHUP)

        reload(auth={"keys": [{"key": "short"}]})
        await eventually(lambda: len(events(gateway, "reload_failed")) == 1, TIMEOUT)
        assert "auth.keys[0].key" in events(gateway, "reload_failed")[0]["reason"]
        reload(plugins=[{"use": "no_such_plugin"}])
        await eventually(lambda: len(events(gateway, "reload_failed")) == 2, TIMEOUT)
        assert "no_such_plugin" in events(gateway, "reload_failed")[1]["reason"]
        assert worker_pids(gateway) == pids
        assert await chat(gateway, "key-of-old") == 200
        reload(upstreams=[{**raw["upstreams"][0], "tls": {"ca_file": "gone.pem"}}])
        await eventually(lambda: len(events(gateway, "reload_failed")) == 3, TIMEOUT)
        assert "its files cannot be used" in events(gateway, "reload_failed")[2]["reason"]
        assert worker_pids(gateway)[0] == pids[0]
        reload(auth={"keys": [{"key": "key-of-new"}]}, server={**raw["server"], "port": 1, "workers": 5})
        statuses = []
        while not events(gateway, "reloaded"):  # a worker answers at any time, though not all know the key yet
            statuses.append(await repeated(partial(chat, gateway, "key-of-old")))
            await pause(0.02)
        assert set(statuses) <= {200, 401}
        assert events(gateway, "reload_incomplete")[0]["keys"] == ["server.port", "server.workers"]
        assert len(worker_pids(gateway)) == 2
        assert not set(worker_pids(gateway)) & set(pids)
        assert [await chat(gateway, "key-of-new") for _ in range(6)] == [200] * 6
        assert [await chat(gateway, "key-of-old") for _ in range(6)] == [401] * 6
        assert [line["worker"] for line in events(gateway, "worker_died")] == [1]  # with the upstream of no certificate


async def test_another_gateway_on_the_same_port_or_folder_is_refused(tmp_path: Path, upstream: FakeUpstream) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    async with workers(tmp_path / "first", upstream, count=2, memory__enabled=True) as gateway:
        port = gateway.url.rpartition(":")[2]
        configuration(tmp_path / "second", upstream.url, memory__enabled=False)
        arguments = ("serve", "--config", str(tmp_path / "second" / "config.yaml"), "--workers")
        for count in ("1", "2"):
            result = await command(*arguments, count, "--port", port)
            assert result.returncode == 1
            assert re.search(rf"cannot listen on 127\.0\.0\.1:{port}: .*address already in use; stop", result.stderr)
        configuration(tmp_path / "second", upstream.url, memory__uri=str(tmp_path / "first" / "data"))
        for count in ("1", "2"):
            result = await command(*arguments, count)
            assert result.returncode == 1
            assert "another process uses the data folder" in result.stderr
        assert await chat(gateway) == 200


async def test_workers_of_a_killed_supervisor_end_and_the_folder_is_free(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with workers(tmp_path, upstream, count=2, memory__enabled=True) as gateway:
        pids = worker_pids(gateway)
        with frozen(pids[1]):
            os.kill(gateway.pid, signal.SIGKILL)
            await eventually(lambda: not is_running(pids[0]), TIMEOUT)
            assert is_in_use(tmp_path / "data")  # while any worker lives
        await eventually(lambda: not is_running(pids[1]), TIMEOUT)
        await eventually(lambda: not is_in_use(tmp_path / "data"), TIMEOUT)


def test_the_supervisor_imports_nothing_heavy() -> None:
    program = (
        "import sys, gateway.cli.main, gateway.cli.serve, gateway.cli.supervise\n"
        "print(*{'aiohttp', 'numpy', 'lancedb', 'pyarrow', 'rich', 'tiktoken', 'sqlite3'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "\n"


async def test_check_describes_workers(tmp_path: Path, upstream: FakeUpstream) -> None:
    for count, text in ((3, "3 processes"), (1, "none: one process")):
        configuration(tmp_path, upstream.url, server__workers=count)
        result = await command("check", "--config", str(tmp_path / "config.yaml"))
        assert re.search(rf"workers +{text}", result.stdout)


async def test_a_worker_that_hangs_delays_a_deletion_only_until_it_is_ended(
    tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with workers(tmp_path, upstream, count=2, memory__enabled=True) as gateway:
        hanging = worker_pids(gateway)[1]
        os.kill(hanging, signal.SIGSTOP)
        answer = await ask_owner(gateway, "POST", "/v1/memory", {"user": "ada", "text": "The key is under the mat."})
        path = f"/v1/memory/{answer['data'][0]['id']}"
        await ask_owner(gateway, "DELETE", path)
        assert not is_running(hanging)
        await eventually(lambda: len(worker_pids(gateway)) == 2, TIMEOUT)


async def ask_owner(gateway: Process, method: str, path: str, body: Any = None) -> Any:
    """The answer of worker 0, while worker 1 takes connections and does not answer."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
        for _ in range(20):
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                async with session.request(method, gateway.url + path, json=body) as response:
                    assert response.status in (200, 201, 204), await response.text()
                    return await response.json() if response.status != 204 else None
    raise AssertionError("worker 0 did not answer")
