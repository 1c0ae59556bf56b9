"""Searching and adding memories, in both families."""

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from gateway.errors import BadRequest
from gateway.offload import offload
from gateway.remember.documents import Piece, Unreadable, read_pieces
from gateway.remember.intake import document_records
from gateway.store.filters import memory_type
from gateway.store.registry import PROFILE, Document
from gateway.turn import Memory, Record, Scope, ScopeKind, Turn, Wanted, group_of
from gateway.wire.dialects.calls import calls_in
from gateway.wire.dialects.chat import text_of
from gateway.wire.memos.envelope import MOST_ON_CLIENT_ROUTES, Access, Call, Operation, client, native
from gateway.wire.memos.extracting import extracted
from gateway.wire.memos.feedback import give_feedback
from gateway.wire.memos.items import (
    EMPTY_LISTS,
    PREFERENCE_NOTE,
    client_lists,
    distinct,
    native_groups,
    preference_text,
    without_copies,
)
from gateway.wire.memos.models import AddRequest, SearchRequest, said_at, said_offset

__all__ = ["memory_operations"]

_FIRST_CALL = 10_000  # place of the first call of a tool among the records of a request
_ALL_TYPES: Final = ("All", "AllSummaryMemory")


def memory_operations() -> list[Operation]:
    return [
        client("/search/memory", search_memory, "Search memories", SearchRequest),
        native("/search", search, "Search memories", SearchRequest, message="Search completed successfully"),
        client("/add/message", add_message, "Remember messages", AddRequest),
        native("/add", add, "Remember messages", AddRequest, message="Memory added successfully", data="array"),
    ]


async def search_memory(call: Call, asked: SearchRequest) -> dict[str, Any]:
    _, memories = await _searched(call, asked)
    lists = client_lists((memory.record, memory.relativity) for memory in memories)
    data: dict[str, Any] = {**lists, **EMPTY_LISTS}
    profiles = await call.desk.registry.items(call.tenant, PROFILE)
    data["profile_detail_list"] = [
        {"id": item.id, **item.value}
        for item in profiles
        if item.value.get("user_id") in asked.users
        or (item.value.get("agent_id") in asked.agents and not call.principal.user)
    ]
    data["preference_note"] = PREFERENCE_NOTE if lists["preference_detail_list"] else ""
    return data


async def search(call: Call, asked: SearchRequest) -> dict[str, Any]:
    access, memories = await _searched(call, asked)
    found = [(memory.record, memory.relativity) for memory in memories]
    liked = [memory.record for memory in memories if group_of(memory.record.kind) == "preference"]
    scopes = access.identity.reads
    data = {
        "text_mem": native_groups(found, scopes, "text"),
        "pref_mem": native_groups(found, scopes, "preference"),
        "tool_mem": native_groups(found, scopes, "tool"),
        "skill_mem": native_groups(found, scopes, "skill"),
        "act_mem": [],
        "para_mem": [],
        "pref_note": PREFERENCE_NOTE if liked else "",
    }
    return data | ({"pref_string": preference_text(liked)} if liked else {})


