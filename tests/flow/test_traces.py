"""Traces of turns, as a collector receives them by OTLP."""

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.errors import ConfigError
from gateway.telemetry import short_digest
from gateway.testing import eventually
from tests.fakes.collector import Collector, ReceivedSpan, running_collector
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream, cuts_after, deltas, hangs, running_upstream, says
from tests.fakes.warm import ROOT

CLOSED = """
from gateway.hooks import Plugin

class Closed(Plugin):
    critical = True

    async def on_store(self, turn, records):
        raise RuntimeError("it cannot redact")
"""
CLIENT, ERROR = 3, 2  # of the protocol's numbers
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "sk-proj-abcdefghij0123456789abcdefghij0123456789"


@pytest.fixture(autouse=True)
def _exports_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with running_collector() as running:
        yield running


@pytest.fixture
async def gateway(
    tmp_path: Path, upstream: FakeUpstream, collector: Collector, changes: dict[str, Any]
) -> AsyncIterator[Running]:
    values = {"otel__enabled": True, "otel__endpoint": collector.url, **changes}
    async with running_gateway(configuration(tmp_path, upstream.url, **values)) as running:
        yield running


async def chat_of(collector: Collector, count: int = 1) -> ReceivedSpan:
    """The newest chat, once so many have arrived; its steps come in the same batch or before."""
    await eventually(lambda: len(collector.chats) >= count)
    assert len(collector.chats) == count
    return collector.chats[-1]


def is_sampled(traceparent: str) -> bool:
    """True if the flags of W3C trace context say so; others are the SDK's business."""
    return int(traceparent.rpartition("-")[2], 16) & 1 == 1


async def test_a_turn_is_one_trace_of_a_chat_with_the_search_and_the_storing_below_it(
    gateway: Running, collector: Collector
) -> None:
    await gateway.chat("My sister Lena lives in Oslo.", session="first")
    await gateway.settled()
    reply = await gateway.chat("Where does my sister Lena live?", session="second")
    chat = await chat_of(collector, 2)
    assert (chat.name, chat.kind, chat.status, chat.parent_id) == ("chat fake-1", CLIENT, 0, "")
    attributes = chat.attributes
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.provider.name"] == "fake"
    assert attributes["gen_ai.request.model"] == attributes["gen_ai.response.model"] == "fake-1"
    assert attributes["gen_ai.usage.input_tokens"] == 7
    assert attributes["gen_ai.usage.output_tokens"] == 5
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert attributes["gen_ai.response.id"] == "chatcmpl-1"
    assert attributes["gen_ai.request.stream"] is False
    assert attributes["server.address"] == "127.0.0.1"
    assert attributes["http.response.status_code"] == 200
    assert attributes["memory_gateway.turn.id"] == reply.headers["x-gateway-request-id"]
    assert attributes["memory_gateway.memory.status"] == "hit"
    assert attributes["memory_gateway.outcome"] == "complete"
    assert chat.resource["service.name"] == "memory-gateway"
    steps = collector.children(chat)
    search, upsert = steps["search_memory"].attributes, steps["upsert_memory"].attributes
    assert search["gen_ai.memory.record.count"] >= search["memory_gateway.memory.injected"] >= 1
    assert search["memory_gateway.memory.tokens"] == int(reply.headers["x-memory-tokens"])
    assert 0 < search["memory_gateway.memory.deadline_left_ms"] <= 5000
    assert search["memory_gateway.memory.status"] == "hit"
    assert upsert["gen_ai.memory.record.count"] == 2
    for step in steps.values():
        assert step.trace_id == chat.trace_id
        assert chat.began <= step.began <= step.ended <= chat.ended


async def test_a_stream_has_the_time_to_its_first_chunk(gateway: Running, collector: Collector) -> None:
    await gateway.chat("Good morning.", stream=True)
    chat = await chat_of(collector)
    attributes = chat.attributes
    assert attributes["gen_ai.request.stream"] is True
    assert 0 < attributes["gen_ai.response.time_to_first_chunk"] < (chat.ended - chat.began) / 1e9
    assert attributes["gen_ai.usage.output_tokens"] > 0  # counted here: this upstream reports none
    assert attributes["memory_gateway.estimated_tokens"] > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_without_memory_there_are_no_steps(gateway: Running, collector: Collector, stream: bool) -> None:
    await gateway.chat("Good morning.", stream=stream, headers={"x-memory-mode": "off"})
    chat = await chat_of(collector)
    assert chat.attributes["memory_gateway.memory.status"] == "off"
    assert collector.children(chat) == {}


