"""Rows of every table that a move copies."""

from typing import Any, Final

import orjson

__all__ = ["ROWS", "SCOPES"]

SCOPES: Final = [f"{number:08x}" + "0" * 56 for number in range(4)]


def _entry(seq: int, state: int, scope: str, status: str = "activated") -> tuple[Any, ...]:
    payload = orjson.dumps({"id": f"{seq:032x}", "scope": scope, "status": status, "text": "caf\0é \x01"})
    return (seq, f"{seq:032x}", state, seq % 3, 1.5 * seq, 1_000.25 + seq, payload)


ROWS: Final[dict[str, list[tuple[Any, ...]]]] = {
    "scopes": [(scope, "t\0enant", "cube", "user", "ada") for scope in SCOPES],
    "items": [("t", "settings", "id\x01", 1.25, b'{"a": 1}'), ("t", "profile", "id", 2.0, b"{}")],
    "files": [
        ("t", "f1", "cube", "a.txt", 3, "document", "running", "", 1.0, b"\0\1\2"),
        ("t", "f2", "cube", "b.txt", 4, "document", "completed", "", 2.0, None),
    ],
    "tasks": [("t", "task", "ada", "cube", "waiting", 5, 1.0)],
    "used": [(3600, "t", "key-1", "ada", "m", "up", 1, 2, 3, 4, 5, 0.25, 1)],
    "owners": [("resp_1", "t", None, "up", None, 1.0), ("resp_2", "t", "ada", "up", "s", 2.0)],
    "counters": [("calls", 2.5, 9e9)],
    "blocks": [("s", "c", "turn", 1.0, b'{"m": 1}', 3, "a text with \0")],
    "messages": [(3, SCOPES[1], "s", f"{3:032x}", 7, 0), (4, SCOPES[1], "s", f"{4:032x}", 7, 1)],
    "conversations": [(SCOPES[1], "s", 1.0, 2, "why", "")],
    "spent": [(SCOPES[1], 20_000, 12, 0.125)],
    "places": [("began", 1.5), ("position", 5.0)],
    "claims": [(b"\0\1", "turn", 1.0, SCOPES[2])],
    "entries": [
        (1, f"{1:032x}", 1, 0, 0.0, 1.0, None),  # its text is gone, its id is known
        _entry(2, 1, SCOPES[0]),
        _entry(5, 1, SCOPES[1]),
        _entry(6, 0, SCOPES[2]),
        _entry(7, 0, SCOPES[3], "deleted"),
        _entry(9, 2, SCOPES[1]),
    ],
}
