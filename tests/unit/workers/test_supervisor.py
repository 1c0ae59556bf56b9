"""Tests of the supervisor with small programs as workers; those with gateways are in `flow/test_workers_start`."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config import Config
from gateway.errors import ConfigError
from gateway.workers.lines import LineOutput
from gateway.workers.supervisor import Supervision, Supervisor
from tests.fakes.running import eventually

PROGRAM = """
import asyncio, os, pathlib, sys
from gateway.workers.control import inherited_control
control = inherited_control()
folder, number = pathlib.Path(control.assignment.folder), control.assignment.number
log = lambda text: os.write(descriptor, f"{number} {text}\\n".encode())
descriptor = os.open(folder / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
async def main():
    stopped = asyncio.Event()
    await control.connect(stopped.set)
    log(f"start {control.assignment.config.log.level}")
    (folder / f"pid {number}").write_text(str(os.getpid()))
    if number == 0:
        control.send("open")
    if (folder / f"crash {number}").exists():
        sys.exit(3)
    control.send("ready", "banner" if number == 0 else "")
    serving = None
    while not stopped.is_set():
        if sorted(control.serving()) != serving:
            serving = sorted(control.serving())
            log(f"serving {serving}")
        if number == 0 and (folder / "end").exists() and 1 in control.serving():
            (folder / "end").unlink()
            control.send("end", 1)
        await asyncio.sleep(0.01)
    log("stop")
if control.assignment.is_trial:
    sys.exit((folder / "bad").exists())
asyncio.run(main())
"""


class Case:
    """A supervisor, and the log of its workers."""

    def __init__(self, folder: Path, count: int = 2) -> None:
        self.folder = folder
        self.texts: list[str] = []
        self.config: Config | ConfigError = Config.model_validate({"log": {"level": "info"}})
        supervision = Supervision(
            command=(sys.executable, "-c", PROGRAM),
            folder=str(folder),
            port=8123,
            locks=(),
            output=LineOutput(2),
            load=self.load,
            announce=self.texts.append,
            report=self.texts.append,
        )
        self.supervisor = Supervisor(self.load(), count, supervision)

    def load(self) -> Config:
        if isinstance(self.config, ConfigError):
            raise self.config
        return self.config

    def lines(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []

    async def wait_for(self, line: str, times: int = 1) -> None:
        await eventually(lambda: self.lines().count(line) >= times, 30)


@asynccontextmanager
async def supervised(case: Case) -> AsyncIterator["asyncio.Task[int]"]:
    running = asyncio.create_task(case.supervisor.run())
    try:
        yield running
    finally:
        case.supervisor.stop()
        await running


async def test_worker_0_is_first_and_knows_which_workers_serve(tmp_path: Path) -> None:
    case = Case(tmp_path, 3)
    async with supervised(case) as running:
        await case.wait_for("0 serving [1, 2]")
        assert case.lines()[0] == "0 start info"
        assert case.texts == ["banner"]
        case.supervisor.stop()
        assert await running == 0
        assert sorted(line for line in case.lines() if line.endswith("stop")) == ["0 stop", "1 stop", "2 stop"]


async def test_a_worker_that_hangs_is_ended_for_worker_0_and_starts_again(tmp_path: Path) -> None:
    case = Case(tmp_path)
    async with supervised(case):
        await case.wait_for("0 serving [1]")
        (tmp_path / "end").touch()
        await case.wait_for("0 serving []", 2)
        await case.wait_for("1 start info", 2)
        await case.wait_for("0 serving [1]", 2)
        assert "1 stop" not in case.lines()
        assert case.texts == ["banner"]


@pytest.mark.parametrize("number", [0, 1])
async def test_a_worker_that_hangs_is_killed_and_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("gateway.workers.supervisor._PING_EVERY", 0.2)
    case = Case(tmp_path)
    async with supervised(case):
        await case.wait_for("0 serving [1]")
        hanging, other = (int((tmp_path / f"pid {n}").read_text()) for n in (number, 1 - number))
        os.kill(hanging, signal.SIGSTOP)
        await case.wait_for(f"{number} start info", 2)
        await case.wait_for("0 serving [1]", 2)
        assert case.lines().count(f"{1 - number} start info") == 1, "the other one goes on"
        os.kill(other, 0)


async def test_a_worker_that_never_starts_ends_all(tmp_path: Path) -> None:
    case = Case(tmp_path)
    (tmp_path / "crash 1").touch()
    async with supervised(case) as running:
        assert await asyncio.wait_for(running, 60) == 1
    assert case.lines().count("1 start info") == 5
    assert case.lines().count("0 start info") == 1
    (text,) = case.texts
    assert text.startswith("worker 1 died 5 times within 60 s before it was ready; at last it exited with status 3.")


async def test_a_new_configuration_reaches_all_workers_and_worker_0_last(tmp_path: Path) -> None:
    case = Case(tmp_path)
    async with supervised(case):
        await case.wait_for("0 serving [1]")
        case.config = Config.model_validate({"log": {"level": "error"}})
        case.supervisor.reload()
        await case.wait_for("0 start error")
        starts = [line for line in case.lines() if "start" in line or "stop" in line]
        assert starts == ["0 start info", "1 start info", "1 stop", "1 start error", "0 stop", "0 start error"]


async def test_a_new_configuration_that_no_worker_starts_with_is_given_up(tmp_path: Path) -> None:
    case = Case(tmp_path)
    async with supervised(case):
        await case.wait_for("0 serving [1]")
        case.config = ConfigError("bad")
        case.supervisor.reload()
        await asyncio.sleep(0)
        (tmp_path / "crash 1").touch()
        case.config = Config.model_validate({"log": {"level": "error"}})
        case.supervisor.reload()
        await case.wait_for("1 start error")
        (tmp_path / "crash 1").unlink()
        await case.wait_for("1 start info", 2)
        await case.wait_for("0 serving [1]", 2)
        assert case.lines().count("0 start info") == 1


async def test_a_second_interrupt_kills(tmp_path: Path) -> None:
    case = Case(tmp_path)
    async with supervised(case) as running:
        await case.wait_for("0 serving [1]")
        case.supervisor.interrupt()
        case.supervisor.interrupt()
        assert await asyncio.wait_for(running, 10) == 128 + signal.SIGINT
