"""Plugins through a running gateway: each hook, in order, isolated, open or closed."""

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.running import configuration, eventually, running_gateway
from tests.fakes.upstream import DONE, FakeUpstream, chunk, cuts_after, deltas, streams

PLUGIN = """
import asyncio, time
from dataclasses import replace
from gateway.hooks import DROP, Plugin, PluginConfigModel, Reject, Reply

SEEN = []

class Probe(Plugin):
    reads_stream = True
    class Config(PluginConfigModel):
        name: str = "probe"
        at: str = ""
        does: str = ""

    async def _act(self, hook):
        SEEN.append(f"{self.config.name}.{hook}")
        if self.config.at != hook:
            return None
        if self.config.does == "raise":
            raise RuntimeError("boom")
        if self.config.does == "hang":
            await asyncio.sleep(60)
        if self.config.does == "nonsense":
            return 42
        if self.config.does == "block":
            until = time.perf_counter() + 0.3
            while time.perf_counter() < until:
                pass
        if self.config.does == "reject":
            raise Reject(451, "not here")
        if self.config.does == "reply":
            return Reply({"choices": [{"index": 0, "message": {"role": "assistant", "content": "from the plugin"}}]})
        return None

    async def on_request(self, turn):
        return await self._act("on_request")

    async def on_recall(self, turn, memories):
        return await self._act("on_recall")

    async def on_messages(self, turn, messages):
        return await self._act("on_messages")

    def on_stream_event(self, turn, event):
        SEEN.append(f"{self.config.name}.on_stream_event")
        if self.config.at == "on_stream_event":
            if self.config.does == "raise":
                raise RuntimeError("boom")
            if self.config.does == "nonsense":
                return 42

    async def on_response(self, turn, answer):
        await self._act("on_response")

    async def on_store(self, turn, records):
        return await self._act("on_store")

    async def on_error(self, turn, error):
        await self._act("on_error")
"""

REWRITER = """
from dataclasses import replace
from gateway.hooks import DROP, Plugin

class Upper(Plugin):
    rewrites_stream = True

    async def on_messages(self, turn, messages):
        return [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + " (please)"}]

    async def on_recall(self, turn, memories):
        return [memory for memory in memories if "secret" not in memory.record.text]

    async def on_store(self, turn, records):
        return [replace(record, text=record.text + " #kept") for record in records]

    def on_stream_event(self, turn, event):
        if b"drop me" in event.data:
            return DROP
        if b"shout" in event.data:
            return replace(event, data=event.data.replace(b"shout", b"SHOUT"))
"""


def with_plugins(folder: Path, url: str, *plugins: dict[str, Any], **changes: Any) -> Any:
    (folder / "plugins").mkdir(exist_ok=True)
    (folder / "plugins" / "probe.py").write_text(PLUGIN)
    (folder / "plugins" / "upper.py").write_text(REWRITER)
    return configuration(folder, url, plugins=list(plugins), **changes)


def probe(name: str = "probe", **fields: Any) -> dict[str, Any]:
    config: dict[str, Any] = {"name": name}
    config |= {key: fields.pop(key) for key in ("at", "does") if key in fields}
    return {"use": "probe", "config": config, "timeout_ms": 100, **fields}


HOOKS = ["on_request", "on_recall", "on_messages", "on_stream_event", "on_response", "on_store"]
# a sync hook cannot be interrupted (its overruns have a test of their own), and on_response has no value to be wrong
FAILURES = [
    (hook, does)
    for hook in HOOKS
    for does in ("raise", "hang", "nonsense", "block")
    if not (hook == "on_stream_event" and does in ("hang", "block")) and (hook, does) != ("on_response", "nonsense")
]


async def test_request_hooks_run_in_order_and_response_hooks_in_reverse(tmp_path: Path, upstream: FakeUpstream) -> None:
    order: list[str] = []
    config = with_plugins(tmp_path, upstream.url, probe("a"), probe("b"))
    async with running_gateway(config) as gateway:
        for one in gateway.gateway._plugins._loaded:
            type(one.plugin).on_request.__globals__["SEEN"] = order
        await gateway.chat("hi")
        await gateway.settled()
    assert order == [
        "a.on_request",
        "b.on_request",
        "a.on_recall",
        "b.on_recall",
        "a.on_messages",
        "b.on_messages",
        "b.on_store",
        "a.on_store",
        "b.on_response",
        "a.on_response",
    ]


