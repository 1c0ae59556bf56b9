"""The native MemOS family over raw HTTP: shapes, messages, paging, deleting, the scheduler, errors."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from docx import Document as Docx

from gateway.service import memories
from gateway.storage.errors import StorageError
from gateway.storage.lance.buckets import Buckets
from tests.fakes.running import Running, configuration, eventually, running_gateway
from tests.fakes.upstream import FakeUpstream, completion, says


async def add(gateway: Running, *texts: str, **fields: Any) -> Any:
    messages = [{"role": "user", "content": text} for text in texts]
    body = {"user_id": "ada", "messages": messages, "async_mode": "sync", "session_id": "s1", **fields}
    reply = await gateway.post("/product/add", body)
    assert (reply.status, reply.json["message"]) == (200, "Memory added successfully"), reply.body
    return reply.json["data"]


async def post(gateway: Running, path: str, **body: Any) -> Any:
    reply = await gateway.post(f"/product{path}", body)
    assert (reply.status, reply.json["code"]) == (200, 200), reply.body
    return reply.json


async def found(gateway: Running, query: str, **fields: Any) -> list[str]:
    answer = await post(gateway, "/search", user_id="ada", query=query, relativity=0, **fields)
    return [item["memory"] for group in answer["data"]["text_mem"] for item in group["memories"]]


async def test_a_search_has_all_lists_and_the_preferences_apart(gateway: Running) -> None:
    await add(gateway, "I prefer oat milk in my coffee.", "The coffee machine is broken.")
    answer = await post(gateway, "/search", user_id="ada", query="coffee", relativity=0)
    assert answer["message"] == "Search completed successfully"
    data = answer["data"]
    assert set(data) == {
        "text_mem", "pref_mem", "tool_mem", "skill_mem", "act_mem", "para_mem", "pref_note", "pref_string",
    }  # fmt: skip
    (liked,) = data["pref_mem"][0]["memories"]
    assert liked["metadata"]["preference_type"] == "explicit_preference"
    assert liked["metadata"]["memory_type"] == "PreferenceMemory"
    assert data["pref_note"]
    assert data["text_mem"][0]["total_nodes"] == 2
    without = await post(gateway, "/search", user_id="ada", query="coffee", include_preference=False)
    assert without["data"]["pref_mem"][0]["memories"] == []
    assert without["data"]["pref_note"] == ""


async def test_searching_leaves_out_copies_unless_they_are_wanted(gateway: Running) -> None:
    await add(gateway, "The bicycle needs a new chain.")
    await add(gateway, "The bicycle needs a new chain!")
    assert len(await found(gateway, "bicycle chain")) == 1
    assert len(await found(gateway, "bicycle chain", dedup="no")) == 2


async def test_a_search_can_be_for_one_type_of_memory(gateway: Running) -> None:
    messages = [{"role": "user", "content": "A blue kite."}, {"role": "assistant", "content": "Your kite is blue."}]
    await gateway.post("/product/add", {"user_id": "ada", "messages": messages, "async_mode": "sync"})
    assert await found(gateway, "kite", search_memory_type="UserMemory") == ["A blue kite."]
    assert await found(gateway, "kite", search_memory_type="LongTermMemory") == ["Your kite is blue."]


async def test_a_cube_is_paged_through_newest_first(gateway: Running) -> None:
    for number in range(5):
        at = f"2026-01-0{number + 1}"
        messages = [{"role": "user", "content": f"note {number}", "chat_time": at}]
        await gateway.post("/product/add", {"user_id": "ada", "messages": messages, "async_mode": "sync"})
    page = await post(gateway, "/get_memory", mem_cube_id="ada", page=2, page_size=2)
    (group,) = page["data"]["text_mem"]
    assert [item["memory"] for item in group["memories"]] == ["note 2", "note 1"]
    assert (group["cube_id"], group["total_nodes"]) == ("ada", 5)
    whole = await post(gateway, "/get_memory_dashboard", mem_cube_id="ada", include_tool_memory=False)
    assert len(whole["data"]["text_mem"][0]["memories"]) == 5
    assert whole["data"]["tool_mem"] == []
    assert whole["data"]["memory_statistics"] == {"total": 5, "by_type": {"UserMemory": 5}}
    recall_options = {"and": [{"created_at": {"gte": "2026-01-02", "lte": "2026-01-03"}}]}
    some = await post(gateway, "/get_memory", mem_cube_id="ada", filter=recall_options)
    assert [item["memory"] for item in some["data"]["text_mem"][0]["memories"]] == ["note 2", "note 1"]


async def test_memories_are_read_by_id_in_three_forms(gateway: Running) -> None:
    (item,) = await add(gateway, "One thing.")
    memory_id = item["memory_id"]
    one = await gateway.get(f"/product/get_memory/{memory_id}")
    assert (one.json["message"], one.json["data"]["memory"]) == ("Memory retrieved successfully", "One thing.")
    none = await gateway.get("/product/get_memory/" + "a" * 32)
    assert (none.status, none.json["data"]) == (200, None)
    assert none.json["message"] == f"Memory with ID {'a' * 32} not found"
    several = await gateway.post("/product/get_memory_by_ids", [memory_id, "b" * 32])
    assert [one["id"] for one in several.json["data"]["memories"]] == [memory_id]
    names = await post(gateway, "/get_user_names_by_memory_ids", memory_ids=[memory_id, "b" * 32])
    assert names["data"] == {memory_id: "ada", "b" * 32: None}
    hyphens = f"{memory_id[:8]}-{memory_id[8:12]}-{memory_id[12:16]}-{memory_id[16:20]}-{memory_id[20:]}"
    assert (await gateway.get(f"/product/get_memory/{hyphens}")).json["data"]["id"] == memory_id


async def test_the_whole_of_a_cube_is_a_graph(gateway: Running) -> None:
    await add(gateway, "I prefer tea.")
    answer = await post(gateway, "/get_all", user_id="ada", memory_type="text_mem")
    ((cube),) = answer["data"]
    (graph,) = cube["memories"]
    assert len(graph["nodes"]) == 2
    assert len(graph["edges"]) == 1, "the preference points at the message that it comes from"
    assert cube["memory_statistics"] == {"UserMemory": 1, "PreferenceMemory": 1}
    assert (await post(gateway, "/get_all", user_id="ada", memory_type="act_mem"))["data"][0]["memory_statistics"] == {}


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ({"session_id": "s2"}, {"one", "two"}),
        ({"conversation_id": "s2"}, {"one", "two"}),
        ({"filter": {"tags": {"contains": "t"}}}, {"two", "three"}),
        ({}, set()),
    ],
)
async def test_deleting_by_condition(gateway: Running, condition: dict[str, Any], left: set[str]) -> None:
    await add(gateway, "one", custom_tags=["t"])
    await add(gateway, "two")
    await add(gateway, "three", session_id="s2")
    answer = await post(gateway, "/delete_memory", user_id="ada", **condition)
    assert (answer["message"], answer["data"]) == ("Memories deleted successfully", {"status": "success"})
    assert set(await found(gateway, "one two three")) == left


@pytest.mark.parametrize(
    "body", [{}, {"user_id": "ada", "filter": {}}, {"memory_ids": ["a"], "file_ids": ["b"]}, {"memory_ids": []}]
)
async def test_deleting_without_saying_what_is_a_400(gateway: Running, body: dict[str, Any]) -> None:
    for path in ("/product/delete_memory", "/product/delete/memory"):
        reply = await gateway.post(path, body)
        assert (reply.status, reply.json["code"]) == (400, 400)


async def test_a_deleted_memory_is_gone_from_every_chat_at_once(gateway: Running, upstream: FakeUpstream) -> None:
    (item,) = await add(gateway, "The safe is behind the painting.")
    await post(gateway, "/delete_memory", memory_ids=[item["memory_id"]])
    await gateway.post("/product/chat/complete", {"user_id": "ada", "query": "Where is the safe?", "relativity": 0})
    assert b"painting" not in upstream.last.body
    await gateway.chat("Where is the safe?", user="ada")
    assert b"painting" not in upstream.last.body


async def test_what_was_deleted_stays_gone_even_before_the_store_knows(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path, upstream.url)
    monkeypatch.setattr(memories, "_PATIENCE", 0.1)
    async with running_gateway(config) as first:
        (item,) = await add(first, "The safe is behind the painting.")

        async def fail(*_: Any, **__: Any) -> None:
            raise StorageError("store", "out of order")

        monkeypatch.setattr(Buckets, "write", fail)
        await post(first, "/delete_memory", memory_ids=[item["memory_id"]])
        await first.chat("Where is the safe?", user="ada")
        assert b"painting" not in upstream.last.body
    async with running_gateway(config) as again:
        answer = await again.chat("Where is the safe?", user="ada")
        assert answer.headers["x-memory-status"] == "miss"
        assert b"painting" not in upstream.last.body


async def test_a_memory_is_taken_out_and_brought_back(gateway: Running) -> None:
    (item,) = await add(gateway, "A hidden thing.")
    memory_id = item["memory_id"]
    await post(gateway, "/delete_memory_by_record_id", mem_cube_id="ada", record_id=memory_id)
    assert await found(gateway, "hidden thing") == []
    await post(gateway, "/recover_memory_by_record_id", mem_cube_id="ada", delete_record_id=memory_id)
    assert await found(gateway, "hidden thing") == ["A hidden thing."]
    await post(gateway, "/delete_memory_by_record_id", mem_cube_id="ada", record_id=memory_id, hard_delete=True)
    gone = await gateway.post(
        "/product/recover_memory_by_record_id", {"mem_cube_id": "ada", "delete_record_id": memory_id}
    )
    assert gone.status == 404


async def test_cubes_are_made_and_known(gateway: Running) -> None:
    made = await post(gateway, "/create_cube", cube_name="work", owner_id="ada")
    assert (made["message"], made["data"]["cube_id"]) == ("Cube created successfully", "work")
    assert (await post(gateway, "/exist_mem_cube_id", mem_cube_id="work"))["data"] == {"work": True}
    assert (await post(gateway, "/exist_mem_cube_id", mem_cube_id="play"))["data"] == {"play": False}
    registered = await post(gateway, "/register_cube", mem_cube_name_or_path="/etc/passwd", user_id="ada")
    assert registered["data"] == {"cube_id": "/etc/passwd", "cube_name_or_path": "/etc/passwd"}


async def test_tasks_are_followed_by_the_scheduler(gateway: Running) -> None:
    body = {"user_id": "ada", "messages": "Remember this.", "task_id": "my-task"}
    await gateway.post("/product/add", body)
    waited = await gateway.post("/product/scheduler/wait?user_name=ada&timeout_seconds=10&poll_interval=0.05", {})
    assert "code" not in waited.json
    assert waited.json["message"] == "idle"
    assert waited.json["data"]["timed_out"] is False
    status = await gateway.get("/product/scheduler/status?user_id=ada&task_id=my-task")
    assert status.json["data"] == [{"task_id": "my-task", "status": "completed"}]
    assert (await gateway.get("/product/scheduler/status?user_id=ada&task_id=none")).status == 404
    every = await gateway.get("/product/scheduler/allstatus")
    assert every.json["data"]["all_tasks_summary"]["completed"] == 1
    queue = await gateway.get("/product/scheduler/task_queue_status?user_id=ada")
    assert queue.json["data"]["remaining_tasks_count"] == 0
    stream = await gateway.get("/product/scheduler/wait/stream?user_name=ada")
    assert json.loads(stream.body.removeprefix(b"data: "))["status"] == "idle"
    assert (await gateway.get("/product/scheduler/status")).status == 400
    bad = await gateway.post("/product/scheduler/wait?user_name=ada&timeout_seconds=soon", {})
    assert bad.status == 400


async def test_files_in_messages_and_in_word_become_memories_with_their_place(gateway: Running) -> None:
    document = Docx()
    document.add_heading("Ferien", 1)
    document.add_paragraph("Wir fahren im Juli nach Graz.")
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "Hotel", "Wiesler"
    packed = io.BytesIO()
    document.save(packed)
    file = {"filename": "plan.docx", "file_data": base64.b64encode(packed.getvalue()).decode()}
    body = {"user_id": "ada", "messages": [{"type": "file", "file": file}], "async_mode": "sync"}
    reply = await gateway.post("/product/add", body)
    (item,) = reply.json["data"]
    assert item["memory_type"] == "RawFileMemory"
    (shown,) = (await post(gateway, "/search", user_id="ada", query="Wiesler Graz", relativity=0))["data"]["text_mem"]
    (source,) = shown["memories"][0]["metadata"]["sources"]
    assert (source["file_info"]["name"], source["heading"]) == ("plan.docx", "Ferien")


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.exe", b"MZ", "cannot be read"),
        ("a.pdf", b"%PDF-1.4 broken", "broken"),
        ("a.docx", b"PK nonsense", "broken"),
        ("a.txt", b"   ", "no text"),
    ],
)
async def test_a_file_that_cannot_be_read_fails_with_its_reason(
    gateway: Running, name: str, content: bytes, error: str
) -> None:
    id_ = (await post(gateway, "/create/knowledgebase", knowledgebase_name="K"))["data"]["id"]
    file = {"name": name, "content": base64.b64encode(content).decode()}
    await post(gateway, "/add/knowledgebase-file", knowledgebase_id=id_, file=[file])

    async def listed() -> Any:
        return (await post(gateway, "/get/knowledgebase-file", knowledgebase_id=id_))["data"]["file_detail_list"][0]

    async def has_failed() -> bool:
        return bool((await listed())["status"] == "failed")

    await eventually(has_failed)
    assert error in (await listed())["error"]


async def test_web_addresses_are_refused_unless_the_operator_allows_them(gateway: Running) -> None:
    id_ = (await post(gateway, "/create/knowledgebase", knowledgebase_name="K"))["data"]["id"]
    file = {"name": "a.txt", "content": "http://127.0.0.1:1/a.txt"}
    reply = await gateway.post("/product/add/knowledgebase-file", {"knowledgebase_id": id_, "file": [file]})
    assert (reply.status, "not allowed" in reply.json["message"]) == (400, True)


@pytest.mark.parametrize("changes", [{"memory__documents__allow_urls": True}])
async def test_private_addresses_are_never_fetched(gateway: Running, upstream: FakeUpstream) -> None:
    id_ = (await post(gateway, "/create/knowledgebase", knowledgebase_name="K"))["data"]["id"]
    port = upstream.url.rsplit(":", 1)[1].removesuffix("/v1")
    for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "169.254.169.254", "[::ffff:127.0.0.1]"):
        file = {"name": "a.txt", "content": f"http://{host}:{port}/x"}
        reply = await gateway.post("/product/add/knowledgebase-file", {"knowledgebase_id": id_, "file": [file]})
        assert reply.status == 400, host
    assert upstream.received == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/product/nothing", "{}", 404),
        ("GET", "/product/chat", "", 405),
        ("POST", "/product/search", "{", 400),
        ("POST", "/product/search", "[]", 400),
        ("POST", "/product/search", '{"user_id":"u"}', 400),
        ("POST", "/product/search", '{"query":"","user_id":"u"}', 400),
        ("POST", "/product/search", '{"query":"q"}', 400),
        ("POST", "/product/add", '{"user_id":"u","messages":[]}', 400),
        ("POST", "/product/add", '{"user_id":"u","doc_path":"/etc/passwd"}', 400),
        ("POST", "/product/update/memory", '{"memory_id":"x"}', 400),
        ("POST", "/product/get/memory", '{"user_id":"u","agent_id":"a"}', 400),
        ("POST", "/product/get/memory", '{"user_id":"u","size":51}', 400),
        ("POST", "/api/openmem/v1/nothing", "{}", 404),
        ("POST", "/api/openmem/v1/chat", '{"query":"q"}', 400),
    ],
)
async def test_every_error_is_an_envelope(gateway: Running, method: str, path: str, body: str, status: int) -> None:
    async with gateway.session.request(method, gateway.url + path, data=body) as response:
        answer = await response.json()
    assert (response.status, answer["code"], answer["data"]) == (status, status, None)
    assert "Traceback" not in answer["message"]


async def test_a_repeated_add_of_the_client_is_kept_once(gateway: Running) -> None:
    body = {"user_id": "ada", "messages": [{"role": "user", "content": "Once only."}], "async_mode": False}
    for _ in range(3):
        assert (await gateway.post("/product/add/message", body)).status == 200
    assert await found(gateway, "Once only", dedup="no") == ["Once only."]


@pytest.mark.parametrize(
    "condition", [{"tags": {"has": "x"}}, {"and": [{"tags": {"has": "x"}}]}, {"cube": {"tags": 1}}]
)
async def test_a_malformed_filter_deletes_nothing(gateway: Running, condition: dict[str, Any]) -> None:
    await add(gateway, "Keep me.")
    for path in ("/product/delete_memory", "/product/delete/memory"):
        body = {"user_id": "ada", "filter": condition} if path == "/product/delete_memory" else {"filter": condition}
        assert (await gateway.post(path, body)).status == 400
    assert await found(gateway, "Keep me") == ["Keep me."]


async def test_deleting_by_the_filter_of_one_cube_leaves_the_others_alone(gateway: Running) -> None:
    await add(gateway, "Mine.")
    await add(gateway, "Of the work.", writable_cube_ids=["work"])
    await post(gateway, "/delete_memory", user_id="ada", filter={"work": {"and": [{"memory": {"like": "work"}}]}})
    assert await found(gateway, "Mine of the work", readable_cube_ids=["ada", "work"]) == ["Mine."]


async def test_conditions_of_a_deletion_hold_together(gateway: Running) -> None:
    await add(gateway, "To alpha.", agent_id="alpha")
    (item,) = await add(gateway, "To nobody.")
    await post(gateway, "/delete_memory", memory_ids=[item["memory_id"]], writable_cube_ids=["other"])
    await post(gateway, "/delete_memory", user_id="ada", agent_id="alpha")
    assert await found(gateway, "to alpha nobody") == ["To nobody."]


async def test_what_was_deleted_may_be_said_again(gateway: Running) -> None:
    body = {"user_id": "ada", "messages": "I like plums a lot.", "async_mode": False}
    await gateway.post("/product/add/message", body)
    await gateway.post("/product/delete/memory", {"user_id": "ada"})
    await gateway.post("/product/add/message", body)
    assert await found(gateway, "plums") == ["I like plums a lot."]


async def test_an_answer_that_rests_on_a_deleted_memory_is_not_given_again(
    gateway: Running, upstream: FakeUpstream
) -> None:
    await add(gateway, "The safe is behind the painting.")
    ask = {"user_id": "ada", "query": "Where is the safe?", "relativity": 0}
    for stored in (False, True):
        await gateway.post("/product/chat", {**ask, "add_message_on_answer": stored})
    await gateway.post("/product/delete/memory", {"user_id": "ada"})
    for stored in (False, True):
        reply = await gateway.post("/product/chat", {**ask, "add_message_on_answer": stored})
        assert "x-gateway-replayed" not in reply.headers
        assert b"painting" not in upstream.last.body


async def test_doubled_slashes_keep_the_query_string(gateway: Running) -> None:
    reply = await gateway.get("/product//scheduler/status?user_id=ada")
    assert (reply.status, reply.json["data"]) == (200, [])


async def test_citations_are_answered_and_not_remembered(gateway: Running, upstream: FakeUpstream) -> None:
    upstream.script = says(200, completion("In Linz [1:abcdef12]."))
    body = {"user_id": "ada", "query": "Where?", "add_message_on_answer": True}
    for path in ("/product/chat/complete", "/product/chat"):
        assert (await gateway.post(path, body)).json["data"]["response"] == "In Linz [1:abcdef12]."
    await gateway.settled()
    assert "In Linz." in await found(gateway, "In Linz")


async def test_a_type_is_chosen_before_ranking(gateway: Running) -> None:
    messages = [{"role": "assistant", "content": f"Your kite number {n} is blue."} for n in range(30)]
    messages.append({"role": "user", "content": "I also own a boat, beside the kite."})
    await gateway.post("/product/add", {"user_id": "ada", "messages": messages, "async_mode": "sync"})
    assert len(await found(gateway, "blue kite number", search_memory_type="UserMemory", top_k=2)) == 1


async def test_numbers_over_their_cap_are_capped(gateway: Running) -> None:
    await add(gateway, "A kite.")
    for path in ("/product/search/memory", "/product/search", "/product/chat"):
        body = {"user_id": "ada", "query": "kite", "top_k": 100_000, "pref_top_k": 5000, "relativity": 1.5}
        assert (await gateway.post(path, body)).status == 200


async def test_files_take_half_of_the_places_at_the_most(gateway: Running) -> None:
    await add(gateway, *(f"The kite {n} flew over the {w} hill." for n, w in enumerate(("red", "high", "far", "old"))))
    text = "\n\n".join(f"# K{n}\n\nKite {n}: the kite flies over hill number {n}." for n in range(6))
    file = {"filename": "kites.md", "file_data": base64.b64encode(text.encode()).decode()}
    body = {"user_id": "ada", "messages": [{"type": "file", "file": file}], "async_mode": "sync"}
    assert (await gateway.post("/product/add", body)).status == 200
    answer = await post(
        gateway, "/search", user_id="ada", query="kite over the hill", relativity=0, top_k=4, dedup="no"
    )
    types = [item["metadata"]["memory_type"] for item in answer["data"]["text_mem"][0]["memories"]]
    assert (len(types), types.count("RawFileMemory") <= 2) == (4, True)


async def test_business_keys_are_those_of_the_environment(
    tmp_path: Path, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUSINESS_CHAT_KEYS", '["shop-key"]')
    async with running_gateway(configuration(tmp_path, upstream.url)) as running:
        await add(running, "My kite is blue.")
        path = "/product/chat/stream/business_user"
        body = {"user_id": "ada", "query": "What colour is my kite?", "relativity": 0, "business_key": "shop-key"}
        assert (await running.post(path, {**body, "business_key": "other"})).status == 403
        assert b'"type": "end"' in (await running.post(path, body)).body
        assert b"blue" not in upstream.last.body
        await running.post(path, {**body, "need_search": True})
        assert b"blue" in upstream.last.body


async def test_adding_with_a_model_extracts_when_it_is_asked_to(gateway: Running, upstream: FakeUpstream) -> None:
    facts = [{"text": "Owns a kite.", "turns": [1]}, {"text": "Owns a yacht in Monaco.", "turns": [1]}]
    upstream.script = says(200, completion(json.dumps({"facts": facts, "preferences": []})))
    plain = await add(gateway, "I got a kite today.")
    assert upstream.received == []
    fine = await add(gateway, "I got a second kite today.", mode="fine")
    assert (len(plain), [one["memory"] for one in fine]) == (1, ["I got a second kite today.", "Owns a kite."])


async def test_fields_that_items_show_can_be_filtered_by(gateway: Running) -> None:
    (item,) = await add(gateway, "A kite.", source="web", info={"user_id": "forged", "scene": "sky"})
    memory_id = item["memory_id"]
    dashed = f"{memory_id[:8]}-{memory_id[8:12]}-{memory_id[12:16]}-{memory_id[16:20]}-{memory_id[20:]}"
    for condition in ({"source": "conversation"}, {"source": "web"}, {"visibility": "private"}, {"id": dashed}):
        assert await found(gateway, "kite", filter=condition) == ["A kite."], condition
    (group,) = (await post(gateway, "/search", user_id="ada", query="kite", relativity=0))["data"]["text_mem"]
    assert group["memories"][0]["metadata"]["info"] == {"source": "web", "scene": "sky"}


async def test_a_cube_is_read_by_its_name_alone_and_its_messages_by_their_conversation(gateway: Running) -> None:
    await add(gateway, "Of the work.", writable_cube_ids=["work"], session_id="w")
    page = await post(gateway, "/get_memory", mem_cube_id="work")
    assert page["data"]["text_mem"][0]["total_nodes"] == 1
    said = await post(gateway, "/get/message", user_id="ada", conversation_id="w")
    assert [one["content"] for one in said["data"]["message_detail_list"]] == ["Of the work."]


async def test_the_clients_message_id_and_the_agents_own_copy_are_kept(gateway: Running) -> None:
    messages = [{"role": "user", "content": "A kite for two.", "message_id": "m-1"}]
    body = {"user_id": "ada", "agent_id": ["x1", "x2"], "messages": messages, "async_mode": False}
    await gateway.post("/product/add/message", body)
    listed = await gateway.post("/product/get/memory", {"agent_id": "x2"})
    (item,) = listed.json["data"]["memory_detail_list"]
    assert (item["agent_id"], item["sources"][0]["message_id"]) == ("x2", "m-1")


@pytest.mark.parametrize("path", ["/product/chat", "/product/search"])
async def test_a_question_of_white_space_is_none(gateway: Running, path: str) -> None:
    assert (await gateway.post(path, {"user_id": "ada", "query": " \n"})).status == 400
