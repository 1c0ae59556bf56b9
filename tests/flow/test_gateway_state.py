"""What the gateway consists of, for administrators and without secrets."""

import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream, says

KEYS: list[dict[str, Any]] = [
    {"key": "key-of-admin", "name": "boss", "tenant": "acme", "rights": ["chat", "memory", "admin"]},
    {"key": "key-of-ada", "tenant": "acme", "user": "ada"},
    {"key": "key-of-other", "tenant": "other", "rights": ["admin"]},
]
NAMES = ("config", "keys", "plugins", "upstreams")
PLUGIN = """
    from pydantic import BaseModel, SecretStr
    from gateway.hooks import Plugin

    class Config(BaseModel):
        word: str = "please"
        api_key: str = ""
        seal: SecretStr = SecretStr("")

    class Failing(Plugin):
        Config = Config

        async def on_response(self, turn, answer):
            raise RuntimeError("no")
"""


def key(name: str) -> dict[str, str]:
    return {"x-gateway-key": f"key-of-{name}"}


async def shown(gateway: Running, name: str, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    reply = await gateway.get(f"/v1/gateway/{name}", headers)
    assert (reply.status, reply.json["object"]) == (200, "list"), reply.body
    entries: list[dict[str, Any]] = reply.json["data"]
    return entries


async def test_the_configuration_is_shown_with_its_defaults(gateway: Running) -> None:
    entries = {entry["path"]: entry for entry in await shown(gateway, "config")}
    deadline = entries["memory.recall.deadline_ms"]
    assert set(deadline) == {"path", "value", "default", "is_default", "description"}
    assert (deadline["value"], deadline["is_default"]) == (5000, False)
    assert (entries["console.turns"]["value"], entries["console.turns"]["is_default"]) == (10_000, True)


async def test_keys_of_the_own_tenant_are_listed_without_their_values(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url, auth__keys=KEYS)) as gateway:
        assert await shown(gateway, "keys", key("admin")) == [
            {"name": "boss", "tenant": "acme", "user": None, "rights": ["admin", "chat", "memory", "public"]},
            {"name": "key-2", "tenant": "acme", "user": "ada", "rights": ["chat", "memory"]},
        ]
        assert [entry["name"] for entry in await shown(gateway, "keys", key("other"))] == ["key-3"]
        for name in ("admin", "other"):
            for route in NAMES:
                assert b"key-of-" not in (await gateway.get(f"/v1/gateway/{route}", key(name))).body
        names = [entry["value"] for entry in await shown(gateway, "config", key("other")) if ".tenant" in entry["path"]]
        assert names == ["other"]


async def test_only_administrators_are_shown_anything(tmp_path: Path, upstream: FakeUpstream) -> None:
    async with running_gateway(configuration(tmp_path, upstream.url, auth__keys=KEYS)) as gateway:
        for name in NAMES:
            assert (await gateway.get(f"/v1/gateway/{name}", key("ada"))).status == 403
            assert (await gateway.get(f"/v1/gateway/{name}")).status == 401
        assert (await gateway.get("/v1/gateway/more", key("admin"))).status == 404
        assert (await gateway.post("/v1/gateway/keys", {}, key("admin"))).status == 405
        assert not upstream.received


async def test_without_keys_there_are_none(gateway: Running) -> None:
    assert await shown(gateway, "keys") == []
    assert await shown(gateway, "plugins") == []


async def test_plugins_are_shown_with_hooks_settings_and_failures(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUGIN_WORD", "from-outside")
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "failing.py").write_text(textwrap.dedent(PLUGIN), "utf-8")
    settings = {"word": "${PLUGIN_WORD}", "api_key": "secret-1", "seal": "secret-2"}
    plugins = [{"use": "redact", "enabled": False}, {"use": "failing", "config": settings}]
    async with running_gateway(configuration(tmp_path, upstream.url, plugins=plugins)) as gateway:
        for _ in range(2):
            await gateway.chat("hi")
        await gateway.finished()
        (plugin,) = await shown(gateway, "plugins")
        config = (await gateway.get("/v1/gateway/config")).body
    assert plugin == {
        "name": "failing",
        "hooks": ["on_response"],
        "settings": {"word": "•••", "api_key": "•••", "seal": "•••"},
        "failures": 2,
    }
    assert b"secret-" not in config


async def test_upstreams_are_shown_with_their_breakers(gateway: Running, upstream: FakeUpstream) -> None:
    (entry,) = await shown(gateway, "upstreams")
    assert entry == {"name": "fake", "kind": "openai", "models": ["*"], "is_open": False, "failures": 0}
    upstream.script = says(500, {"error": {"message": "no"}})
    for _ in range(5):
        await gateway.chat("hi")
    (entry,) = await shown(gateway, "upstreams")
    assert (entry["is_open"], entry["failures"]) == (True, 5)
