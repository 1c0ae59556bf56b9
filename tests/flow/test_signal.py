"""What a request gets by default: the memories that answer it, or nothing."""

import pytest

from tests.fakes.running import Running
from tests.fakes.upstream import FakeUpstream

TASKS = (
    "Write a regex that matches UK postcodes.",
    "Translate into French: The shop opens at nine.",
    "Explain how a binary search works.",
    "Make a table of pros and cons of remote work.",
    "Write a haiku about autumn rain.",
)
OTHER_TASKS = (
    "Write a regex that matches ISO dates.",
    "How do volcanoes form?",
    "Thanks, that helps!",
    "continue",
    "hi",
)


async def tell(gateway: Running) -> None:
    for number, task in enumerate(TASKS):
        await gateway.chat(task, session=f"task {number}")
    await gateway.chat("We took our dog Biscuit to the vet today.", session="dog")
    await gateway.settled()


@pytest.mark.parametrize("request_text", OTHER_TASKS)
async def test_a_request_that_needs_no_memory_gets_none(
    gateway: Running, upstream: FakeUpstream, request_text: str
) -> None:
    await tell(gateway)
    reply = await gateway.chat(request_text, session="asked", headers={"x-memory-mode": "read"})
    assert reply.headers["x-memory-status"] == "miss"
    assert upstream.last.json["messages"] == [{"role": "user", "content": request_text}]


async def test_a_question_gets_the_statement_and_not_the_tasks(gateway: Running, upstream: FakeUpstream) -> None:
    await tell(gateway)
    reply = await gateway.chat("What is my dog's name?", session="asked", headers={"x-memory-mode": "read"})
    explained = (await gateway.get(f"/v1/memory/explain/{reply.headers['x-gateway-request-id']}")).json
    assert explained["candidates"][0]["text"] == "We took our dog Biscuit to the vet today."
    assert explained["candidates"][0]["probability"] > explained["candidates"][-1]["probability"]
    assert explained["need"]["probability"] > 0.65
    assert explained["need"]["parts"]


async def test_without_selectivity_a_task_gets_what_fits(gateway: Running, upstream: FakeUpstream) -> None:
    await tell(gateway)
    told = {"x-memory-mode": "read", "x-memory-selectivity": "0"}
    reply = await gateway.chat("Write a regex that matches ISO dates.", session="asked", headers=told)
    assert reply.headers["x-memory-status"] == "hit"
    assert "postcodes" in upstream.last.body.decode()


async def test_an_odd_selectivity_is_refused(gateway: Running) -> None:
    reply = await gateway.chat("hi", headers={"x-memory-selectivity": "2"})
    assert reply.status == 400
    assert reply.json["error"]["param"] == "x-memory-selectivity"


async def test_a_follow_up_is_searched_with_what_was_said_before(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat("My sister Hannah is 34 and lives in York.", session="told")
    await gateway.chat("Our dog Biscuit is nine years old.", session="told too")
    await gateway.settled()
    messages = [
        {"role": "user", "content": "What is my dog called?"},
        {"role": "assistant", "content": "Your dog is called Biscuit."},
        {"role": "user", "content": "and how old is he?"},
    ]
    body = {"model": "fake-1", "messages": messages}
    await gateway.post("/v1/chat/completions", body, headers={"x-memory-user": "ada", "x-memory-mode": "read"})
    assert "Biscuit is nine years old" in upstream.last.body.decode()


async def test_a_task_asked_for_again_is_found(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.reply = "Use ^[A-Z]{1,2}[0-9] for postcodes."
    await tell(gateway)
    await gateway.chat("What was the regex for postcodes that you gave me?", session="asked")
    assert "Use ^[A-Z]{1,2}[0-9]" in upstream.last.body.decode()


@pytest.mark.parametrize("text", ["・・・", "゛", "…", "👍👍"])
async def test_a_message_of_marks_alone_is_answered_and_stored(
    gateway: Running, upstream: FakeUpstream, text: str
) -> None:
    upstream.reply = text
    assert (await gateway.chat(text, session="marks")).status == 200
    assert (await gateway.post("/product/search", {"user_id": "ada", "query": text})).status == 200
    await gateway.settled()
    assert (await gateway.get("/ready")).json["journal_aside"] == 0


async def test_what_was_told_is_found_among_many_tasks(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat("We moved to Leeds in March.", session="told")
    await gateway.chat("My sister Hannah lives in York.", session="told too")
    for number in range(150):
        await gateway.chat(
            f"Write a short text about the {number}. museum of {TASKS[number % 5]}", session=f"t{number}"
        )
    await gateway.settled()
    reply = await gateway.chat("Where do I live?", session="asked", headers={"x-memory-mode": "read"})
    assert reply.headers["x-memory-status"] == "hit"
    assert "moved to Leeds" in upstream.last.body.decode()
