from gateway.api.memos.items import client_lists
from tests.fakes.made import record


def test_memories_are_listed_by_their_group() -> None:
    kinds = ("turn", "fact", "preference", "tool", "skill", "document")
    lists = client_lists((record(kind, kind=kind), None) for kind in kinds)
    assert [item["memory_value"] for item in lists["memory_detail_list"]] == ["turn", "fact", "document"]
    assert [item["preference"] for item in lists["preference_detail_list"]] == ["preference"]
    assert [item["tool_value"] for item in lists["tool_memory_detail_list"]] == ["tool"]
    assert [item["skill_value"]["procedure"] for item in lists["skill_detail_list"]] == ["skill"]


def test_a_fact_about_the_user_is_a_text() -> None:
    (item,) = client_lists([(record("I am Ada", kind="profile"), None)])["memory_detail_list"]
    assert (item["memory_value"], item["memory_type"]) == ("I am Ada", "UserMemory")
