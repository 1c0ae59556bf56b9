from collections.abc import Iterator

import pytest

from gateway.memory import kinds
from gateway.memory.filters import memory_type
from gateway.memory.kinds import KINDS, MemoryKind, group_of, kind_of, register
from gateway.memory.profile import of_profile
from gateway.memory.record import Details
from tests.fakes.made import record


@pytest.fixture
def reminder() -> Iterator[MemoryKind]:
    kind = MemoryKind(name="reminder", memos_type="ReminderMemory", is_of_profile=True)
    register(kind)
    yield kind
    del KINDS["reminder"]


def test_kinds_are_searched_in_groups() -> None:
    assert [group_of(kind) for kind in ("turn", "fact", "document")] == ["text"] * 3
    assert [group_of(kind) for kind in ("preference", "tool", "skill", "profile")] == [
        "preference",
        "tool",
        "skill",
        "profile",
    ]


def test_a_kind_that_is_not_registered_is_a_text() -> None:
    assert (kind_of("gone").group, kind_of("gone").is_of_profile) == ("text", False)


def test_the_domain_reads_the_properties_of_a_registered_kind(reminder: MemoryKind) -> None:
    memory = record("Tea at four", kind="reminder", details=Details(topic="style"))
    assert kind_of("reminder") is reminder
    assert memory_type(memory) == "ReminderMemory"
    assert of_profile(memory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "turn"}, "already"),
        ({"name": "task"}, "already"),
        ({"name": "to do"}, "lower-case letters"),
        ({"name": "todo", "group": "lists"}, "one of text, preference"),
    ],
)
def test_an_unusable_kind_is_refused(changes: dict[str, str], message: str) -> None:
    before = list(kinds.KINDS)
    with pytest.raises(ValueError, match=message):
        register(MemoryKind(**changes))  # type: ignore[arg-type]
    assert list(kinds.KINDS) == before