async def _searched(call: Call, asked: SearchRequest) -> tuple[Access, list[Memory]]:
    access = await call.access(asked)
    defaults = await call.desk.defaults.of(call.tenant)
    most = MOST_ON_CLIENT_ROUTES if call.is_client else 1000
    texts = asked.top_k or call.usual_texts
    has_tools = (not call.is_client) if asked.search_tool_memory is None else asked.search_tool_memory
    has_skills = (not call.is_client) if asked.include_skill_memory is None else asked.include_skill_memory
    spare = 1 if asked.dedup == "no" else 3  # as many more, so that copies leave enough
    wanted = Wanted(
        text=min(texts, most) * spare,
        preference=min(asked.pref_top_k, most) * spare if asked.include_preference else 0,
        tool=min(asked.tool_mem_top_k, most) if has_tools else 0,
        skill=min(asked.skill_mem_top_k, most) if has_skills else 0,
        min_relativity=defaults.relativity if asked.relativity is None else asked.relativity,
        threshold=asked.threshold,
        is_fine=asked.mode == "fine",
        allows=access.by_scope,
        now=_now(asked),
    )
    said = [text_of(message.get("content")) for message in asked.chat_history or () if message.get("role") == "user"]
    if asked.search_memory_type not in _ALL_TYPES:
        wanted = replace(wanted, allows=_of_type(access, asked.search_memory_type))
    memories = await call.search(access, asked.query, wanted, said[-1] if said else "")
    if asked.source == "plugin":
        memories = [memory for memory in memories if memory.relativity > 0]
    if asked.dedup != "no":
        work = distinct if asked.dedup == "equal" else without_copies
        size = sum(len(memory.record.text) for memory in memories)
        memories = await offload(partial(work, memories), size)
    limits = {"text": min(texts, most), "preference": min(asked.pref_top_k, most)}
    # ranking knows more than relevance (time, neighbours), but clients read the order by the number that they see
    return access, sorted(_limited(memories, limits), key=lambda memory: -round(memory.relativity, 4))


def _now(asked: SearchRequest) -> float | None:
    """The moment that "yesterday" is seen from. Raises BadRequest."""
    try:
        return said_at({"chat_time": asked.reference_time}, 0.0) or None
    except ValueError as error:
        message = "reference_time: must be a time with its date, e.g. 2026-05-08T13:56:00"
        raise BadRequest(message, code="invalid_parameter", param="reference_time") from error


def _of_type(access: Access, wanted: str) -> dict[str, Callable[[Record], bool]]:
    """The filter of each scope, for one type of memory."""

    def both(allows: Callable[[Record], bool] | None) -> Callable[[Record], bool]:
        return lambda record: memory_type(record) == wanted and (allows is None or allows(record))

    return {scope.value: both(access.allows(scope)) for scope in access.identity.reads}


