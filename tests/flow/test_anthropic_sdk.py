"""The real `anthropic` package against the gateway, in an environment of its own, over both kinds of upstream."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clients import run_client
from tests.fakes.formats import message_events, speaks_messages
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import DONE, FakeUpstream, chunk, completion, cuts_after, says, streams

FACT, QUESTION = "My sister Ines studies law in Porto.", "Where does my sister study?"


async def sdk(gateway: Running, folder: Path, mode: str, text: str) -> Any:
    return json.loads(await run_client("anthropic", "anthropic_messages.py", gateway.url, mode, text, folder=folder))


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
async def test_a_fact_told_to_the_anthropic_sdk_comes_back(tmp_path: Path, upstream: FakeUpstream, kind: str) -> None:
    if kind == "anthropic":
        upstream.script = speaks_messages()
    one = {"name": "up", "kind": kind, "base_url": upstream.url}
    async with running_gateway(configuration(tmp_path, upstream.url, upstreams=[one])) as gateway:
        told = await sdk(gateway, tmp_path, "plain", FACT)
        assert told == {"status": "miss", "text": "Understood.", "calls": [], "stop": "end_turn", "tokens": 5}
        await gateway.settled()
        asked = await sdk(gateway, tmp_path, "stream", QUESTION)
        assert (asked["text"], asked["stop"]) == ("Understood.", "end_turn")
        assert FACT in upstream.last.body.decode()
        assert (await sdk(gateway, tmp_path, "count", QUESTION))["tokens"] > 3


@pytest.mark.parametrize("mode", ["plain", "stream"])
async def test_tools_called_over_an_openai_upstream_reach_the_anthropic_sdk(
    gateway: Running, upstream: FakeUpstream, tmp_path: Path, mode: str
) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"where": "up"}'}}
    whole = completion(None, tool_calls=[call])
    whole["choices"][0]["finish_reason"] = "tool_calls"
    grown = [chunk({"tool_calls": [{"index": 0, **call}]}), chunk({}, "tool_calls"), DONE]
    upstream.script = streams(grown) if mode == "stream" else says(200, whole)
    result = await sdk(gateway, tmp_path, mode, "Look up!")
    assert (result["calls"], result["stop"]) == ([["look", {"where": "up"}]], "tool_use")
    assert upstream.last.json["tools"][0]["function"]["name"] == "look"


async def test_the_anthropic_sdk_raises_on_errors_and_cuts(tmp_path: Path, upstream: FakeUpstream) -> None:
    one = {"name": "up", "kind": "anthropic", "base_url": upstream.url}
    async with running_gateway(configuration(tmp_path, upstream.url, upstreams=[one])) as gateway:
        upstream.script = says(429, {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}})
        assert (await sdk(gateway, tmp_path, "plain", "hi"))["error"] == "RateLimitError"
        upstream.script = cuts_after(message_events("half of it")[:4])
        cut = await sdk(gateway, tmp_path, "stream", "hi")
        assert "broke off" in cut["message"]