async def test_the_clients_trace_goes_on_and_the_upstream_gets_the_span_of_the_chat(
    gateway: Running, upstream: FakeUpstream, collector: Collector
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "vendor=1"}
    await gateway.chat("Good morning.", headers=headers)
    chat = await chat_of(collector)
    assert (chat.trace_id, chat.parent_id, chat.state) == (TRACE, SPAN, "vendor=1")
    assert upstream.last.headers["traceparent"] == f"00-{TRACE}-{chat.span_id}-01"
    assert upstream.last.headers["tracestate"] == "vendor=1"


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": "nonsense", "tracestate": "vendor=1"},
        {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
        {"tracestate": "vendor=1"},
        {"traceparent": "0" * 5000},
    ],
)
async def test_an_invalid_trace_of_the_client_begins_a_new_one(
    gateway: Running, upstream: FakeUpstream, collector: Collector, headers: dict[str, str]
) -> None:
    await gateway.chat("Good morning.", headers=headers)
    chat = await chat_of(collector)
    assert chat.parent_id == ""
    assert upstream.last.headers["traceparent"].startswith(f"00-{chat.trace_id}-{chat.span_id}-")
    assert is_sampled(upstream.last.headers["traceparent"])
    assert "tracestate" not in upstream.last.headers


async def test_a_trace_state_that_is_too_long_is_dropped(gateway: Running, collector: Collector) -> None:
    state = ",".join(f"vendor{number}={'x' * 20}" for number in range(30))
    await gateway.chat("Good morning.", headers={"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": state})
    chat = await chat_of(collector)
    assert (chat.trace_id, chat.state) == (TRACE, "")


@pytest.mark.parametrize("state", ["My PIN is 4711", "a=1,My PIN=4711", "A=4711", "a=4711=", "a=4711\u00e4", "4711="])
async def test_what_a_client_sends_as_a_trace_is_not_in_the_log(
    gateway: Running, collector: Collector, caplog: pytest.LogCaptureFixture, state: str
) -> None:
    await gateway.chat("Good morning.", headers={"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": state})
    chat = await chat_of(collector)
    assert (chat.trace_id, chat.state) == (TRACE, "")
    await gateway.chat("Good morning.", headers={"traceparent": "4711" * 200})
    assert "47114711" not in caplog.text
    assert "traceparent" not in caplog.text


@pytest.mark.parametrize("changes", [{"otel__sample_ratio": 0}])
async def test_what_is_not_sampled_is_not_exported_and_tells_upstreams_so(
    gateway: Running, upstream: FakeUpstream, collector: Collector
) -> None:
    await gateway.chat("Good morning.")
    assert not is_sampled(upstream.last.headers["traceparent"])
    await gateway.chat("Good morning again.", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    chat = await chat_of(collector)  # the client's choice counts
    assert chat.trace_id == TRACE
    await eventually(lambda: any(count == 2 for name, _, _, count in collector.points if name.endswith("duration")))


async def test_without_tracing_the_clients_headers_are_forwarded(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url)) as gateway:
        await gateway.chat("Good morning.", headers={"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=1"})
    assert upstream.last.headers["traceparent"] == f"00-{TRACE}-{SPAN}-01"
    assert upstream.last.headers["tracestate"] == "a=1"


async def test_an_error_of_the_upstream_is_one_of_the_span(
    gateway: Running, upstream: FakeUpstream, collector: Collector
) -> None:
    upstream.script = says(400, {"error": {"message": "the prompt about Lena is bad", "type": "x", "code": None}})
    assert (await gateway.chat("Tell me about Lena.")).status == 400
    chat = await chat_of(collector)
    assert chat.status == ERROR
    assert chat.attributes["error.type"] == "400"
    assert chat.attributes["memory_gateway.outcome"] == "refused"
    assert b"Lena" not in collector.raw


