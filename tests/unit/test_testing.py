"""The support for tests of plugins, used as a plugin's author would."""

import asyncio
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import pytest

from gateway.hooks import Plugin, PluginConfigModel, Reject, Services
from gateway.testing import eventually, running, started, turn
from gateway.turn import MemoryMode

PLUGIN = """
from gateway.hooks import Plugin, Reject

class Curfew(Plugin):
    async def on_request(self, turn):
        if "war" in turn.ask.query:
            raise Reject(403, "not here")
"""


class Probe(Plugin):
    class Config(PluginConfigModel):
        word: str = "war"

    config: Config

    async def start(self, services: Services) -> None:
        self.services = services
        self.is_stopped = False

    async def stop(self) -> None:
        self.is_stopped = True

    async def on_request(self, turn: Any) -> None:
        self.services.count("request")
        if self.config.word in turn.ask.query:
            raise Reject(403, f"refused at {self.services.clock()}")

    async def on_messages(self, turn: Any, messages: Any) -> Any:
        return [type(message) for message in messages]

    def on_memory_change(self, scopes: Any) -> None:
        self.services.count(",".join(scopes))


async def test_a_gateway_runs_from_a_mapping_and_settles(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "curfew.py").write_text(PLUGIN)
    config = {"upstreams": [{"name": "stand-in", "kind": "offline"}], "plugins": [{"use": "curfew"}]}
    async with running(config, tmp_path) as gateway, aiohttp.ClientSession() as session:
        statuses = []
        for text in ("My cat is called Miso.", "Tell me about the war."):
            body = {"model": "m", "user": "ada", "messages": [{"role": "user", "content": text}]}
            async with session.post(f"{gateway.url}/v1/chat/completions", json=body) as response:
                statuses.append(response.status)
        assert statuses == [200, 403]
        await gateway.settled()
        async with session.get(f"{gateway.url}/v1/memory/export") as response:
            assert "My cat is called Miso." in await response.text()
        await gateway.extracted()
        assert gateway.metric("gateway_turns_total", outcome="refused") == 1
        assert gateway.metric("gateway_turns_total", outcome="no such outcome") == 0
        assert [type(plugin).__name__ for plugin in gateway.plugins] == ["Curfew"]


async def test_what_does_not_settle_fails(tmp_path: Path) -> None:
    config = {"upstreams": [{"name": "stand-in", "kind": "offline"}]}
    async with running(config, tmp_path) as gateway:
        going_on = asyncio.Event()
        gateway.gateway.tasks.run(going_on.wait())
        with pytest.raises(AssertionError):
            await gateway.settled(0.05)
        going_on.set()
        await gateway.settled()


async def test_a_hook_is_called_with_a_turn_a_clock_and_counters() -> None:
    async with started(Probe, word="peace") as probe:
        await probe.call("on_request", turn("Tell me about the war."))
        probe.now = 77.0
        with pytest.raises(Reject, match=r"refused at 77\.0"):
            await probe.call("on_request", turn("Tell me about peace."))
        assert await probe.call("on_messages", turn(), [{"role": "user", "content": "x"}]) == [MappingProxyType]
        await probe.call("on_memory_change", ["a"])
        assert probe.counts == {"request": 2, "a": 1}
    assert probe.plugin.is_stopped


def test_a_turn_is_that_of_its_body() -> None:
    messages = [
        {"role": "user", "content": "My cat is called Miso."},
        {"role": "assistant", "content": "Noted."},
        {"role": "user", "content": "What is it called?"},
    ]
    read = turn(body={"model": "m", "stream": True, "messages": messages}, user="bob", mode=MemoryMode.READ)
    assert (read.ask.query, read.ask.stream, read.ask.opening) == ("What is it called?", True, messages[0]["content"])
    assert read.identity is not None
    assert (read.user, read.identity.user_id, read.mode) == ("bob", "bob", MemoryMode.READ)
    assert turn().raw == b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'


async def test_a_condition_is_waited_for_with_a_limit() -> None:
    values = iter([False, False, True])
    await eventually(lambda: next(values))

    async def never() -> bool:
        return False

    with pytest.raises(AssertionError, match="in time"):
        await eventually(never, 0.03)
