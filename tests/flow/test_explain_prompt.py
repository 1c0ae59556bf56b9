"""The prompt in an explanation: as the model got it, with the places of its blocks, for those who may see it."""

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.formats import speaks_responses
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream, says

FACT, QUESTION = "My cat is called Miso.", "What is my cat called?"
HEADERS = {"x-memory-user": "ada", "x-memory-session": "asks"}
MESSAGES = [{"role": "system", "content": "Be brief 🙂."}, {"role": "user", "content": QUESTION}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
FATES = {
    "injected": "injected",
    "too_long": "too long for the model",
    "in_prompt": "in the prompt anyway",
    "duplicate": "the same as another",
    "covered": "said there anyway",
    "over_limit": "over recall.top_k",
    "over_budget": "over the token budget",
    "plugin": "left out by a plugin",
    "not_needed": "request needs no memory",
    "not_relevant": "not relevant enough",
}


async def explained(gateway: Running, turn_id: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    reply = await gateway.get(f"/v1/memory/explain/{turn_id}", headers)
    assert reply.status == 200, reply.body
    explanation: dict[str, Any] = reply.json
    assert all(FATES[candidate["fate"]] == candidate["outcome"] for candidate in explanation["candidates"])
    return explanation


async def told(gateway: Running) -> None:
    await gateway.chat(FACT, session="says")
    await gateway.settled()


async def ask(gateway: Running, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask for the fact with this body, and return the explanation."""
    reply = await gateway.post(path, body, HEADERS)
    assert (reply.status, reply.headers["x-memory-status"]) == (200, "hit"), reply.body
    return await explained(gateway, reply.headers["x-gateway-request-id"])


def at(body: Any, pointer: str) -> Any:
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
    return reduce(lambda value, step: value[int(step)] if isinstance(value, list) else value[step], steps, body)


def blocks(prompt: dict[str, Any]) -> list[str]:
    return [at(prompt["body"], place["pointer"])[place["start"] : place["end"]] for place in prompt["blocks"]]


CHAT = {"model": "fake-1", "messages": MESSAGES}
ANTHROPIC = {"model": "fake-1", "max_tokens": 100, "system": "Be brief.", "messages": MESSAGES[1:]}
RESPONSE = {"model": "fake-1", "input": QUESTION, "instructions": "Be brief."}


CASES: dict[str, tuple[str, dict[str, Any], Callable[..., Any] | None, tuple[str, str]]] = {
    "chat": ("/v1/chat/completions", CHAT, None, ("/messages/1/content", "/messages/0/content")),
    "parts": (
        "/v1/chat/completions",
        CHAT | {"messages": PARTS},
        None,
        ("/messages/0/content/0/text", "/messages/0/content"),
    ),
    "messages": ("/v1/messages", ANTHROPIC, None, ("/messages/0/content", "/system")),
    "responses": ("/v1/responses", RESPONSE, speaks_responses(), ("/input", "/instructions")),
}


@pytest.mark.parametrize("placement", ["tail", "system"])
@pytest.mark.parametrize("case", CASES)
async def test_the_block_is_where_it_is_said_to_be(
    tmp_path: Path, upstream: FakeUpstream, case: str, placement: str
) -> None:
    path, body, script, pointers = CASES[case]
    config = configuration(tmp_path, upstream.url, memory__recall__placement=placement)
    async with running_gateway(config) as gateway:
        await told(gateway)
        upstream.script = script
        explanation = await ask(gateway, path, body)
    prompt = explanation["prompt"]
    assert explanation["content"] is True
    assert explanation["request"] == {"path": path, "body": body}
    assert prompt["path"] == path
    if upstream.last.path == path:  # not translated for the upstream
        assert prompt["body"] == upstream.last.json
    (text,) = blocks(prompt)
    assert FACT in text
    assert text.rstrip() == explanation["injected"]["text"].rstrip()
    assert prompt["blocks"][0]["pointer"] == pointers[placement == "system"]
    assert prompt["blocks"][0]["is_current"] is True


async def test_a_memos_chat_has_its_prompt_too(gateway: Running, upstream: FakeUpstream) -> None:
    asked = {"user_id": "ada", "query": QUESTION}
    await told(gateway)
    explanation = await ask(gateway, "/product/chat/complete", asked)
    assert explanation["request"]["path"] == "/product/chat/complete"
    assert explanation["prompt"]["path"] == "/v1/chat/completions"
    assert explanation["prompt"]["body"] == upstream.last.json | {"model": "default"}
    (text,) = blocks(explanation["prompt"])
    assert FACT in text


@pytest.mark.parametrize("changes", [{"memory__recall__placement": "sticky"}])
async def test_blocks_of_earlier_turns_are_told_apart(gateway: Running, upstream: FakeUpstream) -> None:
    for number, fact in enumerate((FACT, "My sister Ines studies law in Porto.")):
        await gateway.chat(fact, session=f"s{number}")
    await gateway.settled()
    first = {"role": "user", "content": QUESTION}
    await gateway.chat("", session="now", messages=[first])
    more = [first, {"role": "assistant", "content": "Miso."}, {"role": "user", "content": "What does my sister study?"}]
    reply = await gateway.chat("", session="now", messages=more)
    explanation = await explained(gateway, reply.headers["x-gateway-request-id"])
    prompt = explanation["prompt"]
    assert prompt["body"] == upstream.last.json
    assert [(place["pointer"], place["is_current"]) for place in prompt["blocks"]] == [
        ("/messages/0/content", False),
        ("/messages/2/content", True),
    ]
    earlier, current = blocks(prompt)
    assert FACT in earlier
    assert current == explanation["injected"]["text"]
    fates = {candidate["text"]: candidate["fate"] for candidate in explanation["candidates"]}
    assert all(fate != "injected" for text, fate in fates.items() if text in earlier and text not in current), fates
    assert "plugin" not in fates.values()
    assert "in_prompt" in fates.values()
    again = await gateway.chat("", session="now", messages=[first])
    kept = await explained(gateway, again.headers["x-gateway-request-id"])
    assert (kept["status"], kept["reason"], kept["candidates"]) == ("hit", "kept", [])
    assert kept["injected"]["count"] == int(again.headers["x-memory-count"])
    assert [place["is_current"] for place in kept["prompt"]["blocks"]] == [True]


async def test_a_prompt_that_went_up_without_its_block_is_shown_so(gateway: Running, upstream: FakeUpstream) -> None:
    await told(gateway)
    error = {"error": {"message": "too long", "type": "x", "code": "context_length_exceeded"}}
    refuse = says(400, error)

    async def script(request: Any) -> Any:
        return await (refuse if FACT in upstream.last.body.decode() else upstream.default)(request)

    upstream.script = script
    reply = await gateway.post("/v1/chat/completions", CHAT, HEADERS)
    assert reply.headers["x-memory-status"] == "degraded"
    explanation = await explained(gateway, reply.headers["x-gateway-request-id"])
    assert (explanation["prompt"]["body"], explanation["prompt"]["blocks"]) == (CHAT, [])
    assert "too_long" in [candidate["fate"] for candidate in explanation["candidates"]]


@pytest.mark.parametrize("changes", [{"console__content": False}])
async def test_without_content_there_is_no_prompt(gateway: Running) -> None:
    await told(gateway)
    explanation = await ask(gateway, "/v1/chat/completions", CHAT)
    assert (explanation["content"], explanation["prompt"], explanation["request"]) == (False, None, None)
    assert explanation["query"] == QUESTION


async def test_a_large_prompt_is_left_out(gateway: Running) -> None:
    large = CHAT | {"messages": [{"role": "system", "content": "x" * 300_000}, MESSAGES[1]]}
    await told(gateway)
    explanation = await ask(gateway, "/v1/chat/completions", large)
    assert (explanation["prompt"], explanation["prompt_omitted"]) == (None, "too_large")


KEYS: list[dict[str, Any]] = [
    {"key": "key-of-ada", "tenant": "t", "user": "ada"},
    {"key": "key-of-bob", "tenant": "t", "user": "bob"},
    {"key": "key-of-admin", "tenant": "t", "rights": ["chat", "memory", "admin"]},
    {"key": "key-of-other", "tenant": "other", "rights": ["chat", "memory", "admin"]},
]


def key(name: str) -> dict[str, str]:
    return {"x-gateway-key": f"key-of-{name}"}


async def test_a_change_drops_only_the_explanations_that_read_the_scope(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, auth__keys=KEYS, console__content=True)
    async with running_gateway(config) as gateway:
        turns = {}
        for user in ("ada", "bob"):
            await gateway.chat(FACT, user=user, session="says", headers=key(user))
            await gateway.settled()
            turns[user] = (await gateway.chat(QUESTION, user=user, headers=key(user))).headers["x-gateway-request-id"]
        for name in ("bob", "other"):
            assert (await gateway.get(f"/v1/memory/explain/{turns['ada']}", key(name))).status == 404
        deleted = {"user_id": "ada", "writable_cube_ids": ["ada"]}
        assert (await gateway.post("/product/delete_memory", deleted, key("ada"))).status == 200
        assert (await gateway.get(f"/v1/memory/explain/{turns['ada']}", key("ada"))).status == 404
        assert FACT in str((await explained(gateway, turns["bob"], key("bob")))["prompt"]["body"])


async def test_a_forgotten_user_is_in_no_explanation(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, auth__keys=KEYS, console__content=True)
    async with running_gateway(config) as gateway:
        turns = {}
        for name in ("ada", "bob", "other"):  # nothing of them is stored
            headers = key(name) | {"x-memory-mode": "read"}
            reply = await gateway.chat(QUESTION, user="bob" if name == "bob" else "ada", headers=headers)
            turns[name] = reply.headers["x-gateway-request-id"]
        assert (await gateway.post("/v1/memory/forget", {"user": "ada"}, key("admin"))).status == 200
        status = {
            name: (await gateway.get(f"/v1/memory/explain/{id_}", key(name))).status for name, id_ in turns.items()
        }
        assert status == {"ada": 404, "bob": 200, "other": 200}