async def test_an_unknown_model_is_an_error_before_anything_is_sent(
    tmp_path: Path, upstream: FakeUpstream, collector: Collector
) -> None:
    entry = {"name": "fake", "base_url": upstream.url, "models": ["fake-*"]}
    values: dict[str, Any] = {"otel__enabled": True, "otel__endpoint": collector.url, "upstreams": [entry]}
    async with running_gateway(configuration(tmp_path, upstream.url, **values)) as gateway:
        assert (await gateway.chat("Good morning.", model="other")).status == 404
        chat = await chat_of(collector)
    assert chat.attributes["error.type"] == "model_not_found"
    assert chat.name == "chat other"
    assert collector.points == []


async def test_a_stream_that_breaks_off_is_an_error(
    gateway: Running, upstream: FakeUpstream, collector: Collector
) -> None:
    upstream.script = cuts_after(deltas("One two three")[:-1])
    await gateway.broken_off({"model": "fake-1", "stream": True, "messages": [{"role": "user", "content": "Count."}]})
    chat = await chat_of(collector)
    assert chat.status == ERROR
    assert chat.attributes["error.type"] == "stream_interrupted"
    assert chat.attributes["memory_gateway.outcome"] == "cut"


@pytest.mark.parametrize("has_begun", [False, True])
async def test_a_client_that_disconnects_is_no_error(
    gateway: Running, upstream: FakeUpstream, collector: Collector, has_begun: bool
) -> None:
    upstream.script = hangs(deltas("One two three")[:3] if has_begun else None)
    body = {"model": "fake-1", "stream": True, "messages": [{"role": "user", "content": "Count."}]}
    headers = {"x-memory-user": "ada"}
    async with aiohttp.ClientSession() as session:
        asking = asyncio.create_task(session.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers))
        await eventually(lambda: bool(upstream.received))
        if has_begun:
            response = await asking
            await response.content.readany()
            response.close()
        asking.cancel()
    chat = await chat_of(collector)
    assert chat.status == 0
    assert chat.attributes["memory_gateway.outcome"] == "client_gone"
    assert "upsert_memory" in collector.children(chat)
    upstream.release()


async def test_each_attempt_at_another_upstream_is_an_event(
    tmp_path: Path, upstream: FakeUpstream, collector: Collector
) -> None:
    upstream.script = says(503, {"error": {"message": "busy"}})
    async with running_upstream() as second:
        entries = [{"name": "first", "base_url": upstream.url}, {"name": "second", "base_url": second.url}]
        values: dict[str, Any] = {"otel__enabled": True, "otel__endpoint": collector.url, "upstreams": entries}
        async with running_gateway(configuration(tmp_path, upstream.url, **values)) as gateway:
            assert (await gateway.chat("Good morning.")).status == 200
            chat = await chat_of(collector)
        assert second.last.headers["traceparent"] == upstream.last.headers["traceparent"]
    assert chat.events == [("model_request_repeated", {"upstream": "first", "cause": "503"})]
    assert chat.attributes["memory_gateway.attempts"] == 2
    assert chat.attributes["memory_gateway.upstream"] == "second"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_of_memos_is_traced(gateway: Running, collector: Collector, stream: bool) -> None:
    body = {"user_id": "ada", "session_id": "c1", "query": "Where do I live?", "add_message_on_answer": True}
    path = "/product/chat/stream" if stream else "/product/chat/complete"
    reply = await gateway.post(path, body, {"traceparent": f"00-{TRACE}-{SPAN}-01"})
    assert reply.status == 200
    chat = await chat_of(collector)
    assert chat.parent_id == SPAN
    assert {"search_memory", "upsert_memory"} <= collector.children(chat).keys()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", {"model": "fake-1", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello."}]}),
        ("/v1/responses", {"model": "fake-1", "input": "Hello."}),
    ],
)
async def test_chats_of_every_format_are_traced(
    gateway: Running, collector: Collector, path: str, body: dict[str, Any]
) -> None:
    await gateway.post(path, body, {"x-memory-user": "ada"})
    assert (await chat_of(collector)).attributes["url.path"] == path.removeprefix("/v1")


