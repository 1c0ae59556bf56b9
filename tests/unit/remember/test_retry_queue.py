"""Turns that wait for the journal: which are tried when, and what becomes of them at the end."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.memory.record import Record
from gateway.remember import retry_queue
from gateway.remember.retry_queue import RetryQueue
from gateway.storage.errors import StorageError
from gateway.telemetry import Telemetry
from gateway.turn import Turn
from tests.fakes.made import record, turn
from tests.fakes.running import eventually


class Journal:
    """Notes how many turns are tried at once; it refuses all while it `is_away`."""

    def __init__(self) -> None:
        self.is_away = True
        self.stored: list[str] = []
        self.refused = 0
        self.most_at_once = 0
        self._running = 0

    async def commit(self, turn: Turn, records: Sequence[Record]) -> None:
        self._running += 1
        self.most_at_once = max(self.most_at_once, self._running)
        await asyncio.sleep(0)
        self._running -= 1
        if self.is_away:
            self.refused += 1
            raise StorageError("journal", "away", is_outage=True)
        self.stored.append(turn.id)


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setattr(retry_queue, "_PAUSE", 0.01)
    return Journal()


async def test_one_turn_is_tried_while_the_journal_is_away_and_many_when_it_is_back(journal: Journal) -> None:
    queue = RetryQueue(journal.commit, Telemetry())
    names = [f"turn-{number}" for number in range(100)]
    for name in names:
        queue.put(turn(id=name), [record(name)])
    await eventually(lambda: journal.refused > 2)
    assert journal.most_at_once == 1
    journal.is_away = False
    await eventually(lambda: not queue.is_waiting)
    assert journal.stored == names, "in order, and each once"
    assert journal.most_at_once > 10
    await queue.stop()


async def test_at_the_end_all_are_tried_once_more(journal: Journal) -> None:
    queue = RetryQueue(journal.commit, Telemetry())
    for number in range(3):
        queue.put(turn(id=f"turn-{number}"), [record("text", number)])
    await eventually(lambda: journal.refused > 0)
    journal.is_away = False
    await queue.stop()
    assert sorted(journal.stored) == [f"turn-{number}" for number in range(3)]
    assert not queue.is_waiting
