"""What a hostile client of the MemOS routes tries: to stop others, to reach what is theirs, to make endless work."""

import asyncio
import base64
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.api.memos.events import CitationKeeper
from gateway.remember.documents import read_pieces
from tests.fakes.running import Running, configuration, eventually, running_gateway
from tests.fakes.upstream import FakeUpstream, completion, hangs, pause, says

KEYS = {"project": "key-of-the-project", "bob": "key-pinned-to-bob", "memory": "key-for-memory-only"}


@pytest.fixture
def changes() -> dict[str, Any]:
    return {
        "auth__keys": [
            {"key": KEYS["project"], "tenant": "acme"},
            {"key": KEYS["bob"], "tenant": "acme", "user": "bob", "rights": ["chat", "memory", "public"]},
            {"key": KEYS["memory"], "tenant": "acme", "rights": ["memory"]},
        ]
    }


async def post(gateway: Running, path: str, body: Any, key: str = "project") -> Any:
    return await gateway.post(f"/product{path}", body, {"authorization": f"Bearer {KEYS[key]}"})


async def knowledge_base(gateway: Running, **files: bytes) -> str:
    id_ = str((await post(gateway, "/create/knowledgebase", {"knowledgebase_name": "K"})).json["data"]["id"])
    if files:
        await upload(gateway, id_, **files)
    return id_


async def upload(gateway: Running, id_: str, **files: bytes) -> Any:
    listed = [
        {"name": name.replace("_", "."), "content": base64.b64encode(content).decode()}
        for name, content in files.items()
    ]
    return await post(gateway, "/add/knowledgebase-file", {"knowledgebase_id": id_, "file": listed})


async def statuses(gateway: Running, id_: str) -> dict[str, str]:
    listed = await post(gateway, "/get/knowledgebase-file", {"knowledgebase_id": id_})
    return {one["name"]: one["status"] for one in listed.json["data"]["file_detail_list"]}


async def test_a_file_name_that_is_no_text_stops_nobody(gateway: Running) -> None:
    id_ = await knowledge_base(gateway)
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="\xff\xfe.txt"\r\n\r\nhello\r\n--x--\r\n'
    url = f"{gateway.url}/product/add/knowledgebase-file?knowledgebase_id={id_}"
    told = {"authorization": f"Bearer {KEYS['project']}", "content-type": "multipart/form-data; boundary=x"}
    async with gateway.session.post(url, data=head, headers=told) as response:
        assert response.status in (200, 400)
    after = await post(gateway, "/add/message", {"user_id": "ada", "messages": "Still here."})
    assert after.status == 200


async def test_a_file_that_cannot_be_kept_fails_alone(gateway: Running) -> None:
    id_ = await knowledge_base(gateway, bad_json=b'{"a":"\\ud800 text"}', good_txt=b"A good text.")

    async def is_done() -> bool:
        found = await statuses(gateway, id_)
        return found["good.txt"] == "completed" and found["bad.json"] != "running"

    await eventually(is_done)


@pytest.mark.parametrize(
    "text", ["# a" + " " * 200_000 + "b\n\nx", "#" * 200_000, "# " + "A" * 100_000 + "\n\nx\n\n" * 500]
)
def test_headings_take_time_and_room_in_proportion(text: str) -> None:
    began = time.process_time()
    found = read_pieces("a.md", text.encode())
    assert time.process_time() - began < 2
    assert sum(len(piece.text) for piece in found) < 3 * len(text) + 1000


def test_a_model_that_begins_citations_without_end_costs_little() -> None:
    began = time.process_time()
    keeper = CitationKeeper()
    for _ in range(200):
        keeper.feed("[1:a" + ", " * 40 + "[1:a, " * 40)
    assert time.process_time() - began < 1


async def test_a_pinned_key_changes_nothing_that_is_shared(gateway: Running, upstream: FakeUpstream) -> None:
    id_ = await knowledge_base(gateway)
    for fields in ({"writable_cube_ids": [id_]}, {"allow_knowledgebase_ids": [id_]}):
        assert (await post(gateway, "/add", {"user_id": "bob", "messages": "Mine.", **fields}, "bob")).status == 403
    public = {"user_id": "ada", "messages": "The lift is out of order.", "allow_public": True, "async_mode": "sync"}
    assert (await post(gateway, "/add", public)).status == 200
    upstream.script = says(
        200, completion('{"updates": [{"number": 1, "text": "gone"}], "additions": [], "answer": ""}')
    )
    body = {"user_id": "bob", "feedback_content": "The lift works.", "history": None, "async_mode": "sync"}
    await post(gateway, "/feedback", {**body, "allow_public": True, "knowledgebase_ids": ["public"]}, "bob")
    found = await post(gateway, "/search/memory", {"user_id": "eve", "query": "lift", "knowledgebase_ids": ["public"]})
    assert "The lift is out of order." in [one["memory_value"] for one in found.json["data"]["memory_detail_list"]]


