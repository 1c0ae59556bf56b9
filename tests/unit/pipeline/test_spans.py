import asyncio
import time
from typing import Any

import pytest

from gateway.config import OtelConfig, UpstreamConfig
from gateway.errors import UpstreamFailed
from gateway.formats.base import Answer, Outcome
from gateway.pipeline.spans import TurnSpans
from gateway.pipeline.turn_end import TurnEnd
from gateway.telemetry import Telemetry
from gateway.testing import turn
from gateway.tracing.otel import Tracing
from tests.fakes.collector import ReceivedSpan, running_collector


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


async def exported(upstream: UpstreamConfig, answer: Answer, **end: Any) -> ReceivedSpan:
    """The span of a turn that an upstream answered, as a collector gets it."""
    async with running_collector() as collector:
        tracing = await asyncio.to_thread(Tracing, OtelConfig(enabled=True, endpoint=collector.url), Telemetry())
        spans = TurnSpans(tracing, [upstream], None)
        values = {"status": 200, "ended": time.perf_counter() + 1, "upstream": upstream.name, "model": "m-1", **end}
        spans.end_at_once(spans.begin(turn("Hello.")), answer, TurnEnd(**values))
        await tracing.stop()
        (span,) = collector.spans
        return span


@pytest.mark.parametrize(
    ("values", "provider", "address", "port"),
    [
        ({"base_url": "https://api.openai.com/v1"}, "openai", "api.openai.com", 443),
        ({"base_url": "https://my.openai.azure.com/openai"}, "azure.ai.openai", "my.openai.azure.com", 443),
        ({"kind": "anthropic"}, "anthropic", "api.anthropic.com", 443),
        ({"kind": "anthropic", "base_url": "https://proxy.example.org/v1"}, "anthropic", "proxy.example.org", 443),
        ({"base_url": "http://127.0.0.1:11434/v1"}, "here", "127.0.0.1", 11434),
        ({"base_url": "http://notapi.openai.com.example.org"}, "here", "notapi.openai.com.example.org", 80),
        ({"kind": "any-llm", "provider": "mistral"}, "mistral", None, None),
    ],
)
async def test_the_provider_and_the_address_come_from_the_configuration(
    values: dict[str, Any], provider: str, address: str | None, port: int | None
) -> None:
    attributes = (await exported(UpstreamConfig(name="here", **values), Answer("Hi."))).attributes
    assert attributes["gen_ai.provider.name"] == provider
    assert (attributes.get("server.address"), attributes.get("server.port")) == (address, port)


@pytest.mark.parametrize(
    ("answer", "end", "error"),
    [
        (Answer("Hi."), {}, None),
        (Answer(None, outcome=Outcome.CLIENT_GONE), {}, None),
        (Answer(None, outcome=Outcome.REFUSED), {"status": 429}, "429"),
        (Answer("Hi", outcome=Outcome.CUT), {}, "stream_interrupted"),
        (Answer(None), {"error": UpstreamFailed("no"), "status": 502}, "upstream_error"),
        (Answer(None), {"error": RuntimeError("a secret"), "status": 500}, "RuntimeError"),
    ],
)
async def test_the_type_of_an_error_is_a_code_and_no_message(
    answer: Answer, end: dict[str, Any], error: str | None
) -> None:
    upstream = UpstreamConfig(name="here", base_url="http://127.0.0.1:1/v1")
    assert (await exported(upstream, answer, **end)).attributes.get("error.type") == error


async def test_tokens_of_caches_and_the_cost_are_attributes() -> None:
    answer = Answer("Hi.", prompt_tokens=9, completion_tokens=2, cached_tokens=4, written_tokens=3, cost=0.5)
    upstream = UpstreamConfig(name="here", base_url="http://127.0.0.1:1/v1")
    attributes = (await exported(upstream, answer, attempts=2)).attributes
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 4
    assert attributes["gen_ai.usage.cache_creation.input_tokens"] == 3
    assert attributes["memory_gateway.cost_dollars"] == 0.5
    assert attributes["memory_gateway.attempts"] == 2


async def test_a_fault_of_tracing_fails_no_turn(caplog: pytest.LogCaptureFixture) -> None:
    config = OtelConfig(enabled=True, endpoint="http://127.0.0.1:1", metrics=False)
    tracing = await asyncio.to_thread(Tracing, config, Telemetry())
    spans = TurnSpans(tracing, [], None)
    untraced = spans.begin(turn("Hello.", headers=None))  # a fault: there are no headers to read
    assert untraced.trace is None
    spans.end_at_once(untraced, Answer("Hi."), TurnEnd(status=200, ended=time.perf_counter()))
    await tracing.stop()
    assert [record.message for record in caplog.records if record.name == "gateway.tracing"] == ["trace_failed"]
