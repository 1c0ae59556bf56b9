"""Every method of the real MemOSClient, unmodified, in both of its generations, over a real socket."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.clients import call_memos
from tests.fakes.running import Running, eventually
from tests.fakes.upstream import FakeUpstream

SAID = [
    {"role": "user", "content": "I am allergic to peanuts. I prefer window seats on trains."},
    {"role": "assistant", "content": "Noted, no peanuts."},
]


async def client(gateway: Running, *calls: tuple[str, dict[str, Any]], older: bool = False) -> Any:
    """What the calls returned, in order."""
    return await call_memos(f"{gateway.url}/product", *calls, older=older)


@pytest.mark.parametrize("older", [False, True], ids=["2.0.33", "2.0.23"])
async def test_messages_are_added_found_listed_and_deleted(gateway: Running, older: bool) -> None:
    added, searched, listed, messages = await client(
        gateway,
        (
            "add_message",
            {"messages": SAID, "user_id": "ada", "conversation_id": "c1", "async_mode": False, "tags": ["travel"]},
        ),
        ("search_memory", {"query": "What am I allergic to?", "user_id": "ada", "conversation_id": "c2"}),
        ("get_memory", {"user_id": "ada"}),
        ("get_message", {"user_id": "ada", "conversation_id": "c1"}),
        older=older,
    )
    assert added["data"]["success"] is True
    assert added["data"]["status"] == "completed"
    facts = searched["data"]["memory_detail_list"]
    assert SAID[0]["content"] in [one["memory_value"] for one in facts]
    assert facts[0]["tags"] == ["travel"]
    liked = listed["data"]["preference_detail_list"]
    assert {one["preference"] for one in liked} == {"I am allergic to peanuts.", "I prefer window seats on trains."}
    assert {one["preference_type"] for one in liked} == {"explicit_preference"}
    assert [one["content"] for one in messages["data"]["message_detail_list"]] == [one["content"] for one in SAID]
    (status,) = await client(gateway, ("get_task_status", {"task_id": added["data"]["task_id"]}), older=older)
    shown = status["data"][0] if older else status["data"]
    assert shown["status"] == "completed"
    memory_id = facts[0]["id"]
    gone = {"user_ids": ["ada"], "memory_ids": [memory_id]} if older else {"memory_ids": [memory_id]}
    deleted, after = await client(
        gateway,
        ("delete_memory", gone),
        ("search_memory", {"query": "What am I allergic to?", "user_id": "ada", "conversation_id": "c2"}),
        older=older,
    )
    assert deleted["data"]["success"] is True
    assert memory_id not in [one["id"] for one in after["data"]["memory_detail_list"]]
    assert after["data"]["preference_detail_list"] == [], "what was concluded from it goes with it"


async def test_a_memory_is_read_changed_and_archived_by_its_id(gateway: Running) -> None:
    _, found = await client(
        gateway,
        ("add_message", {"messages": SAID[:1], "user_id": "ada", "async_mode": False}),
        ("search_memory", {"query": "peanuts", "user_id": "ada"}),
    )
    memory_id = found["data"]["memory_detail_list"][0]["id"]
    read, changed, again, archived, after = await client(
        gateway,
        ("get_memory_by_id", {"memid": memory_id}),
        ("update_memory", {"memory_id": memory_id, "content": "I am allergic to walnuts.", "title": "Allergy"}),
        ("search_memory", {"query": "walnuts", "user_id": "ada", "include_preference": False}),
        ("update_memory", {"memory_id": memory_id, "status": "archived"}),
        ("search_memory", {"query": "walnuts", "user_id": "ada", "include_preference": False}),
    )
    assert read["data"]["content"] == SAID[0]["content"]
    assert read["data"]["status"] == "activated"
    assert changed["data"]["success"] is True
    (one,) = again["data"]["memory_detail_list"]
    assert (one["id"], one["memory_value"], one["title"]) == (memory_id, "I am allergic to walnuts.", "Allergy")
    assert archived["data"]["success"] is True
    assert after["data"]["memory_detail_list"] == []
    unknown = await gateway.get("/product/get/memory/" + "0" * 32)
    assert (unknown.status, unknown.json["code"]) == (404, 404)


async def test_knowledge_bases_take_files_and_are_read_only_when_named(
    gateway: Running, upstream: FakeUpstream, tmp_path: Path
) -> None:
    (made,) = await client(
        gateway,
        ("create_knowledgebase", {"knowledgebase_name": "Handbook", "knowledgebase_description": "House rules"}),
    )
    id_ = made["data"]["id"]
    text = "# Leave\n\nEmployees have 31 days of annual leave.\n\n# 差旅\n\n出差需要提前三天申请。"
    file = {"name": "rules.md", "type": "document", "content": base64.b64encode(text.encode()).decode()}
    form = tmp_path / "canteen.txt"
    form.write_text("The canteen closes at half past two.")
    as_json, as_form = await client(
        gateway,
        ("add_knowledgebase_file_json", {"knowledgebase_id": id_, "file": [file]}),
        ("add_knowledgebase_file_form", {"knowledgebase_id": id_, "files": [str(form)]}),
    )
    assert as_json["data"][0]["status"] == "running"
    ids = [as_json["data"][0]["id"], as_form["data"][0]["id"]]

    async def is_done() -> bool:
        listed = await gateway.post("/product/get/knowledgebase-file", {"knowledgebase_id": id_})
        return [one["status"] for one in listed.json["data"]["file_detail_list"]] == ["completed", "completed"]

    await eventually(is_done)
    query = {"user_id": "ada", "conversation_id": "c", "query": "How many days of annual leave?", "relativity": 0.2}
    without, named, every, searched = await client(
        gateway,
        ("chat", query),
        ("chat", {**query, "knowledgebase_ids": [id_]}),
        ("search_memory", {"query": "canteen closes", "user_id": "ada", "knowledgebase_ids": ["all"]}),
        ("search_memory", {"query": "出差申请", "user_id": "ada", "knowledgebase_ids": [id_], "relativity": 0.1}),
    )
    assert without["code"] == named["code"] == 200
    prompts = [request.json["messages"][0]["content"] for request in upstream.received]
    assert "31 days" not in prompts[0]
    assert "31 days" in prompts[1]
    assert every["data"]["memory_detail_list"][0]["memory_value"] == "The canteen closes at half past two."
    (source,) = searched["data"]["memory_detail_list"][0]["sources"]
    assert (source["file_info"]["name"], source["heading"]) == ("rules.md", "差旅")
    files, gone, after, dropped = await client(
        gateway,
        ("get_knowledgebase_file", {"file_ids": ids}),
        ("delete_knowledgebase_file", {"file_ids": ids[1:]}),
        ("search_memory", {"query": "canteen closes", "user_id": "ada", "knowledgebase_ids": [id_], "relativity": 0.3}),
        ("delete_knowledgebase", {"knowledgebase_id": id_}),
    )
    assert files["data"]["total"] == 2
    assert gone["data"]["success"] is True
    assert "canteen" not in json.dumps(after)
    assert dropped["data"]["success"] is True
    named_again = await gateway.post("/product/chat", {**query, "knowledgebase_ids": [id_]})
    assert (named_again.status, named_again.json["code"]) == (404, 404)


async def test_feedback_outranks_what_it_corrects_without_a_model(gateway: Running) -> None:
    told = [{"role": "user", "content": "My sister lives in Graz."}]
    _, given = await client(
        gateway,
        ("add_message", {"messages": told, "user_id": "ada", "conversation_id": "c1", "async_mode": False}),
        (
            "add_feedback",
            {"feedback_content": "My sister lives in Linz now.", "user_id": "ada", "conversation_id": "c1"},
        ),
    )
    assert given["data"]["success"] is True

    async def is_done() -> bool:
        status = await gateway.post("/product/get/status", {"task_id": given["data"]["task_id"]})
        return bool(status.json["data"][0]["status"] == "completed")

    await eventually(is_done)
    (found,) = await client(gateway, ("search_memory", {"query": "Where does my sister live?", "user_id": "ada"}))
    texts = [one["memory_value"] for one in found["data"]["memory_detail_list"]]
    assert texts == ["My sister lives in Linz now.", "My sister lives in Graz."]


async def test_extraction_reranking_and_profiles(gateway: Running) -> None:
    documents = ["The invoice is overdue.", "Peanuts grow under the ground.", "Trains to Graz leave hourly."]
    extracted, ranked, bound, edited, found, deleted = await client(
        gateway,
        ("extract_memory", {"messages": SAID, "extraction_types": ["memory", "preference"]}),
        ("rerank", {"query": "When does the train leave?", "documents": documents, "top_n": 2}),
        ("bind_profile_template", {"bind_list": [{"profile_template_id": "t1", "user_id": "ada"}]}),
        ("edit_profile", {"profile_template_id": "t1", "user_id": "ada", "metadata": {"city": "Graz"}}),
        ("search_memory", {"query": "anything", "user_id": "ada"}),
        ("delete_profile", {"profile_template_id": "t1", "user_id": "ada"}),
    )
    assert extracted["data"]["memory_detail_list"][0]["memory_value"] == SAID[0]["content"]
    assert len(extracted["data"]["preference_detail_list"]) == 2
    assert ranked["results"][0]["index"] == 2
    assert ranked["data"]["results"] == ranked["results"]
    assert len(ranked["results"]) == 2
    assert bound["data"]["success"] is True
    assert edited["data"]["metadata"] == {"city": "Graz"}
    (profile,) = found["data"]["profile_detail_list"]
    assert profile["metadata"] == {"city": "Graz"}
    assert deleted["data"]["success"] is True
    nothing = await gateway.post("/product/search/memory", {"query": "peanuts", "user_id": "ada", "relativity": 0})
    assert nothing.json["data"]["memory_detail_list"] == [], "extraction stores nothing"


async def test_the_same_family_answers_with_code_0_under_the_cloud_prefix(gateway: Running) -> None:
    question = {"user_id": "ada", "conversation_id": "c", "query": "Hello"}
    (answer,) = await call_memos(f"{gateway.url}/api/openmem/v1", ("chat", question))
    assert (answer["code"], answer["message"], answer["data"]["response"]) == (0, "ok", "Understood.")
