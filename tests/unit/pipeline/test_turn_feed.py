import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from gateway.errors import Overloaded, TooManyRequests
from gateway.pipeline import turn_feed
from gateway.pipeline.turn_feed import TurnFeed, frame_of

PING = b": ping\n\n"


@dataclass
class Item:
    number: int
    size: int = 0


@dataclass(frozen=True)
class Remainder:
    """Takes every number with this remainder by two; None: all."""

    value: int | None = None

    def takes(self, entry: Item) -> bool:
        return self.value in (None, entry.number % 2)


class Counting:
    """Serialises entries, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, item: Item) -> str:
        self.calls += 1
        return "x" * item.size or str(item.number)


def no_abort() -> None:
    raise AssertionError("this subscriber reads")


async def received(frames: AsyncGenerator[bytes]) -> bytes:
    async with asyncio.timeout(5):
        return await anext(frames)


async def test_entries_are_gathered_and_serialised_once_for_all() -> None:
    serialize = Counting()
    feed = TurnFeed[Item](serialize, 10)
    feeds = [feed.subscribe(Remainder(), number, no_abort).frames() for number in range(3)]
    odd = feed.subscribe(Remainder(1), 3, no_abort).frames()
    for number in (1, 2, 3):
        feed.note(Item(number))
    for frames in (*feeds, odd):
        assert await received(frames) == PING
    assert [await received(frames) for frames in feeds] == [b'id: 3\nevent: turns\ndata: ["1","2","3"]\n\n'] * 3
    assert await received(odd) == b'id: 3\nevent: turns\ndata: ["1","3"]\n\n'
    assert serialize.calls == 3
    for frames in (*feeds, odd):
        await frames.aclose()


async def test_nothing_is_serialised_while_nobody_listens() -> None:
    serialize = Counting()
    feed = TurnFeed[Item](serialize, 10)
    feed.note(Item(1))
    subscription = feed.subscribe(Remainder(), 1, no_abort)
    feed.unsubscribe(subscription)
    feed.note(Item(2))
    feed.close()
    assert serialize.calls == 0


async def test_a_subscriber_gets_only_what_comes_after_it() -> None:
    feed = TurnFeed[Item](Counting(), 10)
    feed.subscribe(Remainder(), 1, no_abort)
    feed.note(Item(1))
    async with aclosing(feed.subscribe(Remainder(), 2, no_abort).frames()) as frames:
        assert await received(frames) == PING
        feed.note(Item(2))
        assert await received(frames) == b'id: 2\nevent: turns\ndata: ["2"]\n\n'


async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_feed, "_PING", 0.01)
    feed = TurnFeed[Item](Counting(), 10)
    async with aclosing(feed.subscribe(Remainder(), 1, no_abort).frames()) as frames:
        assert [await received(frames) for _ in range(3)] == [PING] * 3


@pytest.mark.parametrize(("size", "count"), [(2**19, 3), (1, 300)])
async def test_a_subscriber_that_does_not_read_is_dropped_and_no_other(size: int, count: int) -> None:
    feed = TurnFeed[Item](Counting(), 10)
    aborted = asyncio.Event()
    slow, quick = feed.subscribe(Remainder(), "slow", aborted.set), feed.subscribe(Remainder(), "quick", no_abort)
    async with aclosing(quick.frames()) as frames:
        assert await received(frames) == PING
        for number in range(count):
            feed.note(Item(number, size))
            feed.unsubscribe(feed.subscribe(Remainder(), "another", no_abort))  # it gets nothing of what came before
            assert b"data" in await received(frames)
    assert (slow.has_ended, quick.has_ended) == (True, False)
    async with asyncio.timeout(5):
        await aborted.wait()
    async with aclosing(slow.frames()) as frames:
        assert [frame async for frame in frames] == [PING, b'event: end\ndata: {"reason":"slow"}\n\n']


async def test_what_is_forgotten_is_not_sent_to_a_subscriber_that_is_behind() -> None:
    feed = TurnFeed[Item](Counting(), 10)
    behind, quick = feed.subscribe(Remainder(), "behind", no_abort), feed.subscribe(Remainder(), "quick", no_abort)
    async with aclosing(quick.frames()) as frames:
        assert await received(frames) == PING
        feed.note(Item(1))
        assert b"data" in await received(frames)
        feed.keep_only(lambda item: item.number != 1)
        assert not quick.has_ended
    async with aclosing(behind.frames()) as frames:
        assert [frame async for frame in frames] == [PING, b'event: end\ndata: {"reason":"slow"}\n\n']
    for subscription in (behind, quick):
        feed.unsubscribe(subscription)


async def test_a_stop_ends_all_streams_after_the_last_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_feed, "_GRACE", 0.05)
    feed = TurnFeed[Item](Counting(), 10)
    subscription = feed.subscribe(Remainder(), 1, no_abort)
    feed.note(Item(1))
    feed.close()
    async with aclosing(subscription.frames()) as frames:
        assert [frame async for frame in frames] == [
            PING,
            frame_of([(1, b'"1"')]),
            b'event: end\ndata: {"reason":"shutdown"}\n\n',
        ]
    feed.unsubscribe(subscription)  # in time: it is not aborted
    with pytest.raises(Overloaded):
        feed.subscribe(Remainder(), 1, no_abort)


async def test_there_are_limits_on_subscribers() -> None:
    feed = TurnFeed[Item](Counting(), 3)
    subscription = feed.subscribe(Remainder(), "ada", no_abort, 1)
    with pytest.raises(TooManyRequests):
        feed.subscribe(Remainder(), "ada", no_abort, 1)
    feed.subscribe(Remainder(), "bob", no_abort)
    feed.subscribe(Remainder(), "bob", no_abort)
    with pytest.raises(TooManyRequests):
        feed.subscribe(Remainder(), "eve", no_abort)
    feed.unsubscribe(subscription)
    feed.subscribe(Remainder(), "ada", no_abort, 1)


async def test_what_is_forgotten_before_it_is_sent_is_not_sent() -> None:
    feed = TurnFeed[Item](Counting(), 3)
    async with aclosing(feed.subscribe(Remainder(), "ada", no_abort).frames()) as frames:
        feed.note(Item(1))
        feed.note(Item(2))
        feed.keep_only(lambda entry: entry.number != 1)
        assert await received(frames) == PING
        assert await received(frames) == b'id: 2\nevent: turns\ndata: ["2"]\n\n'


def test_an_event_without_entries_is_none() -> None:
    assert frame_of([]) == b""
