"""Edits of single memories, and tombstones."""

from gateway.memory.edits import Edit, apply_edit, tombstone
from gateway.memory.versions import valid_from, valid_to
from tests.fakes.made import record

NOW = 1_800_000_000.0


def test_an_edit_changes_what_it_names_and_nothing_else() -> None:
    memory = record("The car is red.", tags=("car",), metadata={"a": 1})
    titled = apply_edit(memory, Edit(title="Car"), NOW)
    assert (titled.details.title, titled.text, titled.version) == ("Car", memory.text, 2)
    assert (titled.updated_at, valid_from(titled)) == (NOW, memory.event_time)
    edited = apply_edit(titled, Edit(text="The car is blue."), NOW + 1)
    assert (edited.text, edited.details.title, edited.tags, edited.metadata) == (
        "The car is blue.",
        "Car",
        ("car",),
        {"a": 1},
    )
    assert (valid_from(edited), edited.lineage.edited_in) == (NOW + 1, 3), "the new text holds from now on"


def test_an_archived_memory_can_be_restored() -> None:
    memory = record("The car is red.")
    archived = apply_edit(memory, Edit(status="archived"), NOW)
    assert (archived.status, valid_to(archived), archived.lineage.archived_by) == ("archived", NOW, "user")
    restored = apply_edit(archived, Edit(status="activated"), NOW + 9)
    assert (restored.status, valid_from(restored)) == ("activated", NOW + 9)
    assert restored.validity.earlier == ((memory.event_time, NOW),)
    replaced = apply_edit(memory, Edit(status="archived", successor_id="b" * 32), NOW)
    assert (replaced.lineage.superseded_by, replaced.lineage.archived_by) == ("b" * 32, "")


def test_a_text_that_was_changed_while_archived_is_read_again_when_it_is_restored() -> None:
    archived = apply_edit(record("The car is red."), Edit(status="archived"), NOW)
    edited = apply_edit(archived, Edit(text="The car is blue."), NOW + 1)
    restored = apply_edit(edited, Edit(status="activated"), NOW + 2)
    assert restored.lineage.edited_in == restored.version


def test_a_tombstone_has_no_contents() -> None:
    memory = record("The car is red.", tags=("car",), metadata={"a": 1}, links=("b" * 32,))
    mark = tombstone(memory, NOW)
    assert (mark.status, mark.text, mark.message_id, mark.tags, mark.metadata) == ("deleted", "", "", (), {})
    assert (mark.id, mark.scope, mark.version, mark.updated_at) == (memory.id, memory.scope, 2, NOW)
