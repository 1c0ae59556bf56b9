"""Serialization of memories in the formats of MemOS' client and native APIs. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from gateway.memory.annotations import annotations
from gateway.memory.filters import memory_type
from gateway.memory.kinds import group_of, kind_of
from gateway.memory.recalled import Memory
from gateway.memory.record import Record
from gateway.text.terms import terms
from gateway.turn import Scope

__all__ = [
    "EMPTY_LISTS",
    "NATIVE_LISTS",
    "PREFERENCE_NOTE",
    "client_lists",
    "distinct",
    "history_of",
    "iso",
    "message_item",
    "native_groups",
    "native_item",
    "preference_text",
    "without_copies",
]

PREFERENCE_NOTE: Final = (
    "Facts and preferences differ: a fact is what is so, a preference how the user wants things. The answer must not "
    "go against any preference, explicit or implicit, and may say briefly why it is as it is."
)
EMPTY_LISTS: Final[Mapping[str, Sequence[Any]]] = {
    "profile_detail_list": (),
    "event_detail_list": (),
    "message_detail_list": (),
}
_SOURCE: Final = {"document": "file", "tool": "system"}
_NEAR_COPY = 0.92
_MAX_COMPARED = 100  # memories that each further one is compared with for near copies
NATIVE_LISTS: Final = {"text": "text_mem", "preference": "pref_mem", "tool": "tool_mem", "skill": "skill_mem"}
"""Search group → its list in replies of the native API."""
_CLIENT_LISTS: Final = {
    "text": "memory_detail_list",
    "preference": "preference_detail_list",
    "tool": "tool_memory_detail_list",
    "skill": "skill_detail_list",
}


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def client_lists(rows: Iterable[tuple[Record, float | None]]) -> dict[str, list[dict[str, Any]]]:
    """Group records by type into the client's detail lists, all of which are present. Relevance None: not a search."""
    lists: dict[str, list[dict[str, Any]]] = {name: [] for name in _CLIENT_LISTS.values()}
    for record, relativity in rows:
        group = group_of(record.kind)
        lists[_CLIENT_LISTS.get(group, _CLIENT_LISTS["text"])].append(_client_item(record, group, relativity))
    return lists


def _client_item(record: Record, group: str, relativity: float | None) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": record.id,
        "create_time": iso(record.event_time),
        "update_time": iso(record.updated_at),
        "conversation_id": record.session_id,
        "status": record.status,
        "confidence": record.confidence,
        "tags": list(record.tags),
        "user_id": record.user_id,
        "agent_id": record.agent_id,
        "app_id": record.app_id,
        "cube_id": record.cube_id,
        "info": {**annotations(record), **record.metadata},
    }
    if relativity is not None:
        item["relativity"] = round(relativity, 4)
    if group == "preference":
        return item | {
            "preference": record.text,
            "preference_type": record.details.preference_type or "explicit_preference",
            "reasoning": record.details.reasoning,
        }
    if group == "tool":
        return item | _tool_fields(record)
    if group == "skill":
        return item | {"skill_value": _skill_fields(record), "skill_url": "", "skill_type": "document"}
    return item | {
        "memory_key": _memory_key(record),
        "memory_value": record.text,
        "memory_type": memory_type(record),
        "memory_view": "user" if record.source == "user" else record.source,
        "title": _memory_key(record),
        "content": record.text,
        "sources": [_source_fields(record)],
    }


def _tool_fields(record: Record) -> dict[str, Any]:
    """Fields of a tool memory: a call of a tool, or experience extracted from calls."""
    worked, extraction_result = record.details.worked is not False, record.text if record.is_extracted else ""
    status = {
        "used_tool": record.details.used_tool,
        "error_type": "" if worked else "failed",
        "success_rate": float(worked),
        "tool_experience": extraction_result,
    }
    kind = "ToolTrajectoryMemory"
    return {"tool_type": kind, "tool_value": record.text, "tool_used_status": [status], "experience": extraction_result}


def _skill_fields(record: Record) -> dict[str, Any]:
    """Fields of a skill: its steps as a numbered procedure; an uploaded skill has its text instead."""
    steps = record.details.steps
    procedure = "\n".join(f"{n}. {step}" for n, step in enumerate(steps, start=1)) if steps else record.text
    empty: dict[str, Any] = {"experience": [], "preference": [], "examples": [], "script": {}, "others": {}}
    return {"name": _memory_key(record), "description": record.text[:200], "procedure": procedure, **empty}


def _memory_key(record: Record) -> str:
    return record.details.title or record.text[:60]


def _source_fields(record: Record) -> dict[str, Any]:
    if kind_of(record.kind).is_from_file:
        origin = record.origin
        file = {"file_ids": list(origin.file_ids), "name": origin.file_name}
        return {
            "type": "file",
            "role": "document",
            "file_info": file,
            "page": origin.page,
            "heading": origin.heading,
        }
    message_id = record.origin.message_id or record.message_id
    return {"type": "chat", "role": record.source, "chat_time": iso(record.event_time), "message_id": message_id}


