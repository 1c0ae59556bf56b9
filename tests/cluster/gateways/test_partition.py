"""A gateway that loses its way to PostgreSQL, to S3 or to both, and gets it back: its chats go on, nothing acknowledged
is lost, nothing is doubled, and nothing that was deleted elsewhere comes back."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from yarl import URL

from tests.cluster.gateways.cluster import LEASE_SECONDS, Cluster, listed, recalls, said
from tests.cluster.gateways.group import FAILOVER, Group, are_drained, require_long
from tests.cluster.gateways.load import Load
from tests.conftest import Scale
from tests.fakes.link import Link, running_link
from tests.fakes.namespace import running_namespace
from tests.fakes.process import Process
from tests.fakes.running import eventually
from tests.fakes.upstream import pause

FACT = "My boat is called Argo and lies in Kiel."
QUESTION = "What is my boat called?"
FIRST_CHAT = 7.0  # seconds that a chat may take while the gateway notices that nothing answers
LATER_CHAT = 2.5
KEY = "a-key-of-this-test"


@dataclass(frozen=True)
class Chat:
    """A chat through the gateway that is cut off. Times are monotonic."""

    text: str
    began: float
    seconds: float
    status: int
    memory: str


class Chats:
    """Chats through one gateway, one after the other."""

    def __init__(self, gateway: Process) -> None:
        self.done: list[Chat] = []
        self._gateway = gateway
        self._is_ended = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Chat until the end of the block."""
        task = asyncio.create_task(self._chat())
        try:
            yield
        finally:
            self._is_ended.set()
            await task

    async def _chat(self) -> None:
        while not self._is_ended.is_set():
            self.done.append(await self._say(f"Note number {len(self.done)} of the partition."))
            await pause(0.1)

    async def _say(self, text: str) -> Chat:
        began = time.monotonic()
        body = {"model": "fake-1", "messages": [{"role": "user", "content": text}], "stream": True}
        headers = {"x-memory-user": "ada", "x-memory-session": "partition"}
        url = f"{self._gateway.url}/v1/chat/completions"
        async with self._gateway.session.post(url, json=body, headers=headers) as response:
            await response.read()
            memory = response.headers["x-memory-status"]
            return Chat(text, began, time.monotonic() - began, response.status, memory)

    def last(self) -> str:
        return self.done[-1].memory


@dataclass(frozen=True)
class Partition:
    """Two gateways, of which `apart` can be cut off."""

    apart: Process
    other: Process
    group: Group
    cut: Callable[[], Awaitable[None]]
    join: Callable[[], Awaitable[None]]

    @property
    def both(self) -> list[Process]:
        return [self.apart, self.other]


@asynccontextmanager
async def running_partition(cluster: Cluster, part: str) -> AsyncIterator[Partition]:
    """Run them. `part`: what can be cut off, `postgresql`, `s3` or `both`."""
    database, endpoint = URL(cluster.database_url), URL(cluster.storage.endpoint or "")
    async with (
        running_link(database.port or 0) as to_database,
        running_link(endpoint.port or 0) as to_storage,
        AsyncExitStack() as stack,
    ):
        links = {"postgresql": [to_database], "s3": [to_storage], "both": [to_database, to_storage]}[part]
        group = Group(cluster, stack)
        other = await group.start("other")
        apart = await group.start("apart", moved(cluster, database, endpoint, (to_database, to_storage)))

        async def cut() -> None:
            for link in links:
                link.cut()

        async def join() -> None:
            for link in links:
                link.join()

        yield Partition(apart, other, group, cut, join)


