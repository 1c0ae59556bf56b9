import asyncio

from gateway.concurrency.progress import SequenceProgress, wait_until_set


async def test_callers_wait_until_their_number_is_reached() -> None:
    progress = SequenceProgress()
    early, late = asyncio.create_task(progress.reached(2, 5)), asyncio.create_task(progress.reached(4, 5))
    await asyncio.sleep(0)
    progress.advance(3)
    assert await early
    assert not late.done()
    progress.advance(1)
    assert progress.value == 3, "it never goes back"
    progress.advance(4)
    assert await late
    assert await progress.reached(4, 0)
    assert not await progress.reached(5, 0.01)


async def test_an_event_is_waited_for_until_the_timeout() -> None:
    event = asyncio.Event()
    assert not await wait_until_set(event, 0.01)
    event.set()
    assert await wait_until_set(event, None)
