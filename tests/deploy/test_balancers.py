"""The shipped configurations of balancers: where requests go, what is repeated, and how answers are passed on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.deploy.balancers import BALANCERS, find_balancer, running_balancer
from tests.docs.markdown import ROOT, blocks
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream, deltas, hangs

USERS = [f"user-{number}" for number in range(41)]  # no multiple of the number of gateways
NAMING = ["x-memory-user", "x-openwebui-user-id", "x-gateway-key", "authorization"]
"""Headers that name a user, or a key: each wins over those after it."""


@pytest.fixture(params=BALANCERS)
def balancer(request: pytest.FixtureRequest) -> str:
    if find_balancer(request.param) is None:
        pytest.skip(f"{request.param} is not installed in this environment")
    return str(request.param)


@asynccontextmanager
async def running_gateways(folder: Path, upstream: FakeUpstream, count: int) -> AsyncIterator[list[Running]]:
    """Gateways without memory that name themselves in the requests to the upstream."""
    async with AsyncExitStack() as stack:
        gateways = []
        for number in range(1, count + 1):
            (folder / str(number)).mkdir()
            entry = {"name": "fake", "base_url": upstream.url, "headers": {"x-gateway": str(number)}}
            config = configuration(folder / str(number), upstream.url, memory__enabled=False, upstreams=[entry])
            gateways.append(await stack.enter_async_context(running_gateway(config)))
        yield gateways


def address_of(gateway: Running) -> str:
    return gateway.url.removeprefix("http://")


async def chat(session: aiohttp.ClientSession, url: str, user: str, header: str = "x-memory-user") -> int:
    body = {"model": "fake-1", "messages": [{"role": "user", "content": "Hello"}]}
    async with session.post(
        f"{url}/v1/chat/completions", json=body, headers={"authorization": "Bearer all", header: user}
    ) as response:
        await response.read()
        return response.status


async def list_models(url: str, user: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/v1/models", headers={"authorization": "Bearer all", "x-memory-user": user}) as response,
    ):
        await response.read()
        return response.status


async def test_each_user_is_sent_to_one_gateway_and_users_to_all(
    balancer: str, tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with (
        running_gateways(tmp_path, upstream, 3) as gateways,
        running_balancer(balancer, [address_of(gateway) for gateway in gateways], tmp_path) as url,
        aiohttp.ClientSession() as session,
    ):
        for header in NAMING:
            places: dict[str, set[str]] = {}
            for user in USERS * 2:
                assert await chat(session, url, user, header) == 200
                places.setdefault(user, set()).add(upstream.last.headers["x-gateway"])
            assert all(len(numbers) == 1 for numbers in places.values()), header
            assert set.union(*places.values()) == {"1", "2", "3"}, header


async def test_an_answer_is_passed_on_as_it_arrives(balancer: str, tmp_path: Path, upstream: FakeUpstream) -> None:
    pieces = deltas("Once upon")
    upstream.script = hangs(pieces)
    body = {"model": "fake-1", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
    async with (
        running_gateways(tmp_path, upstream, 1) as gateways,
        running_balancer(balancer, [address_of(gateways[0])] * 3, tmp_path) as url,
        aiohttp.ClientSession() as session,
        session.post(f"{url}/v1/chat/completions", json=body) as response,
    ):
        received = b""
        while b"upon" not in received:  # the upstream sends no more until it is released
            received += await asyncio.wait_for(response.content.readany(), 20)
        upstream.release()


async def test_users_of_a_gateway_that_stopped_are_answered_by_another_one(
    balancer: str, tmp_path: Path, upstream: FakeUpstream
) -> None:
    async with running_gateways(tmp_path, upstream, 3) as gateways:
        addresses = [address_of(gateway) for gateway in gateways]
        async with running_balancer(balancer, addresses, tmp_path) as url, aiohttp.ClientSession() as session:
            await gateways[1].gateway.stop()
            assert [await chat(session, url, user) for user in USERS] == [200] * len(USERS)
    assert {request.headers["x-gateway"] for request in upstream.received} == {"1", "3"}


async def test_what_a_gateway_has_received_is_repeated_only_if_it_changes_nothing(
    balancer: str, tmp_path: Path, upstream: FakeUpstream
) -> None:
    requests: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/ready" in head:  # as HAProxy asks
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
        else:
            requests.append(head)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with running_gateways(tmp_path, upstream, 2) as gateways:
        addresses = [f"{host}:{port}", *(address_of(gateway) for gateway in gateways)]
        async with running_balancer(balancer, addresses, tmp_path) as url:
            for user in USERS:
                assert await list_models(url, user) == 200
                if requests:  # the first user of the server that hangs up
                    break
            async with aiohttp.ClientSession() as session:
                assert await chat(session, url, user) == 502
    server.close()
    await server.wait_closed()
    assert [head.split()[0] for head in requests] == [b"GET", b"POST"]
    assert not [request for request in upstream.received if request.path.endswith("completions")]


@pytest.mark.parametrize(("language", "file"), [("nginx", "nginx.conf"), ("text", "haproxy.cfg")])
def test_the_guide_shows_the_shipped_configuration(language: str, file: str) -> None:
    shown = blocks(ROOT / "docs" / "guides" / "scaling.md", language)
    assert (ROOT / "deploy" / file).read_text(encoding="utf-8") in shown