async def test_no_text_and_no_id_of_a_user_is_exported(gateway: Running, collector: Collector) -> None:
    for stream in (False, True):
        await gateway.chat("My sister Quintessa lives in Oslo.", user="ada@example.org", session="diary", stream=stream)
        await gateway.settled()
        await gateway.chat("Where does Quintessa live?", user="ada@example.org", session="letters", stream=stream)
    await chat_of(collector, 4)
    await eventually(lambda: bool(collector.points))
    for text in (b"Quintessa", b"Oslo", b"Understood", b"ada@example.org", b"diary", b"letters"):
        assert text not in collector.raw
    assert {span.attributes["enduser.pseudo.id"] for span in collector.chats} == {short_digest("ada@example.org")}


@pytest.mark.parametrize("changes", [{"otel__content": True, "plugins": [{"use": "redact"}]}])
async def test_texts_that_are_opted_in_are_redacted_and_cut(
    gateway: Running, upstream: FakeUpstream, collector: Collector
) -> None:
    upstream.reply = f"Your key is {SECRET}, noted."
    await gateway.chat(f"My sister Lena lives in Oslo. My api key is {SECRET}", session="first")
    await gateway.settled()
    await gateway.chat("Where does my sister Lena live? " + "So. " * 5000, session="second")
    await chat_of(collector, 2)
    first, second = collector.chats
    sent = json.loads(first.attributes["gen_ai.input.messages"])
    assert sent[0]["role"] == "user"
    assert sent[0]["parts"][0]["content"].startswith("My sister Lena lives in Oslo.")
    assert "[redacted]" in json.loads(first.attributes["gen_ai.output.messages"])[0]["parts"][0]["content"]
    assert len(json.loads(second.attributes["gen_ai.input.messages"])[0]["parts"][0]["content"]) == 8192
    memories = json.loads(collector.children(second)["search_memory"].attributes["gen_ai.memory.records"])
    assert any("Oslo" in memory["content"] for memory in memories)
    assert SECRET.encode() not in collector.raw


async def test_no_text_is_exported_if_it_cannot_be_redacted(
    tmp_path: Path, upstream: FakeUpstream, collector: Collector
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "closed.py").write_text(CLOSED, encoding="utf-8")
    values = {"otel__enabled": True, "otel__endpoint": collector.url, "otel__content": True}
    async with running_gateway(configuration(tmp_path, upstream.url, plugins=[{"use": "closed"}], **values)) as gateway:
        assert (await gateway.chat("My sister Quintessa lives in Oslo.")).status == 200
        chat = await chat_of(collector)
    assert chat.attributes["gen_ai.usage.output_tokens"] == 5
    assert collector.children(chat)["upsert_memory"].attributes["error.type"] == "plugin"
    assert b"Quintessa" not in collector.raw


