"""What is still to be learnt from, and what was spent, over restarts."""

from collections.abc import AsyncIterator

import pytest

from gateway.storage.sql.extraction_queue import SqlExtractionQueue
from gateway.storage.values import PendingMessage
from tests.fakes.tables import Tables

NOW = 1_800_000_000.0
SCOPE = "a" * 64


@pytest.fixture
async def agenda(tables: Tables) -> AsyncIterator[SqlExtractionQueue]:
    opened = tables.extraction_queue()
    await opened.open(NOW)
    yield opened
    await opened.close()


def said(seq: int = 1, session: str = "s", tokens: int = 10, scope: str = SCOPE) -> PendingMessage:
    return PendingMessage(seq, scope, session, f"id-{seq}", tokens)


async def noted(agenda: SqlExtractionQueue, *more: PendingMessage, now: float = NOW) -> None:
    await agenda.note(more, {0: max(one.seq for one in more)}, now=now, idle=60, window=100)


async def test_a_conversation_is_due_when_it_rests(agenda: SqlExtractionQueue) -> None:
    await noted(agenda, said(1))
    assert await agenda.due(NOW + 59, 9) == []
    assert await agenda.next_due() == NOW + 60
    await noted(agenda, said(2), now=NOW + 30)
    assert await agenda.due(NOW + 61, 9) == [], "somebody went on speaking"
    (due,) = await agenda.due(NOW + 90, 9)
    assert (due.scope, due.session, due.before) == (SCOPE, "s", "")
    assert await agenda.waiting(due, 9) == [(1, "id-1"), (2, "id-2")]


async def test_one_that_is_long_is_due_at_once(agenda: SqlExtractionQueue) -> None:
    await noted(agenda, said(1, tokens=60))
    await noted(agenda, said(2, tokens=60), now=NOW + 1)
    assert len(await agenda.due(NOW + 1, 9)) == 1


async def test_one_conversation_of_each_user_at_a_time(agenda: SqlExtractionQueue) -> None:
    await noted(agenda, said(1, "one"), said(2, "two"), said(3, "three", scope="b" * 64))
    assert {(one.scope[0], one.session) for one in await agenda.due(NOW + 60, 9)} == {("a", "one"), ("b", "three")}


async def test_what_was_said_meanwhile_waits_on(agenda: SqlExtractionQueue) -> None:
    await noted(agenda, said(1))
    (due,) = await agenda.due(NOW + 60, 9)
    await noted(agenda, said(2), now=NOW + 61)
    await agenda.learnt(due, [1], "id-1")
    await agenda.ended(due)
    (due,) = await agenda.due(NOW + 200, 9)
    assert (due.before, await agenda.waiting(due, 9)) == ("id-1", [(2, "id-2")])
    await agenda.learnt(due, [2], "id-2")
    await agenda.ended(due)
    assert await agenda.counts() == (0, 0)


async def test_the_same_message_is_noted_once(agenda: SqlExtractionQueue) -> None:
    await noted(agenda, said(1))
    await noted(agenda, said(1), said(2))
    (due,) = await agenda.due(NOW + 60, 9)
    assert len(await agenda.waiting(due, 9)) == 2


async def test_a_failure_waits_longer_than_the_next_word(agenda: SqlExtractionQueue) -> None:
    await noted(agenda, said(1))
    (due,) = await agenda.due(NOW + 60, 9)
    await agenda.failed(due, NOW + 500, "unreadable")
    await noted(agenda, said(2, tokens=500), now=NOW + 61)
    assert await agenda.due(NOW + 499, 9) == []
    (again,) = await agenda.due(NOW + 500, 9)
    assert again.tries == 1


async def test_what_was_given_up_keeps_nothing_else_and_is_tried_after_the_next_start(tables: Tables) -> None:
    first = tables.extraction_queue()
    await first.open(NOW)
    await noted(first, said(1), said(2))
    (due,) = await first.due(NOW + 60, 9)
    await first.give_up(due, [1])
    assert await first.counts() == (1, 1)
    assert await first.waiting(due, 9) == [(2, "id-2")]
    await first.learnt(due, [2], "id-2")
    await first.ended(due)
    assert await first.counts() == (0, 1)
    assert await first.next_due() is None
    await first.close()
    second = tables.extraction_queue()
    await second.open(NOW + 1000)
    (again,) = await second.due(NOW + 1000, 9)
    assert (again.tries, await second.waiting(again, 9)) == (0, [(1, "id-1")])
    assert (await second.began(), await second.positions()) == (NOW, {0: 2})
    await second.close()


async def test_what_is_spent_is_counted_by_scope_and_day(agenda: SqlExtractionQueue) -> None:
    await agenda.spend(SCOPE, 20_000, 100, 0.5)
    await agenda.spend(SCOPE, 20_000, 50, 0.25)
    await agenda.spend(SCOPE, 20_000, -30, 0.0)
    await agenda.spend("b" * 64, 20_000, 7, 0.0)
    assert await agenda.spent(SCOPE, 20_000) == (120, 0.75)
    assert await agenda.spent(SCOPE, 20_001) == (0, 0.0)
    await agenda.spend(SCOPE, 20_100, 1, 0.0)
    assert await agenda.spent(SCOPE, 20_000) == (0, 0.0), "only the latest days are kept"


async def test_only_the_owner_retries_what_was_given_up(tables: Tables, agenda: SqlExtractionQueue) -> None:
    await noted(agenda, said(1))
    (due,) = await agenda.due(NOW + 60, 9)
    await agenda.give_up(due, [1])
    other = tables.extraction_queue(is_owner=False)
    await other.open(NOW + 100)
    assert await other.counts() == (0, 1)
    assert await other.began() == NOW
    await other.close()


async def test_what_is_forgotten_is_of_these_scopes_or_of_one_session(agenda: SqlExtractionQueue) -> None:
    await noted(agenda, said(1, "one"), said(2, "two"), said(3, scope="b" * 64))
    await agenda.forget([SCOPE], "one")
    assert await agenda.counts() == (2, 0)
    await agenda.forget([SCOPE])
    assert await agenda.counts() == (1, 0)


async def test_each_part_has_a_position_of_its_own(agenda: SqlExtractionQueue) -> None:
    await agenda.note([], {0: 2, 7: 9}, now=NOW, idle=60, window=100)
    await agenda.note([], {7: 12}, now=NOW, idle=60, window=100)
    assert await agenda.positions() == {0: 2, 7: 12}


async def test_conversations_of_scopes_that_others_work_on_are_not_due(agenda: SqlExtractionQueue) -> None:
    for number, scope in enumerate("abc"):
        await agenda.note([said(number, scope=scope)], {0: number}, now=NOW + number, idle=1, window=100)
    own = {"b", "c"}
    assert [due.scope for due in await agenda.due(NOW + 60, 1, own.__contains__)] == ["b"]
    assert await agenda.next_due(own.__contains__) == NOW + 2
    assert await agenda.next_due() == NOW + 1
    assert await agenda.next_due(lambda scope: False) is None
