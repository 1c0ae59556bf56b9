"""Exports of other products are called by their names."""

import json

import pytest

from gateway.maintenance.foreign_exports import foreign_format

CHATGPT = [{"title": "t", "create_time": 1, "mapping": {"a": {"message": None}}, "current_node": "a"}]
CLAUDE = [{"uuid": "u", "name": "n", "chat_messages": [{"sender": "human", "text": "hi"}]}]
MEM0 = {"results": [{"id": "1", "memory": "Likes tea", "hash": "x", "user_id": "ada", "created_at": "2026-01-01"}]}
WEBUI = [{"id": "1", "user_id": "u", "chat": {"history": {"messages": {}}, "title": "t"}}]
WEBUI_MEMORIES = [{"id": "1", "user_id": "u", "content": "Likes tea", "updated_at": 1}]
SHAREGPT = [{"id": "1", "conversations": [{"from": "human", "value": "hi"}]}]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (CHATGPT, "ChatGPT"),
        (CLAUDE, "Claude"),
        (MEM0, "mem0"),
        (MEM0["results"], "mem0"),
        (WEBUI, "Open WebUI's chats"),
        (WEBUI_MEMORIES, "Open WebUI's memories"),
        (SHAREGPT, "ShareGPT"),
        ([{"role": "user", "content": "hi"}], "chat messages"),
        ([1, 2], "one JSON list"),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_foreign_file_is_named_with_what_is_possible(value: object, name: str, indent: int | None) -> None:
    told = foreign_format(json.dumps(value, indent=indent).encode())
    assert name in told
    assert "/product/add" in told or "line of JSON" in told


@pytest.mark.parametrize("head", [b"PK\x03\x04abc", b"\x1f\x8b\x08", b"SQLite format 3\0"])
def test_packed_files_are_named(head: bytes) -> None:
    assert foreign_format(head)


@pytest.mark.parametrize(
    "head", [b"", b"{}", b'{"id": 1}', b"\xff\xfe", b'{"cube_id": "a", "event_time": 1, "text": "x"}']
)
def test_what_is_not_known_has_no_name(head: bytes) -> None:
    assert foreign_format(head) == ""
