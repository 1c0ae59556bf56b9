"""The benchmark's own parts: figures, texts, and a small load on the servers beside the gateway."""

import io
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from rich.console import Console

from tests.bench.client import Client, Load, Reply, count_statuses
from tests.bench.figures import FIGURES
from tests.bench.goals import GOALS, Goal
from tests.bench.light import load
from tests.bench.processes import Server, free_port, spawn, wait_until
from tests.bench.results import Row, as_json, build_table, format_number, noise, quantile, ratio
from tests.bench.servers import CHUNKS
from tests.bench.setting import running_servers, variants_of
from tests.bench.texts import Texts

NEEDS_PROC = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_quantiles_are_values_and_ratios_are_of_the_same_round() -> None:
    assert quantile([5, 1, 3], 0.5) == 3
    assert quantile(list(range(100)), 0.99) == 99
    assert quantile([7], 0.95) == 7
    assert ratio([2, 30, 8], [1, 10, 2]) == 3
    assert [format_number(value) for value in (0.123, 12.34, 2345.6)] == ["0.12", "12.3", "2,346"]


def test_a_row_is_the_mean_of_its_commit_and_knows_its_goal() -> None:
    row = Row("memory off, CPU a request", "× bare", {"here": 1.8, "old": 4.0, "here again": 2.0, "old again": 5.0})
    assert row.value == pytest.approx(1.9)
    assert row.mean("old") == 4.5
    assert row.is_met is True
    assert noise(row) == 1.25
    assert Row("without a goal", "ms", {"here": 1.0}).is_met is None
    assert noise(Row("of one process", "ms", {"here": 1.0})) is None
    assert Goal(300, is_minimum=True).is_met(299) is False


def test_the_table_shows_goals_and_the_other_commit() -> None:
    rows = [
        Row("memory off, CPU a request", "× bare", {"here": 2.5, "old": 5.0, "here again": 2.5, "old again": 5.0}),
        Row("drain", "1/s", {"here": 2000.0, "old": 0.0, "here again": 2000.0, "old again": 0.0}, "a note"),
        Row("import, with vectors", "1/s", {"here": 6000.0, "here again": 6000.0}),
    ]
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(build_table(rows, "title"))
    text = console.export_text()
    assert [part.strip() for part in text.splitlines()[4].strip("│ ").split("│")] == [
        *("memory off, CPU a request", "2.50", "5.00", "0.50", "1.00", "× bare", "≤ 2"),
    ]
    assert "a note" in text
    assert text.splitlines()[6].replace(" ", "") == "│import,withvectors│6,000│–│–│1.00│1/s│≥5,000││"
    figures = as_json(rows, {"commit": "abc"})["figures"]
    assert [figure["met"] for figure in figures] == [False, True, True]


def test_texts_are_the_same_for_a_seed_and_all_different() -> None:
    texts = list(Texts(1).everyday(200))
    assert texts == list(Texts(1).everyday(200))
    assert len(set(texts)) == 200
    assert not set(texts) & set(Texts(2).everyday(200))
    assert sum(map(len, texts)) / len(texts) > 150
    assert not any(field in text for text in texts for field in ("{passage}", "{word}", "{name}"))
    assert 500 < len(Texts(3).passage(600)) <= 600


def test_each_commit_is_started_twice_beside_another() -> None:
    assert [variant.label for variant in variants_of()] == ["here"]
    labels = [variant.label for variant in variants_of("old", Path())]
    assert labels == ["here", "old", "here again", "old again"]


def test_statuses_are_counted() -> None:
    assert count_statuses([Reply(1, status, 0) for status in ("miss", "hit", "hit")]) == "2 hit, 1 miss"
    assert set(FIGURES) >= {"off", "on", "growth"}
    assert all(goal.limit >= 0 for goal in GOALS.values())


@NEEDS_PROC
def test_cpu_time_is_that_of_the_whole_tree() -> None:
    child = "sum(i * i for i in range(9_000_000)); "
    code = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {child!r}]); print(); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-uc", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        server = Server("tree", 0, process)
        assert server.cpu() >= 0.1, "of the child, which has ended"
        assert server.resident_mib() > 1
        server.stop()


@NEEDS_PROC
async def test_the_bare_pass_through_answers_and_streams() -> None:
    async with aiohttp.ClientSession() as session:
        client = Client(session)
        async with running_servers(client) as (upstream, bare):
            sample = await client.measure(bare, Load(["one", "two", "three"], length=300), ["warm"])
            assert len(sample.replies) == 3
            answers = []
            for server in (upstream, bare):
                body = {"model": "answer-300", "messages": [{"role": "user", "content": "hello"}]}
                async with session.post(f"{server.url}/v1/chat/completions", json=body) as response:
                    answers.append((await response.json())["choices"][0]["message"]["content"])
            assert [len(answer) for answer in answers] == [300, 300]
            assert answers[0] != answers[1]
            delays = await client.streams(bare, 2)
            assert len(delays) == 2 * CHUNKS
            assert min(delays) > 0


@NEEDS_PROC
async def test_the_light_load_asks_the_light_upstream_one_question_after_the_other() -> None:
    port = free_port()
    upstream = Server("light upstream", port, spawn("tests.bench.light", "upstream", str(port)))
    try:
        async with aiohttp.ClientSession() as session:
            await wait_until(session, upstream, "/nothing", b"chatcmpl")
            body = {"model": "find-parrot", "messages": [{"role": "user", "content": "My parrot is a parrot."}]}
            async with session.post(f"{upstream.url}/v1/chat/completions", json=body) as response:
                assert (await response.json())["choices"][0]["message"]["content"] == "2"
        result = await load(port, 0.3, connections=4, users=3, seed="unit")
    finally:
        upstream.stop()
    assert result["per_second"] > 0
    assert result["failures"] == 0
