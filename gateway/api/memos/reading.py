"""Routes that read memories without a query: by page, by id, by conversation, as a graph."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from gateway.api.memos.envelope import Access, Call, Operation, client, native
from gateway.api.memos.items import EMPTY_LISTS, NATIVE_LISTS, client_lists, history_of, message_item, native_item
from gateway.api.memos.manage_models import (
    DashboardRequest,
    GetAllRequest,
    GetCubeRequest,
    GetMessageRequest,
    GetRequest,
    MemoryIdsRequest,
)
from gateway.api.memos.models import checked
from gateway.errors import NotFound
from gateway.identity import may_touch, scope_of
from gateway.memory.filters import memory_type, plain_id
from gateway.memory.kinds import group_of, kind_of
from gateway.memory.recalled import RecallOptions
from gateway.memory.record import Record
from gateway.turn import Scope

__all__ = ["reading_operations"]

_MAX_PARTS = 20  # most chunks of one message, each a record


def reading_operations() -> list[Operation]:
    return [
        client("/get/memory", get_memory, "List memories, page by page", GetRequest),
        client("/get/memory/{memory_id}", get_memory_by_id, "Get a memory by its id", method="GET"),
        client("/get/message", get_message, "Get the newest messages of a conversation", GetMessageRequest),
        native(
            "/get_memory",
            get_cube,
            "List the memories of a cube, page by page",
            GetCubeRequest,
            message="Memories retrieved successfully",
        ),
        native(
            "/get_memory/{memory_id}",
            get_cube_memory,
            "Get a memory by its id, or null",
            method="GET",
            message="Memory retrieved successfully",
        ),
        native(
            "/get_memory_by_ids",
            get_by_ids,
            "Get memories by a list of ids",
            message="Memories retrieved successfully",
        ),
        native(
            "/get_memory_dashboard",
            get_dashboard,
            "List the memories of a cube with statistics, page by page",
            DashboardRequest,
            message="Memories retrieved successfully",
        ),
        native(
            "/get_all",
            get_all,
            "Get the memories of a cube as a graph",
            GetAllRequest,
            message="Memories retrieved successfully",
            data="array",
        ),
    ]


def _included_groups(request: GetRequest | GetCubeRequest) -> dict[str, bool]:
    """Search group → whether a request asks for its memories."""
    return {
        "text": True,
        "preference": request.include_preference,
        "tool": request.include_tool_memory,
        "skill": request.include_skill_memory,
    }


async def get_memory(call: Call, request: GetRequest) -> dict[str, Any]:
    access = await call.access(request)
    records = await _load_newest_first(call, access)
    first, last = (request.page - 1) * request.page_size, request.page * request.page_size
    page_records: list[Record] = []
    total = 0
    for group, is_included in _included_groups(request).items():
        group_records = [record for record in records if group_of(record.kind) == group] if is_included else []
        total = max(total, len(group_records))
        page_records += group_records[first:last]
    data: dict[str, Any] = {**client_lists((record, None) for record in page_records), **EMPTY_LISTS}
    pages = -(-total // request.page_size)
    return data | {"total": total, "size": request.page_size, "current": request.page, "pages": pages}


async def _list_records(call: Call, scope: Scope, allows: Callable[[Record], bool] | None) -> list[Record]:
    """The memories of a scope, oldest first, without earlier versions of edited memories (those are history)."""
    records = await call.services.memory_service.records(scope, allows)
    return [record for record in records if not record.lineage.edit_of]


async def _load_newest_first(call: Call, access: Access) -> list[Record]:
    records: list[Record] = []
    for scope in access.identity.reads:
        records += await _list_records(call, scope, access.allows(scope))
    return sorted(records, key=lambda record: (-record.event_time, -record.part))


async def get_memory_by_id(call: Call, _: None) -> dict[str, Any]:
    records = await call.services.memory_service.find(call.principal, [call.request.match_info["memory_id"]])
    if not records:
        raise NotFound("there is no memory of this id")
    record = records[0]
    item = client_lists([(record, None)])
    detail = next(entry for entries in item.values() for entry in entries)
    return detail | {
        "memory_view": "user" if record.source == "user" else record.source,
        "title": record.details.title or record.text[:60],
        "content": record.text,
        "message_ids": [record.message_id],
        "algorithm_updatable": not kind_of(record.kind).is_file_chunk,
        "created_at": detail["create_time"],
        "updated_at": detail["update_time"],
        "version": record.version,
        "history": history_of(record, await call.services.memory_service.history(record)),
    }


async def get_message(call: Call, request: GetMessageRequest) -> dict[str, Any]:
    user, session = call.user(request.user_id), request.session_id
    owned_scopes = await call.services.registry.scopes_of_owner(call.tenant, user)
    records: list[Record] = []
    for scope in {scope.value: scope for scope in (scope_of(call.tenant, user), *owned_scopes)}.values():
        if session:
            limit = request.message_limit_number * _MAX_PARTS
            records += await call.services.memory_service.conversation(scope, session, limit)
        else:
            records += await _list_records(call, scope, lambda record: record.kind == "turn")
    records.sort(key=lambda record: record.event_time)
    messages: list[dict[str, Any]] = []
    for record in records:
        if record.kind != "turn":
            continue
        if record.part and messages and messages[-1]["role"] == record.source:
            messages[-1]["content"] += record.text
        elif not record.part:
            messages.append(message_item(record, record.text))
    return {"message_detail_list": messages[-request.message_limit_number :]}


async def get_cube(call: Call, request: GetCubeRequest) -> dict[str, Any]:
    return _cube_page(request, *await _load_cube_records(call, request))


def _cube_page(request: GetCubeRequest, access: Access, records: Sequence[Record]) -> dict[str, Any]:
    start = (request.page - 1) * request.page_size if request.page_size else 0
    groups = _included_groups(request)
    data: dict[str, Any] = {}
    for group, name in NATIVE_LISTS.items():
        data[name] = []
        for scope in access.identity.reads if groups[group] else ():
            matching = [record for record in records if record.scope == scope.value and group_of(record.kind) == group]
            page_records = matching[start : start + request.page_size] if request.page_size else matching
            items = [native_item(record) for record in page_records]
            data[name].append({"cube_id": scope.cube_id, "memories": items, "total_nodes": len(matching)})
    return data


async def _load_cube_records(call: Call, request: GetCubeRequest) -> tuple[Access, list[Record]]:
    """The memories of a cube, newest first. If the request names no user, the cube's owner is looked up."""
    if request.user_id:
        access = await call.access(request)
    else:
        access = await call.access(
            request.model_copy(update={"user_id": await _find_owner(call, request.mem_cube_id or "")})
        )
    return access, await _load_newest_first(call, access)


