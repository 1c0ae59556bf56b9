"""The program as a newcomer starts it: a real process, the shipped configuration."""

import asyncio
import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import aiohttp
import pytest
from rich.console import Console

from gateway.cli.banner import describe
from gateway.config import Config
from tests.fakes.clients import ROOT, run_client
from tests.fakes.process import command, spawn, stopped, url_of
from tests.fakes.running import eventually
from tests.fakes.upstream import pause

GATEWAY = Path(sys.executable).parent / "gateway"
QUIET = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}


# a child of `nohup` ignores SIGHUP
HEED_HANGUPS = (
    "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


@contextlib.asynccontextmanager
async def started(folder: Path, *command: str) -> AsyncIterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A gateway process on a free port with the shipped configuration; its URL and what it printed."""
    (folder / "config.yaml").write_text((ROOT / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    command = command or (str(GATEWAY),)
    errors = (folder / "errors").open("w")
    process = subprocess.Popen(  # noqa: ASYNC220 — its output is read in a thread
        [sys.executable, "-c", HEED_HANGUPS, *command, "serve", "--config", str(folder / "config.yaml"), "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        cwd=ROOT,
        env={**QUIET, "COLUMNS": "200"},
    )
    assert process.stdout is not None
    printed: list[str] = []
    try:
        while "print(answer" not in "".join(printed[-2:]):
            line = await asyncio.to_thread(process.stdout.readline)
            assert line, (folder / "errors").read_text(encoding="utf-8")
            printed.append(line)
        url = re.search(r"http://127\.0\.0\.1:\d+", "".join(printed))
        assert url is not None
        yield process, url.group(), printed
    finally:
        if process.poll() is None:
            process.terminate()
        await asyncio.to_thread(process.wait, 20)
        process.stdout.close()
        errors.close()


@contextlib.asynccontextmanager
async def warm(folder: Path) -> AsyncIterator[tuple[BaseProcess, str]]:
    """As `started`, but without the start: a copy of a process that has loaded everything. Recall has the time that it
    needs beside other tests."""
    shipped = (ROOT / "config.yaml").read_text(encoding="utf-8")
    patient = re.sub(r"deadline_ms: \d+", "deadline_ms: 5000", shipped).replace("start_wait: 3 ", "start_wait: 30 ")
    assert patient != shipped
    (folder / "config.yaml").write_text(patient, encoding="utf-8")
    process = await asyncio.to_thread(spawn, folder, "--port", "0")
    try:
        yield process, await url_of(process, folder)
        process.terminate()
        await asyncio.to_thread(process.join, 20)
    finally:
        await stopped(process)


async def ready(url: str, timeout: float = 20) -> None:
    async with aiohttp.ClientSession() as session:

        async def is_ready() -> bool:
            async with session.get(f"{url}/ready") as response:
                return bool((await response.json())["memory"] == "ready")

        await eventually(is_ready, timeout)


@pytest.mark.parametrize("command", [(str(GATEWAY),), (sys.executable, "-m", "gateway")], ids=["gateway", "python -m"])
async def test_it_says_where_it_is_and_what_it_does(tmp_path: Path, command: tuple[str, ...]) -> None:
    async with started(tmp_path, *command) as (process, url, printed):
        text = "".join(printed)
        assert f"{url}/v1" in text
        assert "offline" in text
        assert "no OPENAI_API_KEY" in text
        assert str(tmp_path / "data") in text
        assert "curl " in text
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/health") as response:
                assert (await response.json())["status"] == "healthy"
            async with session.get(f"{url}/ready") as response:
                assert response.status == 200
            async with session.get(f"{url}/") as response:
                assert (await response.json())["openai_base_url"] == "/v1"
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 15) == 0


async def test_a_hangup_signal_without_a_terminal_ends_nothing(tmp_path: Path) -> None:
    async with started(tmp_path) as (process, url, _), aiohttp.ClientSession() as session:

        def is_logged() -> bool:
            process.send_signal(signal.SIGHUP)  # again and again: the first may come before the log is open
            return "sighup_ignored" in (tmp_path / "errors").read_text(encoding="utf-8")

        await eventually(is_logged, 20)
        async with session.get(f"{url}/health") as response:
            assert response.status == 200


async def test_a_hangup_signal_during_the_start_ends_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(  # noqa: ASYNC220  # it does not block
        [sys.executable, "-c", HEED_HANGUPS, str(GATEWAY), "serve", "--data", str(tmp_path / "data"), "--port", "0"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT, env=QUIET,
    )  # fmt: skip
    try:
        status = Path(f"/proc/{process.pid}/status")

        def is_caught() -> bool:  # SIGHUP is the lowest bit of the mask of caught signals
            return bool(int(re.findall(r"SigCgt:\s*(\w+)", status.read_text(encoding="utf-8"))[0], 16) & 1)

        await eventually(is_caught, 20)
        for _ in range(40):
            process.send_signal(signal.SIGHUP)
            await pause(0.05)  # over the whole start
        assert process.poll() is None
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)


def test_it_starts_with_a_closed_stdin_and_refuses_an_empty_folder_name(tmp_path: Path) -> None:
    closed = f'exec "{GATEWAY}" check --config "{tmp_path}/config.yaml" <&-'
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    checked = subprocess.run(["sh", "-c", closed], capture_output=True, text=True, timeout=60, env=QUIET, check=False)
    assert (checked.returncode, "Traceback" in checked.stderr) == (0, False), checked.stderr
    arguments = [str(GATEWAY), "serve", "--data", "", "--port", "0"]
    refused = subprocess.run(arguments, capture_output=True, text=True, timeout=60, env=QUIET, check=False)
    assert refused.returncode != 0
    assert "--data" in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_a_newcomer_sees_the_loop_work_with_the_sdk_and_the_stand_in(tmp_path: Path) -> None:
    async with warm(tmp_path) as (_, url):
        await ready(url)
        arguments = ("openai", "openai_chat.py", f"{url}/v1", "plain")
        await run_client(*arguments, "My parrot is called Ruffles.", folder=tmp_path)
    async with warm(tmp_path) as (_, url):
        await ready(url)
        answer = json.loads(
            await run_client(*arguments[:2], f"{url}/v1", "stream", "What is my parrot called?", folder=tmp_path)
        )
        assert "not a language model" in answer["text"]
        assert "My parrot is called Ruffles." in answer["text"]


async def test_the_first_two_requests_of_a_newcomer_work(tmp_path: Path) -> None:
    async with warm(tmp_path) as (_, url), aiohttp.ClientSession() as session:

        async def say(text: str) -> tuple[str, str]:
            body = {"model": "default", "messages": [{"role": "user", "content": text}]}
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                answer = await response.json()
                return response.headers["x-memory-status"], answer["choices"][0]["message"]["content"]

        assert (await say("My cat is called Miso."))[0] == "miss"
        status, answer = await say("What is my cat called?")  # at once, and in another conversation
        assert (status, "Miso" in answer) == ("hit", True)


async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for cycle in range(4):
        async with warm(tmp_path) as (process, url), aiohttp.ClientSession() as session:
            began = time.monotonic()

            async def talk(worker: int, url: str, session: aiohttp.ClientSession, cycle: int) -> None:
                for number in range(1, 56):
                    text = f"Cargo{cycle}x{worker}x{number} is on board."
                    body = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": number % 2 == 0}
                    try:
                        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                            await response.read()
                            assert response.status == 200
                    except aiohttp.ClientError:
                        return
                    acknowledged.append(text)
                    await pause(0.02)  # so that there is something to say until the end

            talking = [asyncio.create_task(talk(w, url, session, cycle)) for w in range(4)]
            # while it loads, soon after it, and when files of the store were synced
            seconds, count = ((0.1, 0), (1.0, 0), (2.0, 50), (4.5, 101))[cycle]
            await eventually(
                lambda began=began, seconds=seconds, count=count: (  # type: ignore[misc]  # not inferred
                    time.monotonic() - began > seconds and len(acknowledged) >= count
                ),
                40,
            )
            process.kill()
            await asyncio.gather(*talking)
    assert len(acknowledged) > 100
    async with warm(tmp_path) as (_, url), aiohttp.ClientSession() as session:
        await ready(url)

        async def drained() -> bool:
            async with session.get(f"{url}/ready") as response:
                return bool((await response.json())["journal_backlog"] == 0)

        await eventually(drained, 30)
        body = {"user_id": "me", "query": "Cargo on board", "relativity": 0, "top_k": 1000}
        async with session.post(f"{url}/product/search", json=body) as response:
            groups = (await response.json())["data"]["text_mem"]
    kept = [item["memory"] for group in groups for item in group["memories"]]
    assert set(acknowledged) <= set(kept)
    assert len(kept) == len(set(kept))


async def test_it_starts_without_a_network(tmp_path: Path) -> None:
    probe = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False)
    prefix = (
        ("unshare", "-rn", "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$0" "$@"') if probe.returncode == 0 else ()
    )
    script = (
        "import json, socket, sys, threading, time, urllib.request\n"
        "import gateway.cli.main, gateway.cli.banner, os\n"
        "real = socket.getaddrinfo\n"
        "def refuse(host, *rest, **more):\n"
        "    assert host in ('127.0.0.1', None, '::1'), f'asked for {host}'\n"
        "    return real(host, *rest, **more)\n"
        "socket.getaddrinfo = refuse\n"
        "def ask(started, config, console=None):\n"
        "    def work():\n"
        "        for _ in range(200):\n"
        "            with urllib.request.urlopen(started.url + '/ready') as answer:\n"
        "                if json.load(answer)['memory'] == 'ready':\n"
        "                    print('READY', flush=True); os.kill(os.getpid(), 15); return\n"
        "            time.sleep(0.1)\n"
        "    threading.Thread(target=work, daemon=True).start()\n"
        "gateway.cli.banner.announce = ask\n"
        "sys.argv = ['gateway', 'serve', '--config', sys.argv[1], '--port', '0']\n"
        "gateway.cli.main.main()\n"
    )
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    command = [*prefix, sys.executable, "-c", script, str(tmp_path / "config.yaml")]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, cwd=ROOT, env=QUIET, timeout=60, check=False
    )
    assert "READY" in done.stdout, done.stderr[-2000:]
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("servr: {}", "servr: unknown key"),
        ("plugins: [{use: nowhere}]", "plugins[0].use: there is no plugin 'nowhere'"),
        ("plugins: [{use: redact, config: {kindz: []}}]", "plugins[0].config.kindz"),
    ],
)
@pytest.mark.parametrize("name", ["check", "serve"])
async def test_a_bad_configuration_is_explained_and_stops(tmp_path: Path, text: str, message: str, name: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    done = await command(name, "--config", str(tmp_path / "config.yaml"))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_check_says_what_a_good_configuration_means(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(GATEWAY), "check", "--config", str(ROOT / "config.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert "configuration is valid" in done.stdout
    assert "redact" in done.stdout


async def test_a_taken_port_is_said_in_words(tmp_path: Path) -> None:
    async with warm(tmp_path) as (_, url):
        port = url.rsplit(":", 1)[1]
        (tmp_path / "second").mkdir()
        (tmp_path / "second" / "config.yaml").write_text("log: {level: error}\n")
        done = await command("serve", "--config", str(tmp_path / "second" / "config.yaml"), "--port", port)
        assert done.returncode == 1
        assert "cannot listen on 127.0.0.1" in done.stderr
        assert "Traceback" not in done.stderr


async def test_it_runs_as_nobody_on_code_that_cannot_be_written(tmp_path: Path) -> None:
    """The code is copied to where nobody may write, and run by a user who owns the data folder and nothing else."""
    code, data = tmp_path / "code", tmp_path / "data"
    await asyncio.to_thread(
        shutil.copytree, ROOT / "gateway", code / "gateway", ignore=shutil.ignore_patterns("__pycache__")
    )
    await asyncio.to_thread(
        shutil.copytree, ROOT / "plugins", code / "plugins", ignore=shutil.ignore_patterns("__pycache__")
    )
    config = (ROOT / "config.yaml").read_text(encoding="utf-8").replace("uri: ./data", f"uri: {data}")
    (code / "config.yaml").write_text(config, encoding="utf-8")
    data.mkdir()
    nobody = 65_534
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(data, nobody, nobody)
        for folder in (tmp_path, *list(tmp_path.parents)[:-2]):
            folder.chmod(folder.stat().st_mode | 0o055)  # so that another user may pass
    for path in (*code.rglob("*"), code):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in code.rglob("*")}
    errors = (tmp_path / "errors").open("w")
    process = subprocess.Popen(  # noqa: ASYNC220 — its output is read in a thread
        [sys.executable, "-m", "gateway", "serve", "--config", str(code / "config.yaml"), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        cwd=code,
        env={**QUIET, "COLUMNS": "200", "HOME": str(data)},
        user=nobody if is_root and _may_pass(sys.executable) else None,
    )
    assert process.stdout is not None
    try:
        line = ""
        while "listening" not in line:
            line = await asyncio.to_thread(process.stdout.readline)
            assert line, (tmp_path / "errors").read_text(encoding="utf-8")
        url = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert url is not None
        await ready(url.group())
        process.terminate()
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        if process.poll() is None:
            process.kill()
        await asyncio.to_thread(process.wait, 10)
        process.stdout.close()
        errors.close()
        for path in (code, *code.rglob("*")):
            path.chmod(0o755)
    assert {path: path.stat().st_mtime_ns for path in code.rglob("*")} == before, "nothing was written beside the data"
    assert {path.name for path in tmp_path.iterdir()} == {"code", "data", "errors"}


def _may_pass(executable: str) -> bool:
    """True if another user can run this Python: its folders may be closed (`/root`)."""
    folders = [*Path(executable).parents, *Path(executable).resolve().parents]
    return all(folder.stat().st_mode & 0o001 for folder in folders)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://gateway:hidden@db.example.com:5433/memories", "db.example.com:5433/memories"),
        ("postgresql://db.example.com/memories?password=hidden", "db.example.com/memories"),
        ("postgresql://gateway:hid/den@db.example.com/memories", "PostgreSQL"),
        ("postgresql://gateway:hid#den@db.example.com/memories", "PostgreSQL"),
        ("postgresql:///memories?host=/run/postgresql&password=hidden", "PostgreSQL"),
    ],
)
def test_check_shows_the_database_without_its_password(tmp_path: Path, address: str, shown: str) -> None:
    output = io.StringIO()
    config = Config.model_validate({"memory": {"uri": "s3://bucket/prefix", "database": address}})
    describe(config, tmp_path / "config.yaml", Console(file=output, width=120))
    line = next(line for line in output.getvalue().splitlines() if line.startswith("│ database"))
    assert line.strip("│ ").split() == ["database", shown]
    assert "hid" not in output.getvalue()