@pytest.mark.parametrize("policy", ["open", "closed"])
@pytest.mark.parametrize(("hook", "does"), FAILURES)
async def test_a_failing_plugin_does_what_it_declares(
    tmp_path: Path, upstream: FakeUpstream, hook: str, does: str, policy: str
) -> None:
    config = with_plugins(tmp_path, upstream.url, probe(at=hook, does=does, on_failure=policy))
    upstream.script = streams([*deltas("all is well"), DONE]) if hook == "on_stream_event" else None
    async with running_gateway(config) as gateway:
        refused = policy == "closed" and hook in ("on_request", "on_recall", "on_messages")
        if policy == "closed" and hook == "on_stream_event":
            with pytest.raises(Exception, match=r"(?i)payload|closed|disconnect"):
                await gateway.chat("hello there", stream=True)
        else:
            reply = await gateway.chat("hello there", stream=hook == "on_stream_event")
            assert reply.status == (503 if refused else 200)
            if refused:
                assert reply.error["code"] == "plugin_unavailable"
        await eventually(lambda: not gateway.gateway._tasks._tasks)
        metrics = (await gateway.get("/metrics")).body.decode()
        found = await gateway.post("/product/search", {"user_id": "ada", "query": "hello there", "relativity": 0})
        assert f'gateway_plugin_failures_total{{hook="{hook}",plugin="probe"}} 1.0' in metrics
        if hook == "on_store":
            await gateway.settled()
            found = await gateway.post("/product/search", {"user_id": "ada", "query": "hello there", "relativity": 0})
            assert ("hello there" in found.body.decode()) == (policy == "open")


