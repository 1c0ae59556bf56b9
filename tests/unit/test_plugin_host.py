from pathlib import Path
from types import MappingProxyType

import orjson
import pytest

from gateway.config import PluginConfig
from gateway.errors import ConfigError
from gateway.frozen_json import freeze, thaw
from gateway.plugin_host import PluginHost, load_plugins
from gateway.storage.counters import SharedCounters
from gateway.telemetry import Telemetry

GOOD = "from gateway.hooks import Plugin\nclass A(Plugin):\n    async def on_request(self, turn): ...\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = (", "cannot be imported"),
        ("import os", "expected one class"),
        (GOOD + GOOD.replace("class A", "class B"), "found 2"),
        (GOOD.replace("on_request", "on_reqest"), "is no hook"),
        (GOOD.replace("self, turn", "self, turn, more"), "must be on_request"),
        (GOOD.replace("async ", ""), "must be `async def`"),
        (GOOD + "    def __init__(self, config): raise ValueError('no')\n", "cannot be created"),
    ],
)
def test_a_plugin_that_cannot_be_used_stops_the_start(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(ConfigError) as caught:
        load_plugins([PluginConfig(use="mine")], [tmp_path])
    assert str(caught.value).startswith("plugins[0].use: ")
    assert message in str(caught.value)


def test_an_unknown_plugin_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GOOD)
    with pytest.raises(ConfigError, match="there is no plugin 'yours'; there are: mine"):
        load_plugins([PluginConfig(use="yours")], [tmp_path])


def test_a_bad_setting_is_named_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"plugins\[0\]\.config\.colour"):
        load_plugins([PluginConfig(use="mine", config={"colour": "red"})], [tmp_path])


def test_what_is_switched_off_is_not_loaded(tmp_path: Path) -> None:
    assert load_plugins([PluginConfig(use="nowhere", enabled=False)], [tmp_path]) == []


def test_an_installed_module_and_class_can_be_named() -> None:
    (loaded,) = load_plugins([PluginConfig(use="plugins.redact:Redact")], [])
    assert loaded.is_closed
    assert loaded.hooks == {"on_store"}


def test_frozen_json_cannot_be_written_to_and_thaws() -> None:
    frozen = freeze({"a": [{"b": 1}]})
    assert isinstance(frozen, MappingProxyType)
    assert isinstance(frozen["a"], tuple)
    assert orjson.dumps(frozen, default=thaw) == b'{"a":[{"b":1}]}'


FUTURE = """from __future__ import annotations
from dataclasses import dataclass
from typing import Literal
from gateway.hooks import Plugin, PluginConfigModel

@dataclass
class Stamp:
    text: str

class Stamped(Plugin):
    class Config(PluginConfigModel):
        kind: Literal["a", "b"] = "a"
        stamp: Stamp = Stamp("x")
    config: Config
    async def on_request(self, turn): ...
"""


def test_annotations_may_be_strings(tmp_path: Path) -> None:
    (tmp_path / "stamped.py").write_text(FUTURE)
    (loaded,) = load_plugins([PluginConfig(use="stamped", config={"kind": "b"})], [tmp_path])
    assert loaded.plugin.config.kind == "b"
    with pytest.raises(ConfigError, match=r"plugins\[0\]\.config\.kind"):
        load_plugins([PluginConfig(use="stamped", config={"kind": "c"})], [tmp_path])


@pytest.mark.parametrize(
    "config",
    ["    class Config(PluginConfigModel):\n        x: Nowhere = None\n", "    Config = dict\n", "    Config = None\n"],
)
def test_a_config_that_cannot_be_built_stops_the_start_in_words(tmp_path: Path, config: str) -> None:
    head = "from __future__ import annotations\nfrom gateway.hooks import Plugin, PluginConfigModel\n"
    (tmp_path / "mine.py").write_text(f"{head}class Mine(Plugin):\n{config}    async def on_request(self, turn): ...\n")
    with pytest.raises(ConfigError, match=r"plugins\[0\]\.use: the Config of mine cannot be used"):
        load_plugins([PluginConfig(use="mine")], [tmp_path])


def test_a_module_that_ends_the_process_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("raise SystemExit(3)")
    with pytest.raises(ConfigError, match="cannot be imported: SystemExit"):
        load_plugins([PluginConfig(use="mine")], [tmp_path])


COUNTING = """from gateway.hooks import Plugin
class Counting(Plugin):
    async def start(self, services):
        self.counters = services.counters
"""


async def test_each_entry_of_the_configuration_has_counters_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "counting.py").write_text(COUNTING)
    (tmp_path / "other.py").write_text(COUNTING)
    loaded = load_plugins([PluginConfig(use=name) for name in ("counting", "counting", "other")], [tmp_path])
    await PluginHost(loaded, Telemetry()).start(tmp_path, SharedCounters())
    for number, entry in enumerate(loaded):
        entry.plugin.counters.add("a", number + 1, 2e9)  # type: ignore[attr-defined]  # of the class above
    sums = [await entry.plugin.counters.get(["a"]) for entry in loaded]  # type: ignore[attr-defined]  # as above
    assert sums == [{"a": 1}, {"a": 2}, {"a": 3}]
