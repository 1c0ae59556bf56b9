"""Routes that search and add memories, in both route families."""

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from gateway.api.memos.envelope import MOST_ON_CLIENT_ROUTES, Access, Call, Operation, client, native
from gateway.api.memos.extracting import extract_and_store
from gateway.api.memos.feedback import read_history
from gateway.api.memos.items import (
    EMPTY_LISTS,
    NATIVE_LISTS,
    PREFERENCE_NOTE,
    client_lists,
    distinct,
    native_groups,
    preference_text,
    without_copies,
)
from gateway.api.memos.models import AddRequest, SearchRequest, said_at, said_offset
from gateway.concurrency.offload import offload
from gateway.errors import BadRequest
from gateway.formats.chat import text_of
from gateway.formats.tool_calls import calls_in
from gateway.memory.filters import memory_type
from gateway.memory.kinds import group_of, kind_of
from gateway.memory.recalled import Memory, RecallOptions
from gateway.memory.record import Origin, Record
from gateway.remember.documents import Piece, UnreadableFile, read_pieces
from gateway.remember.ingestion import document_records
from gateway.service.feedback import Feedback
from gateway.storage.values import PROFILE, KnowledgeFile
from gateway.turn import Scope, ScopeKind, Turn

__all__ = ["memory_operations"]

_FIRST_CALL_INDEX = 10_000  # index of the first tool call among the records of a request
_FILES: Final = "files"  # their own limit, beside that of their group
_ALL_TYPES: Final = ("All", "AllSummaryMemory")


def memory_operations() -> list[Operation]:
    return [
        client("/search/memory", search_memory, "Search memories", SearchRequest),
        native("/search", search, "Search memories", SearchRequest, message="Search completed successfully"),
        client("/add/message", add_message, "Add messages", AddRequest),
        native("/add", add, "Add messages", AddRequest, message="Memory added successfully", data="array"),
    ]


async def search_memory(call: Call, request: SearchRequest) -> dict[str, Any]:
    _, memories = await _run_search(call, request)
    lists = client_lists((memory.record, memory.relativity) for memory in memories)
    data: dict[str, Any] = {**lists, **EMPTY_LISTS}
    profiles = await call.services.registry.items(call.tenant, PROFILE)
    data["profile_detail_list"] = [
        {"id": item.id, **item.value}
        for item in profiles
        if item.value.get("user_id") in request.users
        or (item.value.get("agent_id") in request.agents and not call.principal.user)
    ]
    data["preference_note"] = PREFERENCE_NOTE if lists["preference_detail_list"] else ""
    return data


async def search(call: Call, request: SearchRequest) -> dict[str, Any]:
    access, memories = await _run_search(call, request)
    rows = [(memory.record, memory.relativity) for memory in memories]
    preferences = [memory.record for memory in memories if group_of(memory.record.kind) == "preference"]
    scopes = access.identity.reads
    data = {
        **{name: native_groups(rows, scopes, group) for group, name in NATIVE_LISTS.items()},
        "act_mem": [],
        "para_mem": [],
        "pref_note": PREFERENCE_NOTE if preferences else "",
    }
    return data | ({"pref_string": preference_text(preferences)} if preferences else {})