async def test_a_rejection_gets_its_status_and_no_upstream_call(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = with_plugins(tmp_path, upstream.url, probe(at="on_request", does="reject"))
    async with running_gateway(config) as gateway:
        reply = await gateway.chat("hi")
    assert (reply.status, reply.error["message"]) == (451, "not here")
    assert not upstream.received


async def test_a_plugin_may_answer_itself(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = with_plugins(tmp_path, upstream.url, probe(at="on_request", does="reply"))
    async with running_gateway(config) as gateway:
        reply = await gateway.chat("hi")
    assert reply.json["choices"][0]["message"]["content"] == "from the plugin"
    assert not upstream.received


async def test_each_turn_ends_in_exactly_one_of_response_and_error(tmp_path: Path, upstream: FakeUpstream) -> None:
    order: list[str] = []
    async with running_gateway(with_plugins(tmp_path, upstream.url, probe("a"))) as gateway:
        for one in gateway.gateway._plugins._loaded:
            type(one.plugin).on_request.__globals__["SEEN"] = order
        upstream.script = cuts_after([chunk({"content": "half"})])
        with pytest.raises(Exception, match=r"(?i)payload|closed|disconnect"):
            await gateway.chat("hi", stream=True)
        await eventually(lambda: not gateway.gateway._tasks._tasks)
        assert [step for step in order if step in ("a.on_response", "a.on_error")] == ["a.on_error"]
        order.clear()
        upstream.script = None
        await gateway.chat("hi", stream=True)
        await eventually(lambda: not gateway.gateway._tasks._tasks)
        assert [step for step in order if step in ("a.on_response", "a.on_error")] == ["a.on_response"]


async def test_new_values_take_effect(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(with_plugins(tmp_path, upstream.url, {"use": "upper"})) as gateway:
        await gateway.chat("The secret garden is in Bath.", session="one")
        await gateway.chat("The public garden is in York.", session="one")
        await gateway.settled()
        upstream.script = streams(
            [chunk({"content": "shout"}), b": ping\n\n", chunk({"content": "drop me"}), chunk({}, "stop"), DONE],
            pause=0.05,
        )
        reply = await gateway.chat("Where are the gardens?", session="two", stream=True)
    content = upstream.last.json["messages"][-1]["content"]
    assert content.endswith("Where are the gardens? (please)")
    assert "York. #kept" in content
    assert "Bath" not in content
    assert b"SHOUT" in reply.body
    assert b"drop me" not in reply.body
    assert b": ping\n\n" in reply.body
    assert reply.body.endswith(DONE)


async def test_what_a_hook_gets_cannot_be_changed_in_place(tmp_path: Path, upstream: FakeUpstream) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "sly.py").write_text(
        "from gateway.hooks import Plugin\n"
        "class Sly(Plugin):\n"
        "    async def on_request(self, turn):\n"
        "        turn.body['messages'][0]['content'] = 'changed'\n"
        "    async def on_messages(self, turn, messages):\n"
        "        messages[0]['content'] = 'changed'\n"
    )
    config = configuration(tmp_path, upstream.url, plugins=[{"use": "sly"}])
    async with running_gateway(config) as gateway:
        assert (await gateway.chat("hi")).status == 200
    assert "changed" not in upstream.last.body.decode()


async def test_after_five_failures_a_plugin_rests(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = with_plugins(tmp_path, upstream.url, probe(at="on_request", does="raise"))
    async with running_gateway(config) as gateway:
        for _ in range(8):
            assert (await gateway.chat("hi")).status == 200
        metrics = (await gateway.get("/metrics")).body.decode()
    assert 'gateway_plugin_failures_total{hook="on_request",plugin="probe"} 5.0' in metrics


async def test_audit_writes_a_line_a_turn_without_content(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, plugins=[{"use": "audit"}])
    async with running_gateway(config) as gateway:
        await gateway.chat("a very private sentence")
    lines = (tmp_path / "data" / "plugins" / "audit" / "audit.jsonl").read_text().splitlines()
    assert len(lines) == 1
    assert '"outcome":"complete"' in lines[0]
    assert "private" not in lines[0]
    assert '"ada"' not in lines[0]


async def test_a_slow_stream_hook_is_switched_off_for_the_turn(tmp_path: Path, upstream: FakeUpstream) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "slow.py").write_text(
        "import time\n"
        "from gateway.hooks import Plugin\n"
        "CALLS = []\n"
        "class Slow(Plugin):\n"
        "    reads_stream = True\n"
        "    def on_stream_event(self, turn, event):\n"
        "        CALLS.append(1)\n"
        "        until = time.perf_counter() + 0.003\n"
        "        while time.perf_counter() < until:\n"
        "            pass\n"
    )
    pieces = [*deltas("one two three four five six seven"), DONE]
    upstream.script = streams(pieces, pause=0.01)
    async with running_gateway(configuration(tmp_path, upstream.url, plugins=[{"use": "slow"}])) as gateway:
        reply = await gateway.chat("hi", stream=True)
        (one,) = gateway.gateway._plugins._loaded
    assert reply.body == b"".join(pieces)
    assert len(type(one.plugin).on_stream_event.__globals__["CALLS"]) == 3


async def test_a_rewriter_keeps_a_stream_whole_that_is_cut_oddly(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(with_plugins(tmp_path, upstream.url, {"use": "upper"})) as gateway:
        whole = chunk({"content": "shout"}) + chunk({}, "stop")
        upstream.script = streams([b": ping\n\n" + whole[:20], whole[20:], b"data: [DONE]\n"], pause=0.05)
        reply = await gateway.chat("hi", stream=True)
    assert reply.body == whole.replace(b"shout", b"SHOUT") + b"data: [DONE]\n\n"


async def test_a_rejected_turn_is_counted_and_observed(tmp_path: Path, upstream: FakeUpstream) -> None:
    plugins = [{"use": "audit"}, probe(at="on_request", does="reject")]
    async with running_gateway(with_plugins(tmp_path, upstream.url, *plugins)) as gateway:
        assert (await gateway.chat("hi")).status == 451
        await eventually(lambda: not gateway.gateway._tasks._tasks)
        metrics = (await gateway.get("/metrics")).body.decode()
    assert 'gateway_turns_total{outcome="refused"} 1.0' in metrics
    assert '"error":"Reject"' in (tmp_path / "data" / "plugins" / "audit" / "audit.jsonl").read_text()
