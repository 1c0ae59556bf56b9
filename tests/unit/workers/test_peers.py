"""Tests of the messages between workers, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.workers.peers import FollowerPeers, OwnerPeers, Peers, PeerUnavailable
from tests.fakes.running import eventually


class Worker:
    """The peers of a worker, with the messages that it got."""

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.messages: list[Any] = []
        peers.on("note", self.messages.append)
        peers.on("double", lambda value: value * 2)
        peers.on("fail", lambda value: 1 / value)
        peers.on("hang", lambda _: asyncio.Event().wait(), is_slow=True)


@asynccontextmanager
async def workers(folder: Path, count: int = 3) -> AsyncIterator[tuple[list[Worker], list[int]]]:
    """Connected workers, and the numbers of those that the owner ended."""
    ended: list[int] = []
    path = str(folder / "bus")
    owner = OwnerPeers(count, path, serving=lambda: set(range(count)) - set(ended), end=ended.append)
    members = [Worker(owner), *(Worker(FollowerPeers(number, count, path)) for number in range(1, count))]
    for member in members:
        await member.peers.start()
    for member in members:
        assert await member.peers.connected(5)
    await eventually(lambda: len(owner.others) == count - 1)
    try:
        yield members, ended
    finally:
        for member in members[::-1]:
            await member.peers.stop()


async def test_a_published_message_reaches_all_others_in_order(tmp_path: Path) -> None:
    async with workers(tmp_path) as (members, _):
        for number in range(100):
            members[1].peers.publish("note", number)
        members[0].peers.publish("note", "owner")
        await eventually(lambda: len(members[0].messages) == 100 and len(members[2].messages) == 101)
        assert members[0].messages == list(range(100))
        assert [message for message in members[2].messages if message != "owner"] == list(range(100))
        await eventually(lambda: members[1].messages == ["owner"])


class Unreadable:
    """A value that can be sent, and cannot be read."""

    def __reduce__(self) -> tuple[type[int], tuple[str]]:
        return int, ("no number",)


async def test_a_worker_that_cannot_read_a_message_connects_again(tmp_path: Path) -> None:
    async with workers(tmp_path) as (members, _):
        joined, lost = list[int](), list[None]()
        members[0].peers.on_join.append(joined.append)
        members[1].peers.on_lost.append(lambda: lost.append(None))
        members[0].peers.send(1, "note", Unreadable())
        await eventually(lambda: joined == [1] and len(lost) == 1)
        assert await members[0].peers.ask_all("double", 1, timeout=5) == {1: 2, 2: 2}


async def test_questions_get_the_replies_of_their_handlers(tmp_path: Path) -> None:
    async with workers(tmp_path) as (members, _):
        assert await members[1].peers.ask(0, "double", 21, timeout=5) == 42
        assert await members[0].peers.ask_all("double", "a", timeout=5) == {1: "aa", 2: "aa"}
        with pytest.raises(PeerUnavailable, match="ZeroDivisionError"):
            await members[1].peers.ask(0, "fail", 0, timeout=5)
        with pytest.raises(PeerUnavailable, match="no handler"):
            await members[1].peers.ask(0, "unknown", 0, timeout=5)
        assert await members[1].peers.ask(0, "double", 4, timeout=5) == 8


async def test_a_slow_handler_delays_no_other_message(tmp_path: Path) -> None:
    async with workers(tmp_path) as (members, _):
        with pytest.raises(PeerUnavailable, match="no reply"):
            await members[1].peers.ask(0, "hang", None, timeout=0.05)
        assert await members[1].peers.ask(0, "double", 1, timeout=5) == 2


async def test_a_worker_that_does_not_reply_in_time_is_ended(tmp_path: Path) -> None:
    async with workers(tmp_path) as (members, ended):
        members[2].peers.on("double", lambda _: asyncio.Event().wait())
        assert await members[0].peers.require_all("double", 1, timeout=0.1) == {1: 2}
        assert ended == [2]


async def test_the_owner_waits_until_a_worker_that_it_ends_has_ended(tmp_path: Path) -> None:
    serving, ended = {0, 1}, list[int]()
    owner = OwnerPeers(2, str(tmp_path / "bus"), serving=lambda: serving, end=ended.append)
    await owner.start()
    asking = asyncio.create_task(owner.require_all("double", 1, timeout=0.05))
    await eventually(lambda: ended == [1])
    await asyncio.wait({asking}, timeout=0.2)
    assert not asking.done()
    serving.discard(1)
    assert await asking == {}
    await owner.stop()


async def test_a_worker_that_serves_and_is_not_connected_is_ended(tmp_path: Path) -> None:
    async with workers(tmp_path) as (members, ended):
        await members[1].peers.stop()
        await eventually(lambda: not _is_connected(members[0], 1))
        assert await members[0].peers.require_all("double", 1, timeout=1) == {2: 2}
        assert ended == [1]


def _is_connected(owner: Worker, number: int) -> bool:
    assert isinstance(owner.peers, OwnerPeers)
    return number in owner.peers.others


async def test_workers_connect_to_an_owner_that_was_restarted(tmp_path: Path) -> None:
    async with workers(tmp_path) as (members, _):
        losses: list[int] = []
        members[1].peers.on_lost.append(lambda: losses.append(1))
        await members[0].peers.stop()
        await eventually(lambda: losses == [1])
        with pytest.raises(PeerUnavailable):
            await members[1].peers.ask(0, "double", 1, timeout=1)
        joined: list[int] = []
        successor = Worker(OwnerPeers(3, str(tmp_path / "bus"), serving=lambda: (), end=lambda _: None))
        successor.peers.on_join.append(joined.append)
        await successor.peers.start()
        await eventually(lambda: sorted(joined) == [1, 2])
        assert await members[1].peers.ask(0, "double", 5, timeout=5) == 10
        await successor.peers.stop()


async def test_a_worker_connects_again_after_a_message_that_it_cannot_read(tmp_path: Path) -> None:
    greetings = 0

    async def send_garbage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greetings
        greetings += 1
        writer.write(len(b"garbage").to_bytes(4) + b"garbage")
        writer.close()

    path = str(tmp_path / "bus")
    server = await asyncio.start_unix_server(send_garbage, path)
    member = Worker(FollowerPeers(1, 2, path))
    await member.peers.start()
    await eventually(lambda: greetings == 2)
    server.close()
    successor = OwnerPeers(2, str(tmp_path / "bus"), serving=lambda: (), end=lambda _: None)
    await successor.start()
    assert await successor_replies(successor)
    await member.peers.stop()
    await successor.stop()


async def successor_replies(owner: OwnerPeers) -> bool:
    await eventually(lambda: 1 in owner.others)
    return await owner.ask_all("double", 2, timeout=5) == {1: 4}


async def test_a_message_without_a_handler_is_not_read(tmp_path: Path) -> None:
    async with workers(tmp_path, 2) as (members, _):
        losses: list[int] = []
        members[1].peers.on_lost.append(lambda: losses.append(1))
        members[0].peers.publish("later", Unreadable())
        assert await members[0].peers.ask_all("double", 2, timeout=5) == {1: 4}
        members[0].peers.publish("note", Unreadable())
        await eventually(lambda: losses == [1])


async def test_a_process_without_workers_has_no_peers() -> None:
    peers = Peers()
    assert peers.is_owner
    assert not peers.is_shared
    peers.publish("note", 1)
    assert await peers.ask_all("note", 1, timeout=1) == {}
    with pytest.raises(PeerUnavailable):
        await peers.ask(0, "note", 1, timeout=1)
