import re
from pathlib import Path

import pytest

from gateway import bus_kinds

GATEWAY = Path(bus_kinds.__file__).parent
KINDS = {name: kind for name, kind in vars(bus_kinds).items() if name.isupper()}


@pytest.fixture(scope="module")
def sources() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(GATEWAY.rglob("*.py")))


def test_no_two_parts_use_the_same_kind() -> None:
    assert len(set(KINDS.values())) == len(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_sent_and_handled(name: str, sources: str) -> None:
    assert len(re.findall(rf"\bbus_kinds\.{name}\b", sources)) >= 2
    assert re.search(rf"bus\.on\(bus_kinds\.{name},", sources)


def test_messages_are_named_in_the_list_only(sources: str) -> None:
    calls = re.findall(r"bus\.(?:on|publish|require_all)(?:\(|, )\s*(\S+?)[,)]", sources)
    assert len(calls) > len(KINDS)
    assert [kind for kind in calls if not kind.startswith("bus_kinds.")] == []


def test_the_page_for_developers_lists_all_kinds() -> None:
    page = (GATEWAY.parent / "docs" / "develop" / "cluster.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(KINDS)
