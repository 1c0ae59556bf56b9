import dataclasses

import pytest

from gateway.turn import Block, MemoryMode, MemoryStatus, Recalled, message_id
from tests.fakes.made import memory, turn


def test_a_hit_without_anything_injected_is_a_miss() -> None:
    found = turn(recalled=Recalled(MemoryStatus.HIT, (memory("a"),)))
    assert found.status is MemoryStatus.MISS
    assert dataclasses.replace(found, block=Block("x", (memory("a"),), 3)).status is MemoryStatus.HIT


def test_modes_read_and_write() -> None:
    assert [(mode.reads, mode.writes) for mode in MemoryMode] == [
        (True, True),
        (True, False),
        (False, True),
        (False, False),
    ]


def test_a_turn_cannot_be_written_to() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        turn().id = "x"  # type: ignore[misc]  # that it cannot is the point


def test_message_ids_follow_from_the_text() -> None:
    assert message_id("a") == message_id("a") != message_id("b")
    assert len(message_id("\ud800")) == 32
