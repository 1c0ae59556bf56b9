"""Whose memory a request reads, and what of it counts as the user's words, over real sockets."""

from typing import Any

import pytest

from tests.fakes.running import Reply, Running
from tests.fakes.upstream import FakeUpstream

CHAT = "/v1/chat/completions"
ME = {"memory__default_user": "me"}


async def say(gateway: Running, text: str, headers: dict[str, str] | None = None, **body: Any) -> Reply:
    messages = body.pop("messages", [{"role": "user", "content": text}])
    return await gateway.post(CHAT, {"model": "fake-1", "messages": messages, **body}, headers or {})


def sent(upstream: FakeUpstream) -> str:
    return upstream.last.body.decode()


@pytest.mark.parametrize("changes", [ME])
async def test_users_of_one_front_end_do_not_share_a_memory(gateway: Running, upstream: FakeUpstream) -> None:
    await say(gateway, "My salary is 4711 euros.", {"x-openwebui-user-id": "u-alice"})
    await gateway.settled()
    await say(gateway, "What is my salary?", {"x-openwebui-user-id": "u-bob"})
    assert "4711" not in sent(upstream)
    await say(gateway, "What is my salary?", {"x-openwebui-user-id": "u-alice"})
    assert "4711" in sent(upstream)


@pytest.mark.parametrize("changes", [ME])
async def test_the_default_user_ends_when_a_second_person_is_seen(
    gateway: Running, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    await say(gateway, "My salary is 4711 euros.", {"x-forwarded-user": "alice"})
    await gateway.settled()
    assert (await say(gateway, "What is my salary?", {"x-forwarded-user": "alice"})).headers["x-memory-status"] == "hit"
    for headers in ({"x-forwarded-user": "bob"}, {"x-forwarded-user": "alice"}, {}):
        reply = await say(gateway, "What is my salary?", headers)
        assert (reply.status, reply.headers["x-memory-status"]) == (200, "ambiguous")
        assert "4711" not in sent(upstream)
    assert [record.getMessage() for record in caplog.records].count("default_user_ended") == 1
    named = await say(gateway, "What is my salary?", {"x-memory-user": "me"})
    assert named.headers["x-memory-status"] == "hit"


async def test_a_header_tells_that_a_program_asks(gateway: Running, upstream: FakeUpstream) -> None:
    headers = {"x-memory-user": "ada", "x-memory-session": "one"}
    await say(gateway, "My boat is called Marlin.", headers)
    await gateway.settled()
    reply = await say(gateway, "What is my boat called?", headers | {"x-memory-task": "title"})
    assert "Marlin" not in sent(upstream)
    assert reply.headers["x-memory-tokens"] == "0"
    await gateway.settled()
    listed = await gateway.get("/v1/memory/list?user=ada&limit=1000")
    assert "What is my boat" not in listed.body.decode()


async def test_only_the_users_words_of_an_agents_request_are_remembered(gateway: Running) -> None:
    headers = {"x-memory-user": "ada", "x-memory-session": "one"}
    details = "<environment_details>cwd /x</environment_details>"
    task = f"<task>\nMy server is called Borg. How long is a.txt?\n</task>\n{details}"
    result = f"[read_file for 'a.txt'] Result:\nsecret file text\n{details}"
    messages = [{"role": "user", "content": task}]
    await say(gateway, "", headers, messages=messages)
    messages += [{"role": "assistant", "content": "<read_file>"}, {"role": "user", "content": result}]
    await say(gateway, "", headers, messages=messages)
    await gateway.settled()
    listed = (await gateway.get("/v1/memory/list?user=ada&limit=1000")).body.decode()
    assert "My server is called Borg. How long is a.txt?" in listed
    for text in ("secret file text", "cwd /x", "<task>"):
        assert text not in listed


async def test_encoded_images_are_not_remembered(gateway: Running, upstream: FakeUpstream) -> None:
    headers = {"x-memory-user": "ada", "x-memory-session": "one"}
    upstream.reply = "Here: ![i](data:image/png;base64," + "iVBORw0KGgo" * 4000 + ") your parrot Kiwi."
    await say(gateway, "Draw my parrot Kiwi. data:image/gif;base64,R0lGODlhAQABAAAAACw=", headers)
    await gateway.settled()
    listed = (await gateway.get("/v1/memory/list?user=ada&limit=1000")).body.decode()
    assert "iVBORw0KGgo" not in listed
    assert "R0lGOD" not in listed
    assert "[image]" in listed


async def test_every_message_since_the_last_answer_is_remembered_once(gateway: Running) -> None:
    headers = {"x-memory-user": "ada", "x-memory-session": "one"}
    first = [{"role": "user", "content": "My sister Hanna lives in Bergen."}]
    await say(gateway, "", headers, messages=first)
    both = [*first, {"role": "user", "content": "My brother Ole lives in Oslo."}]
    await say(gateway, "", headers, messages=both)
    await say(gateway, "", headers, messages=[*both, {"role": "assistant", "content": "{"}])
    await gateway.settled()
    listed = (await gateway.get("/v1/memory/list?user=ada&limit=1000")).body.decode()
    assert (listed.count("Hanna"), listed.count("Ole")) == (1, 1)


async def test_two_chats_that_open_alike_are_two_conversations(gateway: Running, upstream: FakeUpstream) -> None:
    for answer in ("Hello!", "Good day."):
        upstream.reply = answer
        headers = {"x-memory-user": "ada"}
        await say(gateway, "Hi there, old friend", headers)
        history = [{"role": "user", "content": "Hi there, old friend"}, {"role": "assistant", "content": answer}]
        more = {"role": "user", "content": f"I was told: {answer}"}
        await say(gateway, "", headers, messages=[*history, more])
    await gateway.settled()
    listed = (await gateway.get("/v1/memory/list?user=ada&limit=1000")).json
    told = [memory for memory in listed["data"] if memory["text"].startswith("I was told")]
    sessions = {memory["session_id"] for memory in told}
    assert (len(told), len(sessions)) == (2, 2)