def native_item(record: Record, relativity: float | None = None) -> dict[str, Any]:
    """Serialize a memory as MemOS' own server does."""
    reference = f"[{record.id[:8]}]"
    metadata: dict[str, Any] = {
        "user_id": record.user_id,
        "session_id": record.session_id,
        "status": record.status,
        "type": record.kind,
        "key": _memory_key(record),
        "confidence": record.confidence,
        "source": _SOURCE.get(record.source, "conversation"),
        "tags": list(record.tags),
        "visibility": "private",
        "created_at": iso(record.event_time),
        "updated_at": iso(record.updated_at),
        "memory_type": memory_type(record),
        "sources": [_source_fields(record)],
        "embedding": [],
        "usage": [],
        "background": "",
        "relativity": None if relativity is None else round(relativity, 4),
        "info": {**annotations(record), **record.metadata},
        "file_ids": list(record.origin.file_ids),
        "version": record.version,
        "history": history_of(record),
        "is_fast": record.kind == "turn",
        "evolve_to": [record.lineage.superseded_by] if record.lineage.superseded_by else [],
        "working_binding": None,
        "internal_info": None,
        "covered_history": None,
        "agent_id": record.agent_id,
        "app_id": record.app_id,
        "id": record.id,
        "memory": record.text,
        "ref_id": reference,
    }
    if group_of(record.kind) == "preference":
        metadata |= {
            "preference_type": record.details.preference_type or "explicit_preference",
            "preference": record.text,
            "reasoning": record.details.reasoning,
            "topic": record.details.topic,
            "original_text": record.text,
            "dialog_id": record.links[0] if record.links else "",
        }
    return {"id": record.id, "memory": record.text, "ref_id": reference, "metadata": metadata}


def history_of(record: Record, chain: Sequence[Record] = ()) -> list[dict[str, Any]]:
    """Version history of a memory: superseded memories and earlier texts, oldest first, from its version `chain`.

    Without a chain, only the ids of the superseded memories.
    """
    if not chain:
        return [{"archived_memory_id": id_} for id_ in record.lineage.supersedes]
    position = next((index for index, ancestor in enumerate(chain) if ancestor.id == record.id), 0)
    return [
        {
            "archived_memory_id": ancestor.id,
            "memory": ancestor.text,
            "version": ancestor.version,
            "is_fast": ancestor.kind == "turn",
            "update_type": "feedback" if record.is_feedback else "conflict",
            "created_at": iso(ancestor.event_time),
        }
        for ancestor in chain[:position]
    ]


def native_groups(
    rows: Sequence[tuple[Record, float | None]], scopes: Sequence[Scope], group: str, *, is_wanted: bool = True
) -> list[dict[str, Any]]:
    """The memories of one group by cube. Cubes without memories are left out of the text group only."""
    groups = []
    for scope in scopes if is_wanted else ():
        items = [
            native_item(record, relativity)
            for record, relativity in rows
            if record.scope == scope.value and group_of(record.kind) == group
        ]
        if items or group != "text":
            groups.append({"cube_id": scope.cube_id, "memories": items, "total_nodes": len(items)})
    return groups


def message_item(record: Record, text: str) -> dict[str, Any]:
    return {
        "message_id": record.id,
        "role": record.source,
        "content": text,
        "conversation_id": record.session_id,
        "create_time": iso(record.event_time),
        "update_time": iso(record.updated_at),
    }


def preference_text(preferences: Sequence[Record]) -> str:
    """Format preferences as MemOS does in a prompt; an empty string if there are none."""
    parts = []
    for heading, kind in (("Explicit Preference:", "explicit"), ("Implicit Preference:", "implicit")):
        matching = [record for record in preferences if (record.details.preference_type or "explicit").startswith(kind)]
        if matching:
            parts.append("\n".join([heading, *(f"{n}. {record.text}" for n, record in enumerate(matching, start=1))]))
    return "\n".join(parts)


def distinct(memories: Sequence[Memory]) -> list[Memory]:
    """Drop memories with the same text as an earlier one of their group, ignoring case, punctuation and white space."""
    seen: set[tuple[str, str]] = set()
    unique = []
    for memory in memories:
        key = (group_of(memory.record.kind), re.sub(r"\W+", "", memory.record.text.casefold()))
        if key not in seen:
            seen.add(key)
            unique.append(memory)
    return unique


def without_copies(memories: Sequence[Memory]) -> list[Memory]:
    """Drop copies and near copies: texts that share nearly all of their words with a better-ranked one."""
    unique: list[Memory] = []
    seen: list[tuple[str, frozenset[str]]] = []
    for memory in distinct(memories):
        group, words = group_of(memory.record.kind), frozenset(terms(memory.record.text))
        if not words or not any(group == other and _is_near_copy(words, others) for other, others in seen):
            unique.append(memory)
            if len(seen) < _MAX_COMPARED:
                seen.append((group, words))
    return unique


def _is_near_copy(words: frozenset[str], others: frozenset[str]) -> bool:
    return bool(others) and len(words & others) >= _NEAR_COPY * len(words | others)