async def _run_search(call: Call, request: SearchRequest) -> tuple[Access, list[Memory]]:
    access = await call.access(request)
    defaults = await call.services.defaults.of(call.tenant)
    limit = MOST_ON_CLIENT_ROUTES if call.is_client else 1000
    texts = request.top_k or call.usual_texts
    has_tools = (not call.is_client) if request.search_tool_memory is None else request.search_tool_memory
    has_skills = (not call.is_client) if request.include_skill_memory is None else request.include_skill_memory
    oversampling = 1 if request.dedup == "no" else 3  # factor, so that enough memories are left after deduplication
    options = RecallOptions(
        text=min(texts, limit) * oversampling,
        preference=min(request.pref_top_k, limit) * oversampling if request.include_preference else 0,
        tool=min(request.tool_mem_top_k, limit) if has_tools else 0,
        skill=min(request.skill_mem_top_k, limit) if has_skills else 0,
        min_relativity=defaults.relativity if request.relativity is None else request.relativity,
        threshold=request.threshold,
        is_fine=request.mode == "fine",
        allows=access.by_scope,
        now=_reference_time(request),
    )
    user_texts = [
        text_of(message.get("content")) for message in request.chat_history or () if message.get("role") == "user"
    ]
    if request.search_memory_type not in _ALL_TYPES:
        options = replace(options, allows=_filter_by_type(access, request.search_memory_type))
    memories = await call.search(access, request.query, options, user_texts[-1] if user_texts else "")
    if request.source == "plugin":
        memories = [memory for memory in memories if memory.relativity > 0]
    if request.dedup != "no":
        deduplicate = distinct if request.dedup == "equal" else without_copies
        size = sum(len(memory.record.text) for memory in memories)
        memories = await offload(partial(deduplicate, memories), size)
    limits = {"text": min(texts, limit), "preference": min(request.pref_top_k, limit)}
    # ranking considers more than relevance (time, neighbours), but clients expect the order of the relevance they see
    return access, sorted(_apply_limits(memories, limits), key=lambda memory: -round(memory.relativity, 4))


def _reference_time(request: SearchRequest) -> float | None:
    """The time that "yesterday" in the query is relative to; None: now. Raises BadRequest."""
    try:
        return said_at({"chat_time": request.reference_time}, 0.0) or None
    except ValueError as error:
        message = "reference_time: must be a time with its date, e.g. 2026-05-08T13:56:00"
        raise BadRequest(message, code="invalid_parameter", param="reference_time") from error


def _filter_by_type(access: Access, type_name: str) -> dict[str, Callable[[Record], bool]]:
    """Restrict the filter of each scope to one type of memory."""

    def build_filter(allows: Callable[[Record], bool] | None) -> Callable[[Record], bool]:
        return lambda record: memory_type(record) == type_name and (allows is None or allows(record))

    return {scope.value: build_filter(access.allows(scope)) for scope in access.identity.reads}


