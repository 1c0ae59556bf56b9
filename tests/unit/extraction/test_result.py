"""From decisions to memories: nothing is overwritten."""

from typing import Any

from gateway.extraction.items import Item
from gateway.extraction.reconcile import Decision
from gateway.extraction.result import build_result, restore_extracted
from gateway.memory.versions import archive
from tests.fakes.made import SCOPE, record

NOW = 1_800_000_000.0


def item(text: str, number: int = 10, **fields: Any) -> Item:
    made = {"kind": "fact", "source": "user", "confidence": 0.8, "sources": (record(text, number),)}
    return Item(text=text, **{**made, **fields})


def known(text: str, number: int = 0, **fields: Any) -> Any:
    return record(text, number, **{"kind": "fact", "links": (f"{number:032x}",), **fields})


def test_something_new_is_added_with_what_it_rests_on() -> None:
    new = item("The user has a dog")
    extraction_result = build_result(SCOPE, "s", [Decision(new, "unrelated")], NOW)
    (added,) = extraction_result.added
    assert (added.text, added.kind, added.source, added.confidence) == ("The user has a dog", "fact", "user", 0.8)
    assert added.links == (new.sources[0].id,)
    assert added.is_extracted is True
    assert (added.event_time, added.created_at) == (new.sources[0].event_time, NOW)
    assert extraction_result.changed == ()
    again = build_result(SCOPE, "s", [Decision(new, "unrelated")], NOW + 5)
    assert again.added[0].id == added.id, "the same lesson makes nothing twice"


def test_what_is_contradicted_is_archived_with_its_time() -> None:
    old = known("The user lives in Porto")
    extraction_result = build_result(
        SCOPE, "s", [Decision(item("The user moved to Lisbon"), "contradicts", (old,))], NOW
    )
    (added,), (changed,) = extraction_result.added, extraction_result.changed
    assert added.lineage.supersedes == (old.id,)
    assert (changed.id, changed.text, changed.status) == (old.id, old.text, "archived")
    assert (changed.lineage.superseded_by, changed.validity.until) == (added.id, added.event_time)


def test_what_was_said_before_but_learnt_after_was_true_until_then() -> None:
    old = known("The user moved to Lisbon", 50)
    extraction_result = build_result(
        SCOPE, "s", [Decision(item("The user lives in Porto", 10), "contradicts", (old,))], NOW
    )
    (added,) = extraction_result.added
    assert (added.status, added.lineage.superseded_by, added.validity.until) == ("archived", old.id, old.event_time)
    assert extraction_result.changed == ()


def test_the_same_makes_it_surer_once() -> None:
    old = known("The user has a dog", confidence=0.8)
    new = item("The user has a dog", 10)
    (stronger,) = build_result(SCOPE, "s", [Decision(new, "same", (old,))], NOW).changed
    assert (stronger.text, round(stronger.confidence, 3)) == (old.text, 0.86)
    assert stronger.links == old.links
    again = build_result(SCOPE, "s", [Decision(new, "same", (stronger,))], NOW)
    assert again.changed == (), "the same message counts once"


def test_a_common_text_rests_on_what_both_rest_on() -> None:
    old = known("The user has a cat")
    new = item("The user has a cat called Miso")
    (added,) = build_result(SCOPE, "s", [Decision(new, "more_precise", (old,))], NOW).added
    assert added.links == (new.sources[0].id, *old.links)


def test_what_is_outranked_is_not_kept() -> None:
    old = known("The user likes meat")
    extraction_result = build_result(
        SCOPE, "s", [Decision(item("No meat", source="assistant"), "outranked", (old,))], NOW
    )
    assert (extraction_result.added, extraction_result.changed) == ((), ())


def test_two_items_about_one_memory_come_one_after_the_other() -> None:
    old = known("The user lives in Porto", confidence=0.5)
    decisions = [
        Decision(item("lives in Porto", 10), "same", (old,)),
        Decision(item("moved to Lisbon", 11), "contradicts", (old,)),
    ]
    extraction_result = build_result(SCOPE, "s", decisions, NOW)
    (changed,) = extraction_result.changed
    assert (changed.status, changed.confidence > 0.5) == ("archived", True)


def test_what_was_archived_holds_again_when_it_is_learnt_again() -> None:
    (first,) = build_result(SCOPE, "s", [Decision(item("lives in Porto"), "unrelated")], NOW).added
    gone = archive(first, NOW, "f" * 32)
    again = restore_extracted(first, gone)
    assert (again.id, again.status) == (first.id, "activated")
    assert not again.lineage.superseded_by
