"""Reading memories without a question: by page, by id, by conversation, as a graph."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web

from gateway.errors import NotFound
from gateway.identity import may_touch, scope_of
from gateway.store.filters import memory_type, plain_id
from gateway.store.lineage import EDIT_OF
from gateway.turn import Record, Scope, Wanted, group_of
from gateway.wire.memos.envelope import Access, Call, Operation, client, native
from gateway.wire.memos.items import EMPTY_LISTS, client_lists, history_of, message_item, native_item
from gateway.wire.memos.manage_models import (
    DashboardRequest,
    GetAllRequest,
    GetCubeRequest,
    GetMessageRequest,
    GetRequest,
    MemoryIdsRequest,
)
from gateway.wire.memos.models import checked

__all__ = ["reading_operations"]

_MAX_PARTS = 20  # records that one message may be stored in


def reading_operations() -> list[Operation]:
    return [
        client("/get/memory", get_memory, "Page through memories", GetRequest),
        client("/get/memory/{memory_id}", get_memory_by_id, "One memory by its id", method="GET"),
        client("/get/message", get_message, "Newest messages of a conversation", GetMessageRequest),
        native(
            "/get_memory", get_cube, "Page through one cube", GetCubeRequest, message="Memories retrieved successfully"
        ),
        native(
            "/get_memory/{memory_id}",
            get_cube_memory,
            "One memory by its id; null if there is none",
            method="GET",
            message="Memory retrieved successfully",
        ),
        native(
            "/get_memory_by_ids",
            get_by_ids,
            "Memories by a bare list of ids",
            message="Memories retrieved successfully",
        ),
        native(
            "/get_memory_dashboard",
            get_dashboard,
            "Page through a cube, with figures",
            DashboardRequest,
            message="Memories retrieved successfully",
        ),
        native(
            "/get_all",
            get_all,
            "A cube as a graph",
            GetAllRequest,
            message="Memories retrieved successfully",
            data="array",
        ),
    ]


async def get_memory(call: Call, asked: GetRequest) -> dict[str, Any]:
    access = await call.access(asked)
    records = await _newest_first(call, access)
    first, last = (asked.page - 1) * asked.page_size, asked.page * asked.page_size
    wanted = {
        "text": True,
        "preference": asked.include_preference,
        "tool": asked.include_tool_memory,
        "skill": asked.include_skill_memory,
    }
    shown: list[Record] = []
    total = 0
    for group, is_wanted in wanted.items():
        own = [record for record in records if group_of(record.kind) == group] if is_wanted else []
        total = max(total, len(own))
        shown += own[first:last]
    data: dict[str, Any] = {**client_lists((record, None) for record in shown), **EMPTY_LISTS}
    pages = -(-total // asked.page_size)
    return data | {"total": total, "size": asked.page_size, "current": asked.page, "pages": pages}


async def _listed(call: Call, scope: Scope, allows: Callable[[Record], bool] | None) -> list[Record]:
    """The memories of a scope, oldest first; an earlier text of one is its history, and no memory of its own."""
    records = await call.desk.library.records(scope, allows)
    return [record for record in records if EDIT_OF not in record.info]


async def _newest_first(call: Call, access: Access) -> list[Record]:
    records: list[Record] = []
    for scope in access.identity.reads:
        records += await _listed(call, scope, access.allows(scope))
    return sorted(records, key=lambda record: (-record.event_time, -record.part))


async def get_memory_by_id(call: Call, _: None) -> dict[str, Any]:
    found = await call.desk.library.find(call.principal, [call.request.match_info["memory_id"]])
    if not found:
        raise NotFound("there is no memory of this id")
    record = found[0]
    item = client_lists([(record, None)])
    detail = next(entry for entries in item.values() for entry in entries)
    return detail | {
        "memory_view": "user" if record.source == "user" else record.source,
        "title": str(record.info.get("title") or record.text[:60]),
        "content": record.text,
        "message_ids": [record.message_id],
        "algorithm_updatable": record.kind != "document",
        "created_at": detail["create_time"],
        "updated_at": detail["update_time"],
        "version": record.version,
        "history": history_of(record, await call.desk.library.history(record)),
    }


async def get_message(call: Call, asked: GetMessageRequest) -> dict[str, Any]:
    user, session = call.user(asked.user_id), asked.session_id
    known = await call.desk.registry.scopes_of_owner(call.tenant, user)
    records: list[Record] = []
    for scope in {one.value: one for one in (scope_of(call.tenant, user), *known)}.values():
        if session:
            most = asked.message_limit_number * _MAX_PARTS
            records += await call.desk.library.conversation(scope, session, most)
        else:
            records += await _listed(call, scope, lambda record: record.kind == "turn")
    records.sort(key=lambda record: record.event_time)
    messages: list[dict[str, Any]] = []
    for record in records:
        if record.kind != "turn":
            continue
        if record.part and messages and messages[-1]["role"] == record.source:
            messages[-1]["content"] += record.text
        elif not record.part:
            messages.append(message_item(record, record.text))
    return {"message_detail_list": messages[-asked.message_limit_number :]}


async def get_cube(call: Call, asked: GetCubeRequest) -> dict[str, Any]:
    return _cube_page(asked, *await _cube_records(call, asked))


def _cube_page(asked: GetCubeRequest, access: Access, records: Sequence[Record]) -> dict[str, Any]:
    begin = (asked.page - 1) * asked.page_size if asked.page_size else 0
    wanted = {
        "text_mem": ("text", True),
        "pref_mem": ("preference", asked.include_preference),
        "tool_mem": ("tool", asked.include_tool_memory),
        "skill_mem": ("skill", asked.include_skill_memory),
    }
    data: dict[str, Any] = {}
    for name, (group, is_wanted) in wanted.items():
        data[name] = []
        for scope in access.identity.reads if is_wanted else ():
            own = [one for one in records if one.scope == scope.value and group_of(one.kind) == group]
            shown = own[begin : begin + asked.page_size] if asked.page_size else own
            items = [native_item(record) for record in shown]
            data[name].append({"cube_id": scope.cube_id, "memories": items, "total_nodes": len(own)})
    return data


async def _cube_records(call: Call, asked: GetCubeRequest) -> tuple[Access, list[Record]]:
    """The memories of a cube; where no user is named, of each cube of that name that the key may read."""
    if asked.user_id:
        access = await call.access(asked)
    else:
        access = await call.access(asked.model_copy(update={"user_id": await _owner_of(call, asked.mem_cube_id or "")}))
    return access, await _newest_first(call, access)


async def _owner_of(call: Call, cube_id: str) -> str:
    """Whose cube this is; a cube that is its own user's, or nobody's, has its owner's name."""
    known = await call.desk.registry.scopes_of_cube(call.tenant, cube_id)
    owners = [scope.owner for scope in known if scope.owner and may_touch(call.principal, scope)]
    if call.principal.user is not None:
        return call.principal.user
    return owners[0] if owners and cube_id not in owners else cube_id


