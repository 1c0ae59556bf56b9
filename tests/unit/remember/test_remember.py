import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.config import RememberConfig
from gateway.remember.remember import Remember
from gateway.storage.sqlite.journal import Journal
from gateway.storage.sqlite.registry import SqliteRegistry
from gateway.telemetry import Telemetry
from gateway.turn import Answer, MemoryMode, Outcome, Record, Turn
from tests.fakes.made import SCOPE, turn

WHOLE = Answer("An answer.")


async def keep_all(turn: Turn, records: Sequence[Record]) -> Sequence[Record]:
    return records


def made(folder: Path, **config: Any) -> Remember:
    journal = Journal(folder / "j.sqlite", 10**9, lambda: None)
    return Remember(journal, SqliteRegistry(folder / "r.sqlite"), RememberConfig(**config), Telemetry(), keep_all)


def texts(records: Sequence[Record]) -> list[tuple[str, str]]:
    return [(record.source, record.text) for record in records]


@pytest.mark.parametrize(
    ("changes", "answer", "expected"),
    [
        ({}, WHOLE, [("user", "hello"), ("assistant", "An answer.")]),
        ({"mode": MemoryMode.READ}, WHOLE, []),
        ({"identity": None}, WHOLE, []),
        ({}, Answer("I look it up", has_tool_calls=True), [("user", "hello")]),
        ({}, Answer("half", outcome=Outcome.CUT), [("user", "hello")]),
        ({}, Answer(None, outcome=Outcome.CLIENT_GONE), [("user", "hello")]),
    ],
)
def test_what_is_kept_of_a_turn(
    tmp_path: Path, changes: dict[str, Any], answer: Answer, expected: list[tuple[str, str]]
) -> None:
    assert texts(made(tmp_path).records_of(turn(**changes), answer)) == expected


def test_a_step_of_a_tool_loop_adds_only_its_answer(tmp_path: Path) -> None:
    first = turn()
    step = dataclasses.replace(first, ask=dataclasses.replace(first.ask, is_step=True))
    assert texts(made(tmp_path).records_of(step, WHOLE)) == [("assistant", "An answer.")]


def test_a_chore_leaves_nothing(tmp_path: Path) -> None:
    first = turn()
    chore = dataclasses.replace(first, ask=dataclasses.replace(first.ask, is_task=True))
    assert made(tmp_path).records_of(chore, WHOLE) == []


def test_partial_answers_are_kept_marked_where_it_is_wanted(tmp_path: Path) -> None:
    records = made(tmp_path, partial_answers=True).records_of(turn(), Answer("half", outcome=Outcome.CUT))
    assert [record.is_partial for record in records] == [False, True]


def test_ids_follow_from_the_turn(tmp_path: Path) -> None:
    remember = made(tmp_path)
    one, again = remember.records_of(turn(), WHOLE), made(tmp_path).records_of(turn(), WHOLE)
    assert [record.id for record in one] == [record.id for record in again]
    assert len({record.id for record in one}) == 2
    assert remember.records_of(turn(id="u" * 32), WHOLE) == [], "the same words a moment later are a retry"
    other = made(tmp_path).records_of(turn(id="u" * 32), WHOLE)
    assert not {record.id for record in one} & {record.id for record in other}


def test_a_very_long_message_is_cut_within_its_bytes(tmp_path: Path) -> None:
    record = made(tmp_path, max_message_bytes=1024).make(turn(), SCOPE, "user", "猫" * 1000)
    assert len(record.text.encode()) <= 1024
    assert set(record.text) == {"猫"}


async def test_a_long_message_becomes_pieces_with_one_name(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.sqlite", 10**9, lambda: None)
    await journal.open()
    registry = SqliteRegistry(tmp_path / "r.sqlite")
    await registry.open()
    remember = Remember(journal, registry, RememberConfig(), Telemetry(), keep_all)
    text = "A sentence of some length stands here. " * 60
    assert await remember.remember(turn(text), Answer(None))
    kept = [entry.record for entry in await journal.waiting(100)]
    assert "".join(record.text for record in kept) == text.strip()
    assert [record.part for record in kept] == list(range(len(kept)))
    assert len({record.message_id for record in kept}) == 1
    assert len({record.id for record in kept}) == len(kept)
    await journal.close()
    await registry.close()


async def test_a_message_changed_by_a_plugin_has_no_trace_of_the_old_one(tmp_path: Path) -> None:
    async def hide(turn: Turn, records: Sequence[Record]) -> Sequence[Record]:
        return [dataclasses.replace(record, text="[redacted]") for record in records]

    journal = Journal(tmp_path / "j.sqlite", 10**9, lambda: None)
    await journal.open()
    registry = SqliteRegistry(tmp_path / "r.sqlite")
    await registry.open()
    remember = Remember(journal, registry, RememberConfig(), Telemetry(), hide)
    before = remember.make(turn("card 4111"), SCOPE, "user", "card 4111")
    await remember.remember(turn("card 4111"), Answer(None))
    (entry,) = await journal.waiting(10)
    assert entry.record.message_id != before.message_id
    await journal.close()
    await registry.close()
