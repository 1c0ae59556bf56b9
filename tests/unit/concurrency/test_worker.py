import asyncio
import logging

import pytest

from gateway.concurrency.worker import Backoff, RepeatingWorker, Worker
from tests.fakes.running import eventually

LOG = logging.getLogger("gateway.test")


def test_pauses_grow_to_the_longest_with_jitter_and_begin_again() -> None:
    pauses = Backoff(1.0, 4.0)
    for longest in (1, 2, 4, 4):
        assert 0.8 * longest <= pauses.next() <= longest
    pauses.reset()
    assert pauses.next() <= 1
    fixed = Backoff(3.0)
    assert all(2.4 <= fixed.next() <= 3 for _ in range(5))


async def test_a_fault_is_logged_and_the_work_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0
    pauses: list[float] = []

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 4:
            raise ZeroDivisionError
        await asyncio.Event().wait()

    worker = RepeatingWorker(
        "test", work, LOG, "test_fault", pauses=Backoff(0.001), on_fault=lambda _, seconds: pauses.append(seconds)
    )
    worker.start()
    worker.start()
    await eventually(lambda: runs == 4)
    assert len(pauses) == 3
    assert [record.getMessage() for record in caplog.records] == ["test_fault"] * 3
    assert all(record.exc_info for record in caplog.records), "logged whole"
    assert worker.is_running
    assert [await worker.stop(), worker.is_running] == [True, False]
    assert not await worker.stop(), "there is nothing to stop"


async def test_work_that_is_done_can_be_started_again(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            raise ZeroDivisionError

    worker = Worker("test", work, LOG, "test_fault")
    for expected in (1, 2, 3):
        worker.start()
        await eventually(lambda: not worker.is_running)
        assert runs == expected
    assert [record.getMessage() for record in caplog.records] == ["test_fault"]


async def test_a_stop_does_not_wait_for_ever() -> None:
    release = asyncio.Event()

    async def work() -> None:
        while not release.is_set():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await release.wait()

    worker = Worker("test", work, LOG, "test_fault", stop_timeout=0.01)
    worker.start()
    await asyncio.sleep(0)
    assert await worker.stop()
    release.set()
    await asyncio.sleep(0)