@asynccontextmanager
async def running_apart(cluster: Cluster) -> AsyncIterator[Partition]:
    """The same, where `apart` runs in a network namespace, and packets to it vanish."""
    database, endpoint = URL(cluster.database_url), URL(cluster.storage.endpoint or "")
    upstream = URL(cluster.upstream_url)
    async with (
        running_namespace() as namespace,
        running_link(database.port or 0, namespace.engines[0]) as to_database,
        running_link(endpoint.port or 0, namespace.engines[0]) as to_storage,
        running_link(upstream.port or 0, namespace.front[0]) as to_upstream,
        AsyncExitStack() as stack,
    ):
        group = Group(cluster, stack)
        other = await group.start("other")
        host = namespace.engines[0]
        inside = moved(cluster, database.with_host(host), endpoint.with_host(host), (to_database, to_storage))
        inside = replace(
            inside,
            upstream_url=str(upstream.with_host(namespace.front[0]).with_port(to_upstream.port)),
            beside=namespace.pid,
            key=KEY,
            more={
                "server__host": namespace.front[1],
                "auth__keys": [{"key": KEY, "rights": ["chat", "memory", "admin"]}],
            },
        )
        apart = await group.start("apart", inside)
        yield Partition(apart, other, group, namespace.cut, namespace.join)


def moved(cluster: Cluster, database: URL, endpoint: URL, links: tuple[Link, Link]) -> Cluster:
    """The same cluster, reached by links to PostgreSQL and to S3."""
    to_database, to_storage = links
    return replace(
        cluster,
        database_url=str(database.with_port(to_database.port)),
        storage=replace(cluster.storage, endpoint=str(endpoint.with_port(to_storage.port)).rstrip("/")),
    )


async def delete_fact(gateway: Process) -> None:
    (entry,) = [entry for entry in await listed(gateway, user="ada") if entry["text"] == FACT]
    async with gateway.session.delete(f"{gateway.url}/v1/memory/{entry['id']}") as response:
        assert response.status == 200, await response.text()


async def has_fact(gateway: Process) -> bool:
    return FACT in await recalls(gateway, QUESTION)


async def go_through(partition: Partition, part: str, seconds: float) -> None:
    """Cut one gateway off for a while, under load; a memory is deleted at the other one meanwhile."""
    assert await said(partition.apart, FACT) == 200
    for gateway in partition.both:
        await eventually(lambda gateway=gateway: has_fact(gateway), 10)  # type: ignore[misc]
    load, chats = Load(lambda: partition.both), Chats(partition.apart)
    async with chats.running(), load.running():
        await eventually(lambda: len(chats.done) > 3)
        began = time.monotonic()
        await partition.cut()
        if part != "s3":
            await eventually(lambda: chats.last() == "degraded", 2 * FIRST_CHAT)
        await delete_fact(partition.other)
        await pause(seconds)
        await partition.join()
        await eventually(lambda: chats.last() != "degraded", FAILOVER)
    assert {chat.status for chat in chats.done} == {200}
    assert max(chat.seconds for chat in chats.done) < FIRST_CHAT
    assert max(chat.seconds for chat in chats.done if chat.began > began + FIRST_CHAT) < LATER_CHAT
    for gateway in partition.both:
        await eventually(lambda gateway=gateway: lacks_fact(gateway), FAILOVER)  # type: ignore[misc]
    await eventually(lambda: are_drained(partition.group), 3 * FAILOVER)
    for gateway in partition.both:
        await load.check(gateway)
        assert not await has_fact(gateway)
    counts = Counter(await partition.other.texts())
    assert {chat.text: counts[chat.text] for chat in chats.done if counts[chat.text] != 1} == {}


async def lacks_fact(gateway: Process) -> bool:
    """True if a search answers, and does not find the fact. Each part of the storage connects again by itself."""
    url = f"{gateway.url}/v1/memory/search"
    async with gateway.session.get(url, params={"query": QUESTION, "user": "ada"}) as response:
        return response.status == 200 and FACT not in await response.text()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", ["both", "postgresql", "s3"])
async def test_a_gateway_that_is_cut_off_goes_on_and_catches_up(cluster: Cluster, part: str, scale: Scale) -> None:
    if part != "both":
        require_long(scale)
    async with running_partition(cluster, part) as partition:
        await go_through(partition, part, scale(LEASE_SECONDS + 2, 75))


@pytest.mark.timeout(300)
async def test_a_gateway_whose_packets_vanish_goes_on_and_catches_up(cluster: Cluster, scale: Scale) -> None:
    require_long(scale)
    async with running_apart(cluster) as partition:
        await go_through(partition, "both", scale(LEASE_SECONDS + 2, 75))