async def test_metadata_cannot_pass_for_our_own(gateway: Running) -> None:
    info = {"file_ids": 5, "corrects": True, "preference_type": 7, "free": "yes"}
    body = {"user_id": "bob", "messages": "A public note.", "info": info, "allow_public": True, "async_mode": "sync"}
    assert (await post(gateway, "/add", body, "bob")).status == 200
    for path in ("/search", "/search/memory"):
        asked = {"user_id": "ada", "query": "public note", "knowledgebase_ids": ["all"]}
        assert (await post(gateway, path, asked)).status == 200
    assert (await post(gateway, "/delete_memory", {"file_ids": ["x"]})).status == 200


async def test_a_task_of_the_same_name_is_another_users(gateway: Running) -> None:
    await post(gateway, "/add", {"user_id": "ada", "messages": "One.", "task_id": "T", "async_mode": "sync"})
    await post(gateway, "/add", {"user_id": "bob", "messages": "Two.", "task_id": "T", "async_mode": "sync"}, "bob")
    for user, key in (("ada", "project"), ("bob", "bob")):
        told = {"authorization": f"Bearer {KEYS[key]}"}
        status = await gateway.get(f"/product/scheduler/status?user_id={user}&task_id=T", told)
        assert status.json["data"] == [{"task_id": "T", "status": "completed"}]


async def test_a_file_deleted_while_it_is_read_leaves_nothing(gateway: Running) -> None:
    text = "\n\n".join(f"Paragraph {n} of the secret plan speaks of the harbour." * 8 for n in range(700))
    id_ = await knowledge_base(gateway, plan_txt=text.encode())
    asked = {"user_id": "ada", "query": "secret plan harbour", "knowledgebase_ids": [id_], "relativity": 0}

    async def is_found() -> bool:
        return bool((await post(gateway, "/search/memory", asked)).json["data"]["memory_detail_list"])

    await eventually(is_found, 30)
    files = (await post(gateway, "/get/knowledgebase-file", {"knowledgebase_id": id_})).json["data"]["file_detail_list"]
    deleted = await post(gateway, "/delete/knowledgebase-file", {"file_ids": [files[0]["id"]]})
    assert deleted.status == 200

    async def is_gone() -> bool:
        return not await is_found() and await gateway.gateway.memory.registry.unfinished_files() == []

    await eventually(is_gone, 30)


async def test_the_same_add_many_times_at_once_is_kept_once(gateway: Running) -> None:
    body = {"user_id": "ada", "messages": "Once only.", "async_mode": False}
    replies = await asyncio.gather(*(post(gateway, "/add/message", body) for _ in range(8)))
    assert {reply.status for reply in replies} == {200}
    listed = await post(gateway, "/get/memory", {"user_id": "ada"})
    assert listed.json["data"]["total"] == 1


async def test_an_answer_is_not_given_again_without_the_right_to_chat(gateway: Running) -> None:
    body = {"user_id": "ada", "query": "Hello?", "add_message_on_answer": True}
    assert (await post(gateway, "/chat", body)).status == 200
    assert (await post(gateway, "/chat", body, "memory")).status == 403


async def test_the_same_words_later_in_a_conversation_are_asked_again(gateway: Running, upstream: FakeUpstream) -> None:
    body = {"user_id": "ada", "conversation_id": "c", "add_message_on_answer": True}
    for query in ("Another one", "A different question", "Another one"):
        reply = await post(gateway, "/chat", {**body, "query": query})
        assert "x-gateway-replayed" not in reply.headers
    assert len(upstream.received) == 3


async def test_an_update_never_brings_back_what_was_deleted(gateway: Running) -> None:
    for number in range(5):
        body = {"user_id": "ada", "messages": f"Note number {number}.", "async_mode": "sync"}
        memory_id = (await post(gateway, "/add", body)).json["data"][0]["memory_id"]
        update = {"memory_id": memory_id, "content": "changed"}
        await asyncio.gather(
            post(gateway, "/update/memory", update),
            post(gateway, "/delete/memory", {"memory_ids": [memory_id]}),
            post(gateway, "/update/memory", update),
        )
    assert (await post(gateway, "/get/memory", {"user_id": "ada"})).json["data"]["total"] == 0


