"""The parts of the benchmark of clusters that need no servers: its simulation, its goals, and its traffic."""

from collections import Counter

import pytest

from tests.bench.cluster.model import Chat, World, draw_chats, simulate
from tests.bench.goals import GOALS, Goal

MIB = 2**20
USERS = [f"user{number}" for number in range(40)]


def world(**changes: object) -> World:
    values: dict[str, object] = {
        "set_bytes": MIB,
        "fragments": 8,
        "ram_bytes": 100 * MIB,
        "flush_seconds": 5.0,
        "maintained_at": 1e9,
        "bucket_of": lambda user: len(user) % 2,
        "gateway_of": lambda user: 0,
        "owner_of": lambda bucket: 0,
        **changes,
    }
    return World(**values)  # type: ignore[arg-type]


def test_traffic_is_the_same_for_a_seed_and_prefers_the_first_users() -> None:
    chats = draw_chats(USERS, 2000, 10.0)
    assert chats == draw_chats(USERS, 2000, 10.0)
    assert chats != draw_chats(USERS, 2000, 10.0, seed=2)
    assert chats[-1].at == pytest.approx(199.9)
    counts = Counter(chat.user for chat in chats)
    assert counts["user0"] > 3 * counts["user20"] > 0


def test_memories_are_loaded_once_while_they_fit_into_ram() -> None:
    chats = [Chat(0.1 * number, f"user{number % 4}") for number in range(40)]
    counts, share = simulate(world(), chats, 0, 4.0)
    assert counts == {"GET": 4 * (5.5 + 2 * 8)}
    assert share == 0.9
    counts, share = simulate(world(ram_bytes=3 * MIB), chats, 0, 4.0)
    assert share == 0, "four users in turn, and room for three"
    assert counts["GET"] == 40 * (5.5 + 2 * 8)


def test_chats_before_the_counted_ones_load_memories_too() -> None:
    chats = [Chat(0.1 * number, f"user{number % 4}") for number in range(40)]
    assert simulate(world(), chats, 4, 4.0) == ({"GET": 0}, 1.0)


def test_a_bucket_is_written_after_its_seconds_however_many_memories_wait() -> None:
    chats = [Chat(0.5 * number, "user1") for number in range(11)]
    counts, _ = simulate(world(), chats, 0, 5.0)
    assert (counts["PUT"], counts["LIST"], counts.get("HEAD")) == (3, 1, None)
    counts, _ = simulate(world(), chats, 0, 20.0)
    assert (counts["PUT"], counts["LIST"]) == (6, 2), "the last one waited from 5 s on"


def test_a_reader_moves_to_the_version_that_an_owner_has_written() -> None:
    chats = [Chat(0.0, "user1"), Chat(6.0, "user2"), Chat(7.0, "user3")]
    assert simulate(world(), chats, 0, 7.0)[0].get("HEAD") is None
    assert simulate(world(owner_of=lambda bucket: 1), chats, 0, 7.0)[0]["HEAD"] == 1


def test_a_table_with_many_fragments_is_compacted_and_cheaper_then() -> None:
    chats = [Chat(0.0, "user1"), Chat(10.0, "user2")]
    counts, _ = simulate(world(fragments=15, maintained_at=8.0), chats, 0, 10.0)
    assert counts == {"GET": 2 * 5.5 + 2 * 15 + 3 * 16 + 2 * 1 + 1, "PUT": 3 + 5, "LIST": 1 + 11}


def test_a_goal_may_be_a_range() -> None:
    goal = GOALS["requests to S3, measured to simulated"]
    assert str(goal) == "0.8–1.2"
    assert [goal.is_met(value) for value in (0.7, 0.8, 1.0, 1.2, 1.3)] == [False, True, True, True, False]
    assert str(Goal(3)) == "≤ 3"
