"""Detects exports of other products, so that the error for a file that cannot be imported names its format. Pure."""

import re
from typing import Final

__all__ = ["foreign_format"]

_READ = 65_536  # bytes of a file that are examined
# name, patterns that must all match, how to import the content
_ADD: Final = "send its messages to POST /product/add, each with its `chat_time`"
_FORMATS: Final = (
    (
        "an export of ChatGPT's conversations",
        (rb'"mapping"\s*:', rb'"(?:create_time|current_node)"\s*:'),
        _ADD,
    ),
    ("an export of Claude's conversations", (rb'"chat_messages"\s*:',), _ADD),
    ("an export of Open WebUI's chats", (rb'"chat"\s*:\s*\{', rb'"(?:history|messages)"\s*:'), _ADD),
    (
        "a file of ShareGPT conversations",
        (rb'"conversations"\s*:\s*\[', rb'"from"\s*:', rb'"value"\s*:'),
        _ADD,
    ),
    (
        "an export of mem0",
        (rb'"memory"\s*:', rb'"(?:hash|user_id|agent_id|created_at|categories)"\s*:'),
        "send each `memory` to POST /product/add as a message of its user",
    ),
    (
        "an export of Open WebUI's memories",
        (rb'"content"\s*:', rb'"user_id"\s*:', rb'"(?:updated_at|created_at)"\s*:'),
        "send each `content` to POST /product/add as a message of its user",
    ),
    ("a list of chat messages", (rb'"role"\s*:\s*"(?:user|assistant|system)"', rb'"content"\s*:'), _ADD),
)
_COMPILED: Final = tuple((name, tuple(map(re.compile, marks)), advice) for name, marks, advice in _FORMATS)
_OWN = (re.compile(rb'"cube_id"\s*:'), re.compile(rb'"event_time"\s*:'))
_ZIP, _SQLITE, _GZIP = b"PK\x03\x04", b"SQLite format 3\0", b"\x1f\x8b"


def foreign_format(head: bytes) -> str:
    """The format of a file, detected from its beginning, and how to import it, as the end of a sentence; empty for an
    export of a gateway, and for unknown formats."""
    head = head[:_READ]
    if head.startswith(_ZIP):
        return "a ZIP archive: unpack it first"
    if head.startswith(_GZIP):
        return "compressed: unpack it with gunzip first"
    if head.startswith(_SQLITE):
        return "a SQLite database: export what it holds as JSON first"
    if all(mark.search(head) for mark in _OWN):
        return ""
    for name, marks, advice in _COMPILED:
        if all(mark.search(head) for mark in marks):
            return f"{name}, not of a gateway; {advice} (see docs/guides/memos.md)"
    if head.lstrip()[:1] == b"[":
        return "one JSON list, not a line of JSON for each memory as `gateway memory export` writes them"
    return ""
