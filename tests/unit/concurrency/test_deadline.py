import asyncio

import pytest

from gateway.concurrency.deadline import within


async def test_what_ends_in_time_gives_its_result() -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    assert await within(5, work()) == "done"


async def test_what_takes_too_long_is_cancelled() -> None:
    with pytest.raises(TimeoutError):
        await within(0.01, asyncio.Event().wait())
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # nothing is left to be raised


async def test_an_error_of_the_work_stays_as_it_is() -> None:
    async def fail() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await within(5, fail())


async def test_a_cancelled_caller_is_cancelled() -> None:
    task = asyncio.create_task(within(5, asyncio.Event().wait()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_caller_is_no_time_out_even_if_time_is_over() -> None:
    async def outer() -> None:
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        await within(0, asyncio.Event().wait())

    task = asyncio.create_task(outer())
    with pytest.raises(asyncio.CancelledError):
        await task
