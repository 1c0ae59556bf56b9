"""Tests of a worker's process, with real processes that speak to the test as their supervisor."""

import asyncio
import os
import signal
import sys
from typing import Any

import pytest

from gateway.config import Config
from gateway.workers.child import WorkerProcess, describe_exit
from gateway.workers.control import Assignment
from gateway.workers.lines import LineOutput
from tests.fakes.running import eventually

PROGRAM = """
import asyncio, os, signal, sys
from gateway.workers.control import WORKER_VARIABLE, ignore_terminal, inherited_control
ignore_terminal()
control = inherited_control()
assert WORKER_VARIABLE not in os.environ
async def main():
    stopped = asyncio.Event()
    await control.connect(stopped.set)
    control.send("ready", control.assignment.config.server.port)
    if control.assignment.number == 1:
        await asyncio.Event().wait()
    await stopped.wait()
    print("stopped; serving", sorted(control.serving()), file=sys.stderr)
    await control.close()
asyncio.run(main())
"""


def assignment(number: int, errors: int) -> Assignment:
    config = Config.model_validate({"server": {"port": 8123}, "auth": {"keys": [{"key": "a-longer-key"}]}})
    return Assignment(number=number, count=2, folder="/gone", config=config, locks=(), errors=errors)


async def start(number: int, messages: list[tuple[str, Any]], program: str = PROGRAM) -> WorkerProcess:
    output = LineOutput(2)
    return await WorkerProcess.start(
        (sys.executable, "-c", program), assignment(number, 2), output, lambda _, *message: messages.append(message)
    )


async def test_a_worker_gets_its_configuration_and_messages_and_stops_when_it_is_told() -> None:
    messages: list[tuple[str, Any]] = []
    worker = await start(0, messages)
    await eventually(lambda: messages == [("ready", 8123)], 20)
    for name in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all processes
        os.kill(worker.pid, name)
    worker.send("serving", [0, 1])
    worker.stop(timeout=20)
    assert await worker.wait() == 0
    assert list(worker.last_lines) == ["stopped; serving [0, 1]"]


async def test_a_worker_that_does_not_stop_in_time_is_killed() -> None:
    messages: list[tuple[str, Any]] = []
    worker = await start(1, messages)
    await eventually(lambda: bool(messages), 20)
    worker.stop(timeout=0.05)
    assert await worker.wait() == -signal.SIGKILL


async def test_signals_of_a_terminal_end_no_worker_that_has_just_been_started() -> None:
    messages: list[tuple[str, Any]] = []
    worker = await start(0, messages)
    for _ in range(20):
        for name in (signal.SIGINT, signal.SIGHUP):
            os.kill(worker.pid, name)
        await asyncio.sleep(0)
    await eventually(lambda: bool(messages), 20)
    worker.stop(timeout=20)
    assert await worker.wait() == 0


async def test_a_program_that_does_not_exist_leaves_no_descriptor() -> None:
    await asyncio.to_thread(int)  # the loop's own threads and descriptors
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        await WorkerProcess.start(("/gone/python",), assignment(0, 2), LineOutput(2), lambda *_: None)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("status", "text"),
    [(3, "it exited with status 3"), (-11, "it was killed by SIGSEGV"), (-9, "it was killed by SIGKILL (by hand, or")],
)
def test_an_exit_is_described_in_words(status: int, text: str) -> None:
    assert describe_exit(status).startswith(text)