async def get_cube_memory(call: Call, _: None) -> web.StreamResponse:
    memory_id = call.request.match_info["memory_id"]
    found = await call.desk.library.find(call.principal, [memory_id])
    if not found:
        shown = plain_id(memory_id) if plain_id(memory_id).isalnum() else "this"
        return call.reply(f"Memory with ID {shown} not found", None)
    item = native_item(found[0])
    item["metadata"]["history"] = history_of(found[0], await call.desk.library.history(found[0]))
    return call.reply("Memory retrieved successfully", item)


async def get_by_ids(call: Call, _: None) -> dict[str, Any]:
    ids = await call.json()
    if isinstance(ids, list):
        ids = {"memory_ids": ids}
    asked = checked(MemoryIdsRequest, ids)
    found = await call.desk.library.find(call.principal, asked.memory_ids)
    return {"memories": [native_item(record) for record in found]}


async def get_dashboard(call: Call, asked: DashboardRequest) -> dict[str, Any]:
    access, records = await _cube_records(call, asked)
    counts = Counter(map(memory_type, records))
    return _cube_page(asked, access, records) | {"memory_statistics": {"total": len(records), "by_type": counts}}


async def get_all(call: Call, asked: GetAllRequest) -> list[dict[str, Any]]:
    if asked.mem_cube_ids:
        asked = asked.model_copy(update={"readable_cube_ids": asked.mem_cube_ids[:1]})
    access = await call.access(asked)
    scope = access.identity.reads[0]
    records = [] if asked.memory_type != "text_mem" else await _listed(call, scope, access.allows(scope))
    if asked.search_query and records:
        allows = access.by_scope
        wanted = Wanted(text=200, preference=20, tool=20, skill=20, min_relativity=0.2, allows=allows)
        hits = {memory.record.id for memory in await call.search(access, asked.search_query, wanted)}
        records = [record for record in records if record.id in hits]
    counts = Counter(map(memory_type, records))
    known = {record.id for record in records}
    graph = {
        "nodes": [native_item(record) for record in records],
        "edges": [
            {"source": record.id, "target": link, "type": "FROM"}
            for record in records
            for link in record.links
            if link in known
        ],
        "tree_structure": {
            "id": scope.cube_id,
            "node_name": "root",
            "children": [{"node_name": name, "value": count} for name, count in counts.items()],
        },
    }
    return [{"cube_id": scope.cube_id, "memories": [graph], "memory_statistics": counts}]
