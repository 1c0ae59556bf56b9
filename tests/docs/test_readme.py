"""The README is compared with the code: what it promises has a test, what can be set is described."""

import ast
import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from gateway import errors
from gateway.config import Config, KeyConfig, PluginConfig, UpstreamConfig, load
from gateway.hooks import HOOKS
from gateway.telemetry import Telemetry
from tests.fakes.running import configuration, running_gateway
from tests.fakes.upstream import FakeUpstream

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LISTS: dict[str, type[BaseModel]] = {"auth.keys": KeyConfig, "upstreams": UpstreamConfig, "plugins": PluginConfig}


def keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            found += keys(type(default), f"{prefix}{name}.")
            continue
        found.append(prefix + name)
        if prefix + name in LISTS:
            found += keys(LISTS[prefix + name], f"{prefix}{name}[].")
    return found


@pytest.mark.parametrize("key", keys(Config))
def test_every_key_is_described_and_stands_in_the_shipped_file(key: str) -> None:
    assert f"| `{key}` |" in README
    last = key.rpartition(".")[2]
    assert re.search(rf"\b{last}:", (ROOT / "config.yaml").read_text(encoding="utf-8")), key


def test_every_metric_is_described() -> None:
    for family in Telemetry().registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        assert f"`{name}`" in README


def test_every_hook_is_described_with_its_arguments() -> None:
    import inspect

    from gateway.hooks import Plugin

    for hook in HOOKS:
        arguments = [name for name in inspect.signature(getattr(Plugin, hook)).parameters if name != "self"]
        assert f"| `{hook}({', '.join(arguments)})` |" in README


def test_every_error_code_is_described() -> None:
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.GatewayError) and kind.code:
            assert f"`{kind.code}`" in README
    for file in (ROOT / "gateway").rglob("*.py"):
        for code in re.findall(r'code="([a-z_]+)"', file.read_text(encoding="utf-8")):
            if code not in ("http_error", "rejected"):
                assert f"`{code}`" in README, code


def test_every_header_of_ours_is_described() -> None:
    for file in (ROOT / "gateway").rglob("*.py"):
        for header in re.findall(r'"(x-(?:memory|gateway)-[a-z-]+)"', file.read_text(encoding="utf-8")):
            assert f"`{header}`" in README, header


AGENTS = {  # the packages of the platform that stand behind their names
    "@anthropic-ai/claude-code": "@anthropic-ai/claude-code-linux-x64",
    "@mariozechner/pi-coding-agent": "@mariozechner/pi-coding-agent",
    "@openai/codex": "@openai/codex",
    "@qwen-code/qwen-code": "@qwen-code/qwen-code",
    "cline": "@cline/cli-linux-x64",
    "opencode-ai": "opencode-linux-x64",
}


def installed(client: str, is_javascript: bool) -> set[str]:
    """The versions of a client package that the lock files have."""
    folder = ROOT / "tests" / "clients"
    if client in AGENTS:
        packages = json.loads((folder / "agents" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
        return {packages[f"node_modules/{AGENTS[client]}"]["version"]}
    if is_javascript:
        packages = json.loads((folder / "node" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
        return {packages[f"node_modules/{client}"]["version"]}
    locks = "\n".join(file.read_text(encoding="utf-8") for file in folder.glob("*.lock"))
    return set(re.findall(rf"^{re.escape(client)}==(\S+)", locks, re.MULTILINE | re.IGNORECASE))


def test_the_clients_were_run_in_the_versions_that_are_told() -> None:
    rows = re.findall(r"^\| `([^`]+)`( \(JavaScript\))?(?: \(Python\))? \| (\d[\w.]+) \|", README, re.MULTILINE)
    javascript = {"ai", "@anthropic-ai/sdk", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "@ai-sdk/anthropic"}
    assert len(rows) == 21
    assert {client for client, _, _ in rows} >= AGENTS.keys()
    for client, is_javascript, version in rows:
        assert version in installed(client, bool(is_javascript) or client in javascript), client


def test_every_promise_has_its_test() -> None:
    promised = set(re.findall(r"`(test_[a-z0-9_]+)`", README))
    defined = {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert promised
    assert promised <= defined, promised - defined


async def test_the_plugin_of_the_readme_works(tmp_path: Path, upstream: FakeUpstream) -> None:
    source = re.search(r"```python\n(from gateway\.hooks.*?)```", README, re.DOTALL)
    assert source is not None
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "curfew.py").write_text(source.group(1))
    plugin = {"use": "curfew", "on_failure": "closed", "config": {"forbidden": ["war"], "secret": ["surprise party"]}}
    async with running_gateway(configuration(tmp_path, upstream.url, plugins=[plugin])) as gateway:
        refused = await gateway.chat("Tell me about the war")
        assert (refused.status, refused.error["message"]) == (403, "this is not talked about here")
        await gateway.chat("The surprise party is on Friday", session="one")
        await gateway.chat("The dentist is on Monday", session="one")
        await gateway.settled()
        found = await gateway.post("/product/search", {"user_id": "ada", "query": "Friday Monday", "relativity": 0})
        assert "dentist" in found.body.decode()
        assert "surprise" not in found.body.decode()


@pytest.mark.parametrize(
    "snippet", [text for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "upstreams:" in text]
)
def test_the_upstreams_of_the_readme_are_a_configuration(tmp_path: Path, snippet: str) -> None:
    (tmp_path / "config.yaml").write_text(snippet, encoding="utf-8")
    assert load(tmp_path / "config.yaml").upstreams != "auto"
