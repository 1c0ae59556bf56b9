"""The tables of the guide to scaling are those that the simulation prints, and the simulation does what it should."""

from dataclasses import replace

import numpy as np
import pytest

from tests.bench.sizing import Setting, build_tables, simulate, users_by_activity
from tests.docs.markdown import ROOT, read

SMALL = Setting(users=2_000, memories=2_000_000, chats=4.0, gateways=3, working_set_mb=64, hours=2.0)


def test_the_guide_has_the_tables_of_the_simulation() -> None:
    guide = read(ROOT / "docs" / "guides" / "scaling.md")
    for table in build_tables():
        assert table in guide, f"run python -m tests.bench.sizing:\n{table}"


def test_more_ram_finds_more_until_the_first_chat_of_a_conversation_is_left() -> None:
    hits = [simulate(replace(SMALL, working_set_mb=size)).hits for size in (16, 64, 4096)]
    assert hits == sorted(hits)
    assert hits[0] < 0.6
    assert hits[-1] > 0.85


def test_users_who_stay_at_a_gateway_need_less_ram() -> None:
    hits = [simulate(replace(SMALL, routing=routing)).hits for routing in ("user", "conversation", "request")]
    assert hits == sorted(hits, reverse=True)
    assert hits[0] > hits[2] + 0.1


def test_one_gateway_gives_the_result_of_all() -> None:
    assert simulate(SMALL).hits == pytest.approx(simulate(SMALL, simulated_gateways=1).hits, abs=0.03)


def test_buckets_that_wait_longer_cost_fewer_requests() -> None:
    soon, late = (simulate(replace(SMALL, flush_seconds=seconds)) for seconds in (15, 300))
    assert late.puts < soon.puts / 2
    assert late.price < soon.price
    assert late.hits == soon.hits


def test_users_have_all_chats_and_all_memories_together() -> None:
    shares, rows = users_by_activity(SMALL)
    assert shares.sum() == pytest.approx(1)
    assert rows.sum() == pytest.approx(SMALL.memories, rel=0.01)
    assert (np.diff(shares) < 0).all()
    assert (np.diff(rows) <= 0).all()