async def _find_owner(call: Call, cube_id: str) -> str:
    """The owner of a cube: the key's user, else a registered owner.

    The id of a user's own cube, and of one without a known owner, is the owner's id.
    """
    scopes = await call.services.registry.scopes_of_cube(call.tenant, cube_id)
    owners = [scope.owner for scope in scopes if scope.owner and may_touch(call.principal, scope)]
    if call.principal.user is not None:
        return call.principal.user
    return owners[0] if owners and cube_id not in owners else cube_id


async def get_cube_memory(call: Call, _: None) -> web.StreamResponse:
    memory_id = call.request.match_info["memory_id"]
    records = await call.services.memory_service.find(call.principal, [memory_id])
    if not records:
        displayed_id = plain_id(memory_id) if plain_id(memory_id).isalnum() else "this"
        return call.reply(f"Memory with ID {displayed_id} not found", None)
    item = native_item(records[0])
    item["metadata"]["history"] = history_of(records[0], await call.services.memory_service.history(records[0]))
    return call.reply("Memory retrieved successfully", item)


async def get_by_ids(call: Call, _: None) -> dict[str, Any]:
    ids = await call.json()
    if isinstance(ids, list):
        ids = {"memory_ids": ids}
    request = checked(MemoryIdsRequest, ids)
    records = await call.services.memory_service.find(call.principal, request.memory_ids)
    return {"memories": [native_item(record) for record in records]}


async def get_dashboard(call: Call, request: DashboardRequest) -> dict[str, Any]:
    access, records = await _load_cube_records(call, request)
    counts = Counter(map(memory_type, records))
    return _cube_page(request, access, records) | {"memory_statistics": {"total": len(records), "by_type": counts}}


async def get_all(call: Call, request: GetAllRequest) -> list[dict[str, Any]]:
    if request.mem_cube_ids:
        request = request.model_copy(update={"readable_cube_ids": request.mem_cube_ids[:1]})
    access = await call.access(request)
    scope = access.identity.reads[0]
    records = [] if request.memory_type != "text_mem" else await _list_records(call, scope, access.allows(scope))
    if request.search_query and records:
        allows = access.by_scope
        options = RecallOptions(text=200, preference=20, tool=20, skill=20, min_relativity=0.2, allows=allows)
        hits = {memory.record.id for memory in await call.search(access, request.search_query, options)}
        records = [record for record in records if record.id in hits]
    counts = Counter(map(memory_type, records))
    record_ids = {record.id for record in records}
    graph = {
        "nodes": [native_item(record) for record in records],
        "edges": [
            {"source": record.id, "target": link, "type": "FROM"}
            for record in records
            for link in record.links
            if link in record_ids
        ],
        "tree_structure": {
            "id": scope.cube_id,
            "node_name": "root",
            "children": [{"node_name": name, "value": count} for name, count in counts.items()],
        },
    }
    return [{"cube_id": scope.cube_id, "memories": [graph], "memory_statistics": counts}]
