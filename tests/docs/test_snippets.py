"""Code in the documentation works: it is run, parsed or loaded."""

import ast
import asyncio
import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from gateway.cli.main import build_parser
from gateway.config import load
from gateway.evaluate.conversations import read as read_conversations
from gateway.memory.filters import parse_filter
from tests.docs.markdown import PAGES, ROOT, blocks, read, shell_commands
from tests.docs.reference.configuration import keys as configuration_keys
from tests.fakes.running import configuration, running_gateway
from tests.fakes.upstream import FakeUpstream

DOCS = ROOT / "docs"
SNIPPETS = [(page.relative_to(ROOT).as_posix(), text) for page in PAGES for text in blocks(page, "yaml")]
CHINESE = {
    "README.zh.md": "README.md",
    "docs/zh/quickstart.md": "docs/quickstart.md",
    "docs/zh/memos.md": "docs/guides/memos.md",
}


async def run(*words: str, folder: Path, **environment: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=folder,
        env={**os.environ, "NO_PROXY": "127.0.0.1", "MEMOS_BASE_PATH": str(folder), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, output.decode()[-2000:]
    return output.decode()


async def test_the_plugin_of_the_guide_works(tmp_path: Path, upstream: FakeUpstream) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "curfew.py").write_text(blocks(DOCS / "guides" / "plugins.md", "python")[0])
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


async def test_the_tests_of_the_plugin_guide_pass(tmp_path: Path) -> None:
    source, _, tests = blocks(DOCS / "guides" / "plugins.md", "python")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "__init__.py").touch()
    (tmp_path / "plugins" / "curfew.py").write_text(source)
    (tmp_path / "test_curfew.py").write_text(tests)
    words = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path))
    output = await run(*words, folder=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert "3 passed" in output


async def test_the_plugin_of_the_guide_that_counts_refuses_the_hundred_and_first_chat(tmp_path: Path) -> None:
    _, source, _ = blocks(DOCS / "guides" / "plugins.md", "python")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "daily.py").write_text(source)
    changes = {"upstreams": [{"name": "offline", "kind": "offline"}], "plugins": [{"use": "daily"}]}
    async with running_gateway(configuration(tmp_path, "http://127.0.0.1:1", **changes)) as gateway:
        statuses = [(await gateway.chat("hi")).status for _ in range(101)]
    assert statuses == [200] * 100 + [429]


async def test_the_quickstart_remembers(tmp_path: Path) -> None:
    (source,) = blocks(DOCS / "quickstart.md", "python")
    config = configuration(tmp_path, "http://127.0.0.1:1", upstreams=[{"name": "offline", "kind": "offline"}])
    async with running_gateway(config) as gateway:
        script = source.replace("http://127.0.0.1:8080", gateway.url)
        output = await run(str(ROOT / ".venvs/openai/bin/python"), "-c", script, folder=tmp_path)
    assert "My cat is called Miso." in output.split("\n", 1)[1]


async def test_the_memos_guide_remembers(tmp_path: Path) -> None:
    (source,) = blocks(DOCS / "guides" / "memos.md", "python")
    config = configuration(tmp_path, "http://127.0.0.1:1", upstreams=[{"name": "offline", "kind": "offline"}])
    async with running_gateway(config) as gateway:
        script = source.replace("http://127.0.0.1:8080", gateway.url)
        python = str(ROOT / ".venvs/memos/bin/python")
        assert "peanuts" in await run(python, "-c", script, folder=tmp_path, HF_HUB_OFFLINE="1")


async def test_the_anthropic_guide_works(tmp_path: Path) -> None:
    (source,) = blocks(DOCS / "guides" / "anthropic-and-claude-code.md", "python")
    config = configuration(tmp_path, "http://127.0.0.1:1", upstreams=[{"name": "offline", "kind": "offline"}])
    async with running_gateway(config) as gateway:
        script = source.replace("http://127.0.0.1:8080", gateway.url)
        assert "stand-in" in await run(str(ROOT / ".venvs/anthropic/bin/python"), "-c", script, folder=tmp_path)


