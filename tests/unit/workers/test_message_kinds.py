import re
from pathlib import Path

import pytest

from gateway.workers import message_kinds

GATEWAY = Path(message_kinds.__file__).parents[1]
KINDS = {name: kind for name, kind in vars(message_kinds).items() if name.isupper()}


def test_no_two_parts_use_the_same_kind() -> None:
    assert len(set(KINDS.values())) == len(KINDS)


@pytest.fixture(scope="module")
def sources() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(GATEWAY.rglob("*.py")))


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_sent_and_handled(name: str, sources: str) -> None:
    assert len(re.findall(rf"\bmessage_kinds\.{name}\b", sources)) >= (1 if name == "ASSIGNMENT" else 2)


def test_messages_are_named_in_the_list_only(sources: str) -> None:
    calls = re.findall(
        r"(?:peers|control)\.(?:on|publish|send|ask|ask_all|require_all)\(\s*(?:0,|number,)?\s*(\S+?),", sources
    )
    assert len(calls) > len(KINDS)
    assert [kind for kind in calls if not kind.startswith("message_kinds.")] == ["kind"]
