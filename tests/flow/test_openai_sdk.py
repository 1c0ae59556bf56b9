"""The real `openai` package against the gateway, in an environment of its own."""

import json
from pathlib import Path
from typing import Any

from tests.fakes.clients import run_client
from tests.fakes.formats import speaks_responses
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream, chunk, cuts_after, says


async def sdk(gateway: Running, folder: Path, mode: str, text: str) -> Any:
    return json.loads(await run_client("openai", "openai_chat.py", f"{gateway.url}/v1", mode, text, folder=folder))


async def test_a_fact_told_to_the_sdk_comes_back_after_a_restart(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url)
    async with running_gateway(config) as gateway:
        told = await sdk(gateway, tmp_path, "plain", "My sister Ines studies law in Porto.")
        assert told == {"text": "Understood.", "status": "miss"}
    async with running_gateway(config) as gateway:
        await gateway.settled()
        asked = await sdk(gateway, tmp_path, "stream", "Where does my sister study?")
        assert asked["text"] == "Understood."
        assert asked["chunks"] > 1
    assert "My sister Ines studies law in Porto." in upstream.last.json["messages"][-1]["content"]


async def test_the_sdk_raises_on_a_cut_stream(gateway: Running, upstream: FakeUpstream, tmp_path: Path) -> None:
    upstream.script = cuts_after([chunk({"content": "half"})])
    result = await sdk(gateway, tmp_path, "stream", "hi")
    assert result["error"] == "APIError"
    assert "broke off" in result["message"]


async def test_the_sdk_understands_our_errors(gateway: Running, upstream: FakeUpstream, tmp_path: Path) -> None:
    upstream.script = says(502, b"<html>", "text/html")
    result = await sdk(gateway, tmp_path, "plain", "hi")
    assert result["error"] == "InternalServerError"
    assert result["code"] == "upstream_error"


async def test_the_sdk_reads_embeddings_and_models(gateway: Running, upstream: FakeUpstream, tmp_path: Path) -> None:
    assert (await sdk(gateway, tmp_path, "models", ""))["models"] == ["fake-1", "default"]
    data = [{"object": "embedding", "index": 0, "embedding": "AACAPwAAAEA="}]
    upstream.script = says(200, {"object": "list", "data": data, "model": "e", "usage": {}})
    assert await sdk(gateway, tmp_path, "embeddings", "text") == {"vector": [1.0, 2.0]}
    assert upstream.last.json["encoding_format"] == "base64"


async def test_a_fact_told_to_responses_of_the_sdk_comes_back(
    gateway: Running, upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.script = speaks_responses("Noted.")
    told = await sdk(gateway, tmp_path, "responses", "My sister Ines studies law in Porto.")
    assert told == {"text": "Noted.", "status": "miss"}
    await gateway.settled()
    asked = await sdk(gateway, tmp_path, "responses stream", "Where does my sister study?")
    assert (asked["text"], asked["kinds"][-1]) == ("Noted.", "response.completed")
    assert "My sister Ines studies law in Porto." in upstream.last.json["input"]
