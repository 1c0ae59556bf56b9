import os
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from pydantic import BaseModel, PostgresDsn, SecretStr

from gateway.config import Config, load
from gateway.config.numbers import FromEnvironment
from gateway.config.shown import MASK, ShownSetting, shown_settings, shown_values

CONFIG = {
    "auth": {
        "keys": [
            {"key": "secret-of-acme", "name": "app", "tenant": "acme", "rights": ["memory", "chat"]},
            {"key": "secret-of-other", "name": "theirs", "tenant": "other", "user": "victim"},
        ]
    },
    "upstreams": [
        {
            "name": "up",
            "base_url": "http://models.example/v1",
            "api_key": "secret-of-upstream",
            "headers": {"x-more": "secret-in-header"},
            "query": {"sig": "secret-in-query"},
            "proxy": "http://user:secret-of-proxy@proxy.example:3128",
        }
    ],
    "memory": {"recall": {"top_k": 3}},
    "usage": {"prices": {"m-*": {"prompt": 1, "completion": 2}}},
    "plugins": [{"use": "audit", "config": {"path": "secret-of-plugin"}}],
}


def settings(folder: Path, tenant: str = "acme") -> dict[str, ShownSetting]:
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(CONFIG), "utf-8")
    return {setting.path: setting for setting in shown_settings(load(file), tenant)}


def test_each_key_has_its_value_default_and_description(tmp_path: Path) -> None:
    shown = settings(tmp_path)
    top_k = shown["memory.recall.top_k"]
    assert (top_k.value, top_k.default == 3, top_k.is_default) == (3, False, False)
    assert top_k.description
    budget = shown["memory.recall.token_budget"]
    assert (budget.value, budget.is_default) == (budget.default, True)
    assert shown["usage.prices"].value == {"m-*": {"prompt": 1, "completion": 2, "cached": None, "written": None}}
    assert shown["auth.keys[0].rights"].value == ["chat", "memory"]
    assert (shown["upstreams[0].name"].value, shown["upstreams[0].name"].default) == ("up", None)


def test_no_secret_and_nothing_of_another_tenant_is_shown(tmp_path: Path) -> None:
    shown = settings(tmp_path)
    text = orjson.dumps([setting.value for setting in shown.values()]).decode()
    assert "secret" not in text
    assert "victim" not in text
    assert "theirs" not in text
    for path in ("auth.keys[0].key", "upstreams[0].api_key", "upstreams[0].proxy"):
        assert shown[path].value == MASK, path
    assert (shown["upstreams[0].headers"].value, shown["upstreams[0].query"].value) == ({"x-more": MASK}, {"sig": MASK})
    assert next(path for path in settings(tmp_path, "other") if path.startswith("auth.keys")) == "auth.keys[1].key"


def test_everything_can_be_written_as_json_by_default() -> None:
    shown = list(shown_settings(Config(), "default"))
    assert orjson.dumps([setting.value for setting in shown] + [setting.default for setting in shown])
    assert all(setting.is_default for setting in shown)
    assert len({setting.path for setting in shown}) == len(shown) > 60


class Inner(BaseModel):
    token: str = "secret-1"
    limit: int = 3


class Settings(BaseModel):
    api_key: str = "secret-2"
    typed: SecretStr = SecretStr("secret-3")
    plain: str = "plain"
    from_environment: str = "secret-4"
    inner: Inner = Inner()
    table: dict[str, Any] = {"password": "secret-5", "tokens_per_minute": 7, "words": ["a", "secret-4"]}
    tokens: list[str] = ["secret-6"]
    names: frozenset[str] = frozenset(("b", "a"))


def test_the_secrets_of_a_plugin_are_recognised_by_type_name_and_origin() -> None:
    raw = {"deep": [{"x": FromEnvironment("secret-4")}], "plain": "plain"}
    shown = shown_values(Settings(), raw)
    assert shown == {
        "api_key": MASK,
        "typed": MASK,
        "plain": "plain",
        "from_environment": MASK,
        "inner": {"token": MASK, "limit": 3},
        "table": {"password": MASK, "tokens_per_minute": 7, "words": ["a", MASK]},
        "tokens": [MASK],
        "names": ["a", "b"],
    }


class Others(BaseModel):
    apikey: str = "secret-1"
    apiKey: str = "secret-2"  # noqa: N815 — a name that people write
    token_for_hooks: str = "secret-3"
    db_pass: str = "secret-4"
    signing_key_hex: bytes = b"secret-5"
    database: PostgresDsn = PostgresDsn("postgresql://app:secret-6@db.example/memories")
    proxy: str = "http://app:secret-7@proxy.example:3128"
    headers: dict[str, str] = {"x-api-key": "secret-8", "Cookie": "a=secret-9", "accept": "text/plain"}
    passage: str = "a passage"
    monkey: str = "a monkey"


def test_secrets_under_other_names_and_in_addresses_are_masked_too() -> None:
    shown = shown_values(Others(), {})
    assert "secret" not in orjson.dumps(shown).decode()
    assert shown["database"] == f"postgresql://{MASK}@db.example/memories"
    assert shown["proxy"] == f"http://{MASK}@proxy.example:3128"
    assert (shown["headers"]["accept"], shown["passage"], shown["monkey"]) == ("text/plain", "a passage", "a monkey")


def test_a_value_from_the_environment_is_recognised_in_a_loaded_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "PLUGIN_WORD", "from-outside")
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"plugins": [{"use": "audit", "config": {"plain": "${PLUGIN_WORD}"}}]}), "utf-8")
    (plugin,) = load(file).plugins
    assert shown_values(Settings(plain="from-outside"), plugin.config)["plain"] == MASK