def _limited(memories: Sequence[Memory], limits: Mapping[str, int]) -> list[Memory]:
    """At most so many of a group; of the texts, files have half at the most where conversations could fill the rest."""
    said = sum(group_of(one.record.kind) == "text" and one.record.kind != "document" for one in memories)
    left = {**limits, "document": max(limits["text"] // 2, limits["text"] - said)}
    kept = []
    for memory in memories:
        names = [name for name in (group_of(memory.record.kind), memory.record.kind) if name in left]
        if all(left[name] > 0 for name in names):
            kept.append(memory)
            for name in dict.fromkeys(names):
                left[name] -= 1
    return kept


async def add_message(call: Call, asked: AddRequest) -> dict[str, Any]:
    access, turn, _ = await _added(call, asked)
    task_id = await call.begin_task(turn.id, access.identity.user_id, access.identity.writes[0].cube_id)
    if asked.async_mode == "async":
        return {"success": True, "task_id": task_id, "status": "running"}
    await call.wait_until_found()
    return {"success": True, "task_id": task_id, "status": "completed"}


async def add(call: Call, asked: AddRequest) -> list[dict[str, Any]]:
    """Remember messages. With `async_mode: sync` they can be found when the call returns."""
    access, turn, kept = await _added(call, asked)
    await call.begin_task(asked.task_id or turn.id, access.identity.user_id, access.identity.writes[0].cube_id)
    if asked.async_mode == "sync" and asked.mode == "fine":
        kept = [*kept, *await extracted(call, access, turn, kept)]
    if asked.async_mode == "sync":
        await call.wait_until_found()
    return [
        {
            "memory": record.text,
            "memory_id": record.id,
            "memory_type": memory_type(record),
            "cube_id": record.cube_id,
        }
        for record in kept
    ]


async def _added(call: Call, asked: AddRequest) -> tuple[Access, Turn, list[Record]]:
    access = await call.access(asked)
    turn = replace(
        call.turn(access.identity),
        tags=asked.custom_tags,
        metadata=asked.metadata,
        agent_id=asked.agent,
        app_id=asked.app_id,
    )
    messages = asked.messages
    if asked.is_feedback:
        messages = await _without_feedback(call, access, asked)

    def make() -> list[Record]:
        return [
            record
            for scope in access.identity.writes
            for index, message in enumerate(messages)
            for record in _records(call, turn, scope, asked, (index, message))
        ]

    records = await offload(make, sum(len(text_of(message.get("content"))) for message in messages))
    calls = calls_in(messages)
    for scope in access.identity.writes:
        records += call.desk.remember.calls_of(turn, scope, calls, _FIRST_CALL)
    records += await _file_records(turn, access, asked)
    if not records:
        if asked.is_feedback:
            return access, turn, []
        raise BadRequest("messages: there is no text of the user or the assistant in them", param="messages")
    if call.is_client:  # which asks again when it is impatient
        records = call.desk.remember.without_repeated(records)
    return access, turn, await call.keep(turn, records) if records else []


def _records(
    call: Call, turn: Turn, scope: Scope, asked: AddRequest, numbered: tuple[int, Mapping[str, Any]]
) -> list[Record]:
    """What a message says."""
    index, message = numbered
    if message["role"] not in ("user", "assistant"):
        return []
    offset, correction = said_offset(message, call.desk.remember.zone)
    at = said_at(message, turn.received_at) + correction
    found = []
    text = text_of(message.get("content")).strip()
    if text:
        told = {"speaker": message.get("role_name"), "message_id": message.get("message_id")}
        info = {name: str(value) for name, value in told.items() if value}
        made = call.desk.remember.make(turn, scope, message["role"], text, info, at=at, offset=offset, index=index)
        agent = scope.cube_id if scope.kind is ScopeKind.AGENT else made.agent_id
        found.append(replace(made, user_id=scope.owner or made.user_id, agent_id=agent))
    return found


async def _file_records(turn: Turn, access: Access, asked: AddRequest) -> list[Record]:
    """The files in messages, as memories in each scope that is written to."""
    records: list[Record] = []
    for index, message in enumerate(asked.messages):
        content = message.get("content")
        for number, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict) and part.get("type") == "file":
                path = f"messages[{index}].content[{number}].file"
                document, pieces = await _read_file(turn, part.get("file"), path)
                for scope in access.identity.writes:
                    records += document_records(scope, document, pieces, turn.received_at)
    return [replace(one, tags=asked.custom_tags, metadata=asked.metadata) for one in records]


async def _read_file(turn: Turn, file: Any, path: str) -> tuple[Document, list[Piece]]:
    if not isinstance(file, dict) or not isinstance(file.get("file_data"), str):
        raise BadRequest(f"{path}: needs file_data (base64) and filename", param=path)
    name = str(file.get("filename") or "file.txt")
    data = file["file_data"].partition("base64,")[2] or file["file_data"]
    try:
        content = base64.b64decode(data, validate=True)
        pieces = await asyncio.to_thread(read_pieces, name, content)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{path}.file_data: is not base64", param=path) from error
    except Unreadable as error:
        raise BadRequest(f"{path}: {error}", param=path) from error
    size = len(content)
    return Document(
        id=f"{turn.id}-{path}", cube_id="", name=name, size=size, kind="document", status="completed"
    ), pieces


async def _without_feedback(call: Call, access: Access, asked: AddRequest) -> list[dict[str, Any]]:
    """The last user message is feedback on the ones before: it is given, the others are remembered."""
    index = max((i for i, message in enumerate(asked.messages) if message["role"] == "user"), default=None)
    if index is None:
        raise BadRequest("messages: feedback needs a message of the user", param="messages")
    feedback = text_of(asked.messages[index].get("content")).strip()
    before = asked.messages[:index]
    await give_feedback(call, access, feedback, history=before)
    return before
