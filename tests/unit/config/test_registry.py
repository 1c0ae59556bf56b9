import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.config.registry import KindRegistry
from tests.fakes.packages import install_package

GROUP = "memory_gateway.tests"
SOURCE = "from tests.unit.config.test_registry import Colour\nRED, GREY = Colour('red'), 'grey'\n"


@dataclass(frozen=True)
class Colour:
    name: str


@pytest.fixture
def colours() -> KindRegistry[Colour]:
    return KindRegistry(GROUP, Colour, [Colour("blue"), Colour("green")])


def test_a_registered_kind_can_be_selected(colours: KindRegistry[Colour]) -> None:
    colours.register(Colour("pink"))
    assert colours.check("pink") == "pink"
    assert colours["pink"] == colours.find("pink") == Colour("pink")
    assert [colour.name for colour in colours] == ["blue", "green", "pink"]
    colours.unregister("pink")
    assert colours.find("pink") is None


def test_a_name_is_taken_once(colours: KindRegistry[Colour]) -> None:
    with pytest.raises(ValueError, match="already"):
        colours.register(Colour("blue"))


def test_a_kind_of_a_package_is_loaded_when_it_is_selected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colours: KindRegistry[Colour]
) -> None:
    monkeypatch.syspath_prepend(install_package(tmp_path, "red_paint", SOURCE, GROUP, "red = red_paint:RED"))
    assert [colour.name for colour in colours] == ["blue", "green"]
    with pytest.raises(ValueError, match="Input should be 'blue', 'green' or 'red'"):
        colours.check("yellow")
    assert colours.check("red") == "red"
    assert (colours.source("red"), colours.source("blue")) == ("red_paint 1.0", "")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("red = no_such_module:RED", "'red' of red_paint 1.0 (no_such_module:RED) cannot be loaded: ModuleNotFound"),
        ("red = red_paint:PINK", "cannot be loaded: AttributeError"),
        ("red = red_paint:GREY", "is no Colour, but of type str"),
        ("scarlet = red_paint:RED", "calls itself 'red'"),
    ],
)
def test_a_package_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colours: KindRegistry[Colour], entry: str, message: str
) -> None:
    monkeypatch.syspath_prepend(install_package(tmp_path, "red_paint", SOURCE, GROUP, entry))
    with pytest.raises(ValueError, match=re.escape(message)):
        colours.check(entry.partition(" ")[0])


def test_two_packages_with_one_kind_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colours: KindRegistry[Colour]
) -> None:
    for name in ("red_paint", "red_ink"):
        monkeypatch.syspath_prepend(install_package(tmp_path / name, name, SOURCE, GROUP, f"red = {name}:RED"))
    with pytest.raises(ValueError, match=re.escape("'red': red_ink 1.0, red_paint 1.0")):
        colours.check("red")
