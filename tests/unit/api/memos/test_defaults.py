from pathlib import Path

import pytest

from gateway.api.memos.defaults import DEFAULT_CONFIG, ENVIRONMENT, ChatDefaults, Defaults
from gateway.errors import BadRequest, ConfigError
from gateway.storage.sqlite.registry import SqliteRegistry


async def test_the_environment_comes_after_the_page_and_before_what_was_configured(tmp_path: Path) -> None:
    registry = SqliteRegistry(tmp_path / "r.sqlite")
    await registry.open()
    values = {
        "MOS_CHAT_MODEL": "m1",
        "MOS_CHAT_TEMPERATURE": "0.2",
        "MOS_TOP_P": "",
        "ENABLE_PREFERENCE_MEMORY": "false",
    }
    defaults = Defaults(registry, values)
    found = await defaults.of("acme")
    assert (found.model, found.temperature, found.top_p, found.include_preference) == ("m1", 0.2, 0.95, False)
    await defaults.change("acme", {"model": "m2", "top_k": 3})
    assert (await Defaults(registry, values).of("acme")).model == "m2"
    assert (await defaults.of("rival")).model == "m1"
    await defaults.change("acme", {"model": None})
    assert (await defaults.of("acme")).model == "m1"
    assert (await defaults.of("acme")).top_k == 3
    await registry.close()


async def test_a_change_that_cannot_be_is_refused_by_name(tmp_path: Path) -> None:
    registry = SqliteRegistry(tmp_path / "r.sqlite")
    await registry.open()
    defaults = Defaults(registry, {})
    for changes, name in (({"temperature": 3}, "temperature"), ({"secret": 1}, "secret"), ({}, "model"), (7, "model")):
        with pytest.raises(BadRequest, match=name):
            await defaults.change("acme", changes)
    assert await defaults.of("acme") == DEFAULT_CONFIG
    await registry.close()


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_each_name_of_the_environment_is_a_default_and_is_checked(tmp_path: Path, name: str) -> None:
    assert ENVIRONMENT[name] in ChatDefaults.model_fields
    if name != "MOS_CHAT_MODEL":
        with pytest.raises(ConfigError, match=name):
            Defaults(SqliteRegistry(tmp_path / "r.sqlite"), {name: "nonsense"})
