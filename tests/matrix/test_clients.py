"""Real client packages against the gateway, each with memory, streams, tools, schemas, pictures and an error; before an
upstream that speaks OpenAI's formats, and before one that speaks Anthropic's."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.assistant import KNOWN, PICTURE, assistant
from tests.fakes.clients import run_client
from tests.fakes.running import configuration, running_gateway
from tests.fakes.upstream import running_upstream

SAID = "Understood, and noted."
EXPECTED: dict[str, Any] = {
    "told": SAID,
    "streamed": SAID,
    "tools": "The tool says: sunny in Lisbon",
    "schema": KNOWN,
    "picture": "I see a picture.",
    "missing": 404,
    "asked": SAID,
}


@dataclass(frozen=True)
class Client:
    """A script of a client in an environment. `kind` is its third argument. `is_stateless` if every upstream will do:
    OpenAI's responses are not translated."""

    environment: str
    script: str
    kind: str = ""

    @property
    def is_translated(self) -> bool:
        return "responses" not in (self.kind, self.script.removesuffix(".py").rpartition("_")[2])

    def __str__(self) -> str:
        return f"{Path(self.script).stem}-{self.kind}".strip("-")


CLIENTS = [
    Client("openai", "matrix/openai_python.py"),
    Client("openai", "matrix/openai_python_responses.py"),
    Client("anthropic", "matrix/anthropic_python.py"),
    Client("frameworks", "matrix/use_langchain.py"),
    Client("frameworks", "matrix/use_pydantic_ai.py"),
    Client("frameworks", "matrix/use_instructor.py"),
    Client("frameworks", "matrix/use_agents.py", "chat"),
    Client("frameworks", "matrix/use_agents.py", "responses"),
    Client("frameworks", "matrix/use_llm.py"),
    Client("llama-index", "matrix/use_llama_index.py"),
    Client("node", "node/use_openai.mjs", "chat"),
    Client("node", "node/use_openai.mjs", "responses"),
    Client("node", "node/use_anthropic.mjs"),
    Client("node", "node/use_ai_sdk.mjs", "chat"),
    Client("node", "node/use_ai_sdk.mjs", "responses"),
    Client("node", "node/use_ai_sdk.mjs", "compatible"),
    Client("node", "node/use_ai_sdk.mjs", "anthropic"),
]


@pytest.mark.parametrize("client", CLIENTS, ids=str)
async def test_a_client_works_unmodified_and_is_remembered(client: Client, tmp_path: Path) -> None:
    kinds = ("openai", "anthropic") if client.is_translated else ("openai",)
    await asyncio.gather(*(tried(client, kind, tmp_path / kind) for kind in kinds))


async def tried(client: Client, kind: str, folder: Path) -> None:
    """One client before an upstream of one kind."""
    folder.mkdir()
    async with running_upstream() as upstream:
        upstream.script = assistant
        one = {"name": "up", "kind": kind, "base_url": upstream.url, "api_key": "sk-of-the-upstream"}
        async with running_gateway(configuration(folder, upstream.url, upstreams=[one])) as gateway:
            arguments = (f"{gateway.url}/v1", PICTURE, client.kind)
            found = json.loads(await run_client(client.environment, client.script, *arguments, folder=folder))
        streamed = KNOWN if client.script.endswith("use_instructor.py") else SAID
        assert found == {**EXPECTED, "streamed": streamed}, kind
        asked = upstream.last.body.decode()
        assert "user_memory" in asked
        assert "My cat is called Miso." in asked