def _apply_limits(memories: Sequence[Memory], limits: Mapping[str, int]) -> list[Memory]:
    """Cut each group to its limit. Files fill at most half of the texts if conversations can fill the rest."""
    kinds = [kind_of(memory.record.kind) for memory in memories]
    message_count = sum(kind.group == "text" and not kind.is_file_chunk for kind in kinds)
    remaining = {**limits, _FILES: max(limits["text"] // 2, limits["text"] - message_count)}
    selected = []
    for memory, kind in zip(memories, kinds, strict=True):
        names = [name for name in (kind.group, _FILES if kind.is_file_chunk else "") if name in remaining]
        if all(remaining[name] > 0 for name in names):
            selected.append(memory)
            for name in names:
                remaining[name] -= 1
    return selected


async def add_message(call: Call, request: AddRequest) -> dict[str, Any]:
    access, turn, _ = await _store_messages(call, request)
    task_id = await call.begin_task(turn.id, access.identity.user_id, access.identity.writes[0].cube_id)
    if request.async_mode == "async":
        return {"success": True, "task_id": task_id, "status": "running"}
    await call.wait_until_found()
    return {"success": True, "task_id": task_id, "status": "completed"}


async def add(call: Call, request: AddRequest) -> list[dict[str, Any]]:
    """Store messages. With `async_mode: sync` they can be found when the call returns."""
    access, turn, records = await _store_messages(call, request)
    await call.begin_task(request.task_id or turn.id, access.identity.user_id, access.identity.writes[0].cube_id)
    if request.async_mode == "sync" and request.mode == "fine":
        records = [*records, *await extract_and_store(call, access, turn, records)]
    if request.async_mode == "sync":
        await call.wait_until_found()
    return [
        {
            "memory": record.text,
            "memory_id": record.id,
            "memory_type": memory_type(record),
            "cube_id": record.cube_id,
        }
        for record in records
    ]


async def _store_messages(call: Call, request: AddRequest) -> tuple[Access, Turn, list[Record]]:
    access = await call.access(request)
    turn = replace(
        call.turn(access.identity),
        tags=request.custom_tags,
        metadata=request.metadata,
        agent_id=request.agent,
        app_id=request.app_id,
    )
    messages = request.messages
    if request.is_feedback:
        messages = await _apply_feedback(call, access, request)

    def build() -> list[Record]:
        return [
            record
            for scope in access.identity.writes
            for index, message in enumerate(messages)
            for record in _build_records(call, turn, scope, request, (index, message))
        ]

    records = await offload(build, sum(len(text_of(message.get("content"))) for message in messages))
    calls = calls_in(messages)
    for scope in access.identity.writes:
        records += call.services.remember.calls_of(turn, scope, calls, _FIRST_CALL_INDEX)
    records += await _build_file_records(turn, access, request)
    if not records:
        if request.is_feedback:
            return access, turn, []
        raise BadRequest("messages: there is no text of the user or the assistant in them", param="messages")
    if call.is_client:  # the MemOS client retries after a timeout
        records = call.services.remember.without_repeated(records)
    return access, turn, await call.keep(turn, records) if records else []


def _build_records(
    call: Call, turn: Turn, scope: Scope, request: AddRequest, indexed_message: tuple[int, Mapping[str, Any]]
) -> list[Record]:
    """Build the record of a message: none for tool messages or without text."""
    index, message = indexed_message
    if message["role"] not in ("user", "assistant"):
        return []
    offset, correction = said_offset(message, call.services.remember.zone)
    at = said_at(message, turn.received_at) + correction
    records = []
    text = text_of(message.get("content")).strip()
    if text:
        record = call.services.remember.make(turn, scope, message["role"], text, at=at, offset=offset, index=index)
        speaker, message_id = (str(message.get(name) or "") for name in ("role_name", "message_id"))
        agent = scope.cube_id if scope.kind is ScopeKind.AGENT else record.agent_id
        origin = Origin(speaker=speaker, message_id=message_id)
        records.append(replace(record, user_id=scope.owner or record.user_id, agent_id=agent, origin=origin))
    return records


async def _build_file_records(turn: Turn, access: Access, request: AddRequest) -> list[Record]:
    """Build records from the files in messages, for each scope that is written to."""
    records: list[Record] = []
    for index, message in enumerate(request.messages):
        content = message.get("content")
        for number, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict) and part.get("type") == "file":
                path = f"messages[{index}].content[{number}].file"
                document, pieces = await _read_file(turn, part.get("file"), path)
                for scope in access.identity.writes:
                    records += document_records(scope, document, pieces, turn.received_at)
    return [replace(record, tags=request.custom_tags, metadata=request.metadata) for record in records]


async def _read_file(turn: Turn, file: Any, path: str) -> tuple[KnowledgeFile, list[Piece]]:
    if not isinstance(file, dict) or not isinstance(file.get("file_data"), str):
        raise BadRequest(f"{path}: needs file_data (base64) and filename", param=path)
    name = str(file.get("filename") or "file.txt")
    data = file["file_data"].partition("base64,")[2] or file["file_data"]
    try:
        content = base64.b64decode(data, validate=True)
        pieces = await asyncio.to_thread(read_pieces, name, content)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{path}.file_data: is not base64", param=path) from error
    except UnreadableFile as error:
        raise BadRequest(f"{path}: {error}", param=path) from error
    size = len(content)
    return KnowledgeFile(
        id=f"{turn.id}-{path}", cube_id="", name=name, size=size, kind="document", status="completed"
    ), pieces


async def _apply_feedback(call: Call, access: Access, request: AddRequest) -> list[dict[str, Any]]:
    """Apply the last user message as feedback on the messages before it. Returns those, which are to be stored."""
    index = max((i for i, message in enumerate(request.messages) if message["role"] == "user"), default=None)
    if index is None:
        raise BadRequest("messages: feedback needs a message of the user", param="messages")
    feedback = text_of(request.messages[index].get("content")).strip()
    before = request.messages[:index]
    turn = call.turn(access.identity)
    comment = Feedback(text=feedback, turn=turn, allows=access.by_scope, history=read_history(before))
    await call.services.feedback.give(comment)
    return before