async def test_a_variable_that_the_sdk_refuses_stops_the_start(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0")
    with pytest.raises(ConfigError, match="otel: the exporter cannot be set up"):
        async with running_gateway(configuration(tmp_path, upstream.url, otel__enabled=True)):
            raise AssertionError("it started")


async def test_metrics_of_the_conventions_are_exported(gateway: Running, collector: Collector) -> None:
    await gateway.chat("Good morning.")
    await gateway.chat("Good morning again.", stream=True)
    await eventually(lambda: any(name.endswith("first_chunk") for name, *_ in collector.points))
    newest = {(name, values.get("gen_ai.token.type")): (values, total) for name, values, total, _ in collector.points}
    values, total = newest["gen_ai.client.token.usage", "input"]
    assert total >= 7
    assert values["gen_ai.request.model"] == "fake-1"
    assert values["gen_ai.provider.name"] == "fake"
    assert newest["gen_ai.client.operation.duration", None][1] > 0


async def test_names_of_models_in_metrics_are_bounded(gateway: Running, collector: Collector) -> None:
    for number in range(103):
        await gateway.chat("Hello.", model=f"model-{number}", headers={"x-memory-mode": "off"})
    await chat_of(collector, 103)

    def models() -> set[str]:
        return {values["gen_ai.request.model"] for _, values, _, _ in collector.points}

    await eventually(lambda: "other" in models())
    assert len(models()) == 101


@pytest.mark.parametrize("changes", [{"otel__metrics": False, "otel__headers": {"x-api-key": "collector-key"}}])
async def test_metrics_can_be_off_and_the_collector_gets_its_key(gateway: Running, collector: Collector) -> None:
    await gateway.chat("Good morning.")
    await chat_of(collector)
    assert collector.headers[0]["x-api-key"] == "collector-key"
    assert collector.points == []


async def test_the_end_of_the_process_exports_what_waits(
    tmp_path: Path, upstream: FakeUpstream, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "60000")
    values = {"otel__enabled": True, "otel__endpoint": collector.url}
    async with running_gateway(configuration(tmp_path, upstream.url, **values)) as gateway:
        await gateway.chat("Good morning.")
        assert collector.spans == []
    assert len(collector.chats) == 1
    assert collector.points != []


@asynccontextmanager
async def broken_collector(*, is_silent: bool) -> AsyncIterator[str]:
    """A server that never answers, or closes each connection."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        if is_silent:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@pytest.mark.parametrize("is_silent", [False, True])
async def test_a_dead_collector_fails_no_chat_and_is_logged_once(
    tmp_path: Path,
    upstream: FakeUpstream,
    is_silent: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    async with broken_collector(is_silent=is_silent) as url:
        values = {"otel__enabled": True, "otel__endpoint": url}
        async with running_gateway(configuration(tmp_path, upstream.url, **values)) as gateway:
            for _ in range(3):
                failures = gateway.metric("gateway_otel_export_failures_total", signal="spans")
                assert (await gateway.chat("Good morning.")).status == 200

                def has_failed(before: float = failures) -> bool:
                    return gateway.metric("gateway_otel_export_failures_total", signal="spans") > before

                await eventually(has_failed)
    lines = [record for record in caplog.records if record.message == "otel_export_failed"]
    assert len(lines) == 1


async def test_a_silent_collector_delays_the_end_only_by_some_seconds(
    tmp_path: Path, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with broken_collector(is_silent=True) as url:
        values = {"otel__enabled": True, "otel__endpoint": url}
        async with asyncio.timeout(20), running_gateway(configuration(tmp_path, upstream.url, **values)) as gateway:
            await gateway.chat("Good morning.")
    assert any(record.message == "otel_stop_timed_out" for record in caplog.records)


async def start_without_the_extra(
    folder: Path, upstream: FakeUpstream, *, is_enabled: bool, command: str = "serve"
) -> "asyncio.subprocess.Process":
    """A gateway process in which the packages of the extra cannot be imported."""
    (folder / "hidden" / "opentelemetry").mkdir(parents=True)
    (folder / "hidden" / "opentelemetry" / "__init__.py").write_text("")
    await asyncio.to_thread(configuration, folder, upstream.url, otel__enabled=is_enabled)
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "gateway", command, "--config", str(folder / "config.yaml")),
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(folder / "hidden"), str(ROOT)))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


@pytest.mark.parametrize("command", ["serve", "check"])
async def test_without_the_extra_enabling_it_stops_the_start_and_names_it(
    tmp_path: Path, upstream: FakeUpstream, command: str
) -> None:
    process = await start_without_the_extra(tmp_path, upstream, is_enabled=True, command=command)
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 2
    assert b"memory-gateway[otel]" in output
    assert b"Traceback" not in output


async def test_without_the_extra_the_gateway_runs(tmp_path: Path, upstream: FakeUpstream) -> None:
    process = await start_without_the_extra(tmp_path, upstream, is_enabled=False)
    assert process.stdout is not None
    output = b""
    async with asyncio.timeout(60):
        while (match := re.search(rb"http://127\.0\.0\.1:\d+", output)) is None:
            line = await process.stdout.readline()
            assert line, output
            output += line
        async with aiohttp.ClientSession() as session:
            body = {"model": "fake-1", "messages": [{"role": "user", "content": "Hello."}]}
            async with session.post(f"{match[0].decode()}/v1/chat/completions", json=body) as response:
                assert response.status == 200
        process.terminate()
        await process.communicate()
    assert process.returncode == 0