@pytest.mark.parametrize("changes", [{"plugins": [{"use": "redact"}]}])
async def test_secrets_are_hidden_in_updates_and_metadata_too(gateway: Running) -> None:
    secret = "sk-proj-" + "aB3" * 16
    body = {"user_id": "ada", "messages": "A note.", "info": {"k": [secret]}, "tags": [secret], "async_mode": "sync"}
    reply = await gateway.post("/product/add", body)
    memory_id = reply.json["data"][0]["memory_id"]
    update = {"memory_id": memory_id, "content": f"my key is {secret}", "title": secret}
    assert (await gateway.post("/product/update/memory", update)).status == 200
    shown = await gateway.get(f"/product/get/memory/{memory_id}")
    assert secret.encode() not in shown.body
    assert "[redacted]" in shown.json["data"]["content"]


async def test_feedback_is_on_the_disk_before_a_model_is_asked(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url)
    async with running_gateway(config) as first:
        upstream.script = hangs()
        body = {"user_id": "ada", "feedback_content": "My sister lives in Linz.", "conversation_id": "c"}
        reply = await first.post("/product/add/feedback", body)
        assert reply.json["data"]["status"] == "running"
        task_id = reply.json["data"]["task_id"]
        first.gateway.tasks.cancel_all()
    async with running_gateway(config) as again:
        await again.settled()
        found = await again.post("/product/search/memory", {"user_id": "ada", "query": "Where does my sister live?"})
        assert found.json["data"]["memory_detail_list"][0]["memory_value"] == "My sister lives in Linz."
        status = await again.post("/product/get/status", {"task_id": task_id})
        assert status.json["data"][0]["status"] in ("completed", "failed")


async def test_one_request_does_not_keep_the_others_waiting(gateway: Running) -> None:
    messages = [{"role": "user", "content": f"Note {n} about the harbour and the lighthouse."} for n in range(1500)]
    await post(gateway, "/add", {"user_id": "ada", "messages": messages, "async_mode": "sync"})
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await pause(0.01)
            longest = max(longest, time.perf_counter() - began)

    watching = asyncio.create_task(watch())
    values = [f"v{n}" for n in range(1000)]
    heavy: list[tuple[str, Any]] = [
        ("/search", {"user_id": "ada", "query": "harbour", "top_k": 1000, "relativity": 0}),
        ("/rerank", {"query": "q", "documents": ["a" * 300_000]}),
        ("/search", {"user_id": "ada", "query": "harbour", "filter": {"or": [{"memory": {"in": values}}] * 100}}),
    ]
    for path, body in heavy:
        assert (await post(gateway, path, body)).status in (200, 400)
    watching.cancel()
    assert longest < 3


@pytest.mark.parametrize("path", ["/chat", "/search", "/add", "/get/memory", "/delete_memory", "/rerank"])
async def test_a_form_where_json_belongs_is_a_400(gateway: Running, path: str) -> None:
    form = aiohttp.FormData()
    form.add_field("file", b"x", filename="a.txt")
    told = {"authorization": f"Bearer {KEYS['project']}"}
    async with gateway.session.post(f"{gateway.url}/product{path}", data=form, headers=told) as response:
        assert (response.status, (await response.json())["code"]) == (400, 400)


async def test_odd_types_deep_in_a_body_are_no_fault_of_ours(gateway: Running) -> None:
    messages = [
        {"role": "assistant", "content": "x", "tool_calls": [{"id": [1], "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": [1], "content": "y"},
    ]
    assert (await post(gateway, "/add", {"user_id": "ada", "messages": messages})).status == 200
    for user in (5, ["x"], {"a": 1}):
        body = {"bind_list": [{"profile_template_id": "t", "user_id": user}]}
        assert (await post(gateway, "/bind/profile_template", body)).status == 400


async def test_a_user_who_is_deleted_is_gone_from_agents_and_the_public_too(gateway: Running) -> None:
    body = {"user_id": "ada", "agent_id": "bot", "messages": "I own a kite.", "allow_public": True, "async_mode": False}
    await post(gateway, "/add/message", body)
    await post(gateway, "/delete/memory", {"user_id": "ada"})
    for asked in ({"agent_id": "bot"}, {"user_id": "eve", "knowledgebase_ids": ["public"]}):
        found = await post(gateway, "/search/memory", {**asked, "query": "kite", "relativity": 0})
        assert found.json["data"]["memory_detail_list"] == []


async def test_a_preference_goes_when_its_message_is_changed(gateway: Running) -> None:
    reply = await post(gateway, "/add", {"user_id": "ada", "messages": "I prefer tea.", "async_mode": "sync"})
    memory_id = reply.json["data"][0]["memory_id"]
    await post(gateway, "/update/memory", {"memory_id": memory_id, "content": "I drink coffee now."})
    found = await post(gateway, "/search/memory", {"user_id": "ada", "query": "tea or coffee", "relativity": 0})
    assert found.json["data"]["preference_detail_list"] == []
