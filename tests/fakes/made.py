"""Made-up values for unit tests: records, memories, turns."""

import time
from collections.abc import Mapping
from typing import Any

from gateway.formats.chat import ChatFormat
from gateway.memory.annotations import build_record
from gateway.turn import Identity, Memory, MemoryMode, ParsedRequest, Principal, Record, Right, Scope, Turn, message_id

SCOPE = Scope("a" * 64, "default", "ada")
EVERYTHING = Principal("default", frozenset(Right))


def record(text: str, number: int = 0, info: Mapping[str, Any] | None = None, **fields: Any) -> Record:
    """A message; `info` holds annotations under their stored names."""
    at = 1_700_000_000.0 + 60 * number
    made = {
        "id": message_id(f"{number}/{text}"),
        "scope": SCOPE.value,
        "cube_id": "ada",
        "user_id": "ada",
        "session_id": "s",
        "kind": "turn",
        "source": "user",
        "text": text,
        "event_time": at,
        "created_at": at,
        "updated_at": at,
        "message_id": message_id(text),
    }
    metadata = fields.pop("metadata", {})
    return build_record({**made, **fields}, info or {}, metadata)


def memory(text: str, number: int = 0, tokens: int = 10, score: float = 1.0, **fields: Any) -> Memory:
    return Memory(record(text, number, **fields), score, 0.9, tokens)


def turn(query: str = "hello", body: Mapping[str, Any] | None = None, **fields: Any) -> Turn:
    made: dict[str, Any] = {
        "id": "t" * 32,
        "started": time.perf_counter(),
        "received_at": 1_800_000_000.0,
        "principal": EVERYTHING,
        "path": "/chat/completions",
        "headers": {},
        "raw": b"{}",
        "body": body or {"messages": [{"role": "user", "content": query}]},
        "ask": ParsedRequest(model="m", stream=False, messages=(query,) if query else (), query=query),
        "wire_format": ChatFormat(),
        "mode": MemoryMode.ON,
        "identity": Identity("ada", "s", (SCOPE,), (SCOPE,)),
        "user": "ada",
    }
    return Turn(**{**made, **fields})
