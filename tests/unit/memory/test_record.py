from dataclasses import replace

from gateway.memory.record import Lineage, derived_id, id_prefix, memory_id, message_id, with_lineage
from tests.fakes.made import record


def test_ids_are_derived_and_distinct() -> None:
    assert message_id("hello") == message_id("hello") != message_id("Hello")
    assert derived_id("a", "bc") != derived_id("ab", "c")
    assert len(derived_id("a\udc80")) == 32, "a lone surrogate has an id, too"


def test_a_change_of_the_lineage_keeps_its_other_fields() -> None:
    memory = replace(record("likes tea"), lineage=Lineage(supersedes=("a",)))
    assert with_lineage(memory, superseded_by="b").lineage == Lineage(supersedes=("a",), superseded_by="b")


def test_only_activated_records_are_active() -> None:
    assert record("x").is_active
    assert not any(replace(record("x"), status=status).is_active for status in ("archived", "resolving", "deleted"))


def test_an_id_begins_with_digits_of_its_scope_and_differs_between_scopes() -> None:
    ada, bob = "0123456789abcdef" * 4, "ffff4567ffffffff" * 4
    assert memory_id(ada, "a", "b") == memory_id(ada, "a", "b")
    assert len(memory_id(ada, "a")) == 32
    assert memory_id(ada, "a")[:4] == id_prefix(ada) == "4567"
    assert memory_id(ada, "a")[4:] != memory_id(bob, "a")[4:]
    assert memory_id(ada, "a", "bc") != memory_id(ada, "ab", "c")