async def test_the_commands_of_the_memory_guide_work(tmp_path: Path, upstream: FakeUpstream) -> None:
    *scripts, self_service = blocks(DOCS / "guides" / "memory-api.md", "sh")
    async with running_gateway(configuration(tmp_path, upstream.url)) as gateway:
        output = await run_shell("".join(scripts), gateway.url, tmp_path)
        for text in ('"relativity"', '"versions":1', '"edit_of":null', '"first"', '"preview":true', '"preview":false'):
            assert text in output, output
        assert (await gateway.get("/v1/memory/list?user=ada")).json["total"] == 0
    (tmp_path / "ada").mkdir()
    keys = [{"key": "the key of ada", "user": "ada", "rights": ["memory"]}]
    async with running_gateway(configuration(tmp_path / "ada", upstream.url, auth__keys=keys)) as gateway:
        output = await run_shell(self_service, gateway.url, tmp_path, ADA_KEY="the key of ada")
        assert output.endswith('{"deleted":0,"purged":true}')


async def run_shell(script: str, url: str, folder: Path, **environment: str) -> str:
    """The output of the commands of a page, all of which must succeed."""
    script = script.replace("http://127.0.0.1:8080", url).replace("curl -s ", "curl -sSf ")
    return await run("bash", "-euo", "pipefail", "-c", script, folder=folder, **environment)


@pytest.mark.parametrize(("page", "snippet"), SNIPPETS, ids=[name for name, _ in SNIPPETS])
def test_yaml_in_the_documentation_is_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, snippet: str
) -> None:
    for name in re.findall(r"\$\{([A-Z_]+)\}", snippet):  # variables without a default
        monkeypatch.setenv(name, "postgresql://database" if name == "DATABASE_URL" else f"the value of {name}")
    (tmp_path / "config.yaml").write_text(snippet, encoding="utf-8")
    config = load(tmp_path / "config.yaml")
    assert config.upstreams != "auto" or "upstreams:" not in snippet


def test_python_in_the_documentation_can_be_parsed() -> None:
    for page in PAGES:
        for text in blocks(page, "python"):
            ast.parse(text)


def test_commands_in_the_documentation_are_accepted() -> None:
    commands = [command for page in PAGES for command in shell_commands(page)]
    assert len(commands) > 10
    for command in commands:
        build_parser().parse_args(shlex.split(command)[1:])


def test_keys_in_the_documentation_exist() -> None:
    keys = {key.replace("[]", "") for key in configuration_keys()}
    sections = {key.rpartition(".")[0] for key in keys}
    removed = {"memory.retention.condense_over", "memory.recall.gate"}  # the changelog says so
    for page in PAGES:
        for name in re.findall(
            r"`((?:server|auth|upstreams|models|memory|limits|usage|log|otel|plugins)(?:\[\])?\.[a-z_.\[\]]+)`",
            read(page),
        ):
            if name.endswith(".sqlite"):
                continue
            assert name.replace("[]", "").rstrip(".") in keys | sections | removed, (page.name, name)


def test_the_filter_of_the_memos_guide_is_valid() -> None:
    (source,) = blocks(DOCS / "guides" / "memos.md", "json")
    parse_filter(json.loads(source))


def test_the_conversations_of_the_evaluation_guide_can_be_read(tmp_path: Path) -> None:
    (source,) = blocks(DOCS / "guides" / "evaluation.md", "json")
    (tmp_path / "mine.json").write_text(source, encoding="utf-8")
    assert read_conversations(tmp_path / "mine.json").users


@pytest.mark.parametrize(("chinese", "english"), CHINESE.items())
def test_the_code_of_the_chinese_pages_is_that_of_the_english_ones(chinese: str, english: str) -> None:
    for language in ("python", "sh", "yaml", "json"):
        assert blocks(ROOT / chinese, language) == blocks(ROOT / english, language)
    assert read(ROOT / chinese).count("\n## ") == read(ROOT / english).count("\n## ")
