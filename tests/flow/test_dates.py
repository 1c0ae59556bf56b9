"""A question that names a time gets what was said then, whatever words it shares."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream

TRIPS = {
    "2025-05-10T12:00:00": "We took the night train and saw the harbour.",
    "2025-08-10T12:00:00": "We hiked over the pass and swam in the lake.",
    "2026-02-10T12:00:00": "We visited the glass museum and ate soup.",
}


async def told(gateway: Running, said: dict[str, str], user: str = "ada") -> None:
    for number, (moment, text) in enumerate(said.items()):
        messages = [{"role": "user", "content": text, "chat_time": moment}]
        body = {"user_id": user, "session_id": f"trip{number}", "messages": messages, "async_mode": "sync"}
        assert (await gateway.post("/product/add", body)).status == 200
    await gateway.settled()


async def found(gateway: Running, query: str, **fields: Any) -> str:
    body = {"user_id": "ada", "query": query, "top_k": 1, "relativity": 0, **fields}
    (memory,) = (await gateway.post("/product/search", body)).json["data"]["text_mem"][0]["memories"]
    return str(memory["memory"])


@pytest.mark.parametrize(
    ("question", "moment"),
    [
        ("What did we do in May 2025?", "2025-05-10T12:00:00"),
        ("What did we do in August 2025?", "2025-08-10T12:00:00"),
        ("What did we do on 10 February 2026?", "2026-02-10T12:00:00"),
        ("2025年8月我们做了什么？", "2025-08-10T12:00:00"),
    ],
)
async def test_a_time_in_a_question_steers_recall(gateway: Running, question: str, moment: str) -> None:
    await told(gateway, TRIPS)
    assert TRIPS[moment] in await found(gateway, question)


async def test_yesterday_is_seen_from_when_it_is_asked(gateway: Running, upstream: FakeUpstream) -> None:
    await told(gateway, TRIPS)
    question = "What did we do last month?"
    assert TRIPS["2025-05-10T12:00:00"] in await found(gateway, question, reference_time="2025-06-20T09:00:00")
    assert TRIPS["2026-02-10T12:00:00"] in await found(gateway, question, reference_time="2026-03-01T09:00:00")
    wrong = await gateway.post("/product/search", {"user_id": "ada", "query": "x", "reference_time": "soon"})
    assert (wrong.status, "reference_time" in wrong.json["message"]) == (400, True)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat(timespec="seconds")
    await told(gateway, {yesterday: "We bought a blue bicycle."})
    await gateway.chat("What did we do yesterday?", session="asked", headers={"x-memory-budget": "80"})
    assert "blue bicycle" in upstream.last.body.decode()


async def test_it_steers_after_a_restart_too(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url)
    async with running_gateway(config) as gateway:
        await told(gateway, TRIPS)
    async with running_gateway(config) as gateway:
        await gateway.settled()
        assert TRIPS["2025-08-10T12:00:00"] in await found(gateway, "What did we do in August 2025?")


async def test_what_was_told_later_is_found_by_the_time_it_tells_of(tmp_path: Path, upstream: FakeUpstream) -> None:
    said = {
        "2025-11-10T12:00:00": "Last summer we rented a yellow boat.",
        "2025-07-01T12:00:00": "I bought new shoes.",
        "2025-11-11T12:00:00": "I painted the door.",
    }
    config = configuration(tmp_path, upstream.url)
    async with running_gateway(config) as gateway:
        await told(gateway, said)
        assert "yellow boat" in await found(gateway, "What did we do in the summer of 2025?", top_k=1)
        odd = [{"role": "user", "content": "I like tea.", "chat_time": "2025-01-01T12:00:00"}]
        body = {
            "user_id": "ada",
            "session_id": "odd",
            "messages": odd,
            "info": {"about_time": "x"},
            "async_mode": "sync",
        }
        assert (await gateway.post("/product/add", body)).status == 200
        await gateway.settled()
    async with running_gateway(config) as gateway:
        await gateway.settled()
        assert "yellow boat" in await found(gateway, "What did we do in the summer of 2025?", top_k=1)
        assert "tea" in await found(gateway, "What do I like to drink in January 2025?")


async def test_a_day_is_that_of_the_zone_in_which_it_was_said(gateway: Running, upstream: FakeUpstream) -> None:
    times = {
        "dentist": "2026-11-25T17:30:00-08:00",
        "surgeon": "2026-11-26T03:00:00+09:00",
        "vet": "2026-11-25T23:30:00",
    }
    for who, time in times.items():
        messages = [{"role": "user", "content": f"I see the {who} tomorrow.", "chat_time": time}]
        body = {"user_id": "ada", "session_id": who, "messages": messages, "async_mode": "sync"}
        assert (await gateway.post("/product/add", body)).status == 200
    await gateway.chat("When do I see the dentist, the surgeon and the vet?", session="later")
    told = str(upstream.last.json["messages"][-1]["content"])
    day_25, day_26 = told.index("25 November"), told.index("26 November")
    assert day_25 < told.index("dentist tomorrow") < day_26
    assert day_25 < told.index("vet tomorrow") < day_26 < told.index("surgeon tomorrow")


@pytest.mark.parametrize("changes", [{"memory__time_zone": "America/Los_Angeles"}])
async def test_a_zone_may_be_configured_for_clients_that_send_none(gateway: Running, upstream: FakeUpstream) -> None:
    said_at = datetime(2026, 11, 26, 1, 30, tzinfo=UTC).timestamp()  # half past five on the 25th over there
    messages = [
        {"role": "user", "content": "I see the dentist tomorrow.", "chat_time": said_at},
        {"role": "user", "content": "I see the vet tomorrow.", "chat_time": "2026-11-25T17:45:00"},
    ]
    body = {"user_id": "ada", "session_id": "one", "messages": messages, "async_mode": "sync"}
    assert (await gateway.post("/product/add", body)).status == 200
    await gateway.chat("When do I see the dentist and the vet?", session="later")
    told = str(upstream.last.json["messages"][-1]["content"])
    assert "25 November" in told
    assert "26 November" not in told
