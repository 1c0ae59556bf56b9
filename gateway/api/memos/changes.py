"""Routes that change, delete, archive and restore memories."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from gateway.api.memos.envelope import Call, Operation, client, native, of_scope, read_filter
from gateway.api.memos.manage_models import (
    DeleteRequest,
    RecordRequest,
    UpdateRequest,
)
from gateway.errors import BadRequest, Forbidden, NotFound
from gateway.identity import agent_scope, checked_id, cube_scopes, scope_of
from gateway.memory.filters import memory_type
from gateway.memory.kinds import group_of, kind_of
from gateway.memory.record import Record
from gateway.turn import Identity, Scope, ScopeKind

__all__ = ["change_operations"]

_SHARED = (ScopeKind.AGENT, ScopeKind.PUBLIC, ScopeKind.KNOWLEDGE)


def change_operations() -> list[Operation]:
    return [
        client("/update/memory", update_memory, "Change a memory", UpdateRequest),
        client("/delete/memory", delete_memory, "Delete memories", DeleteRequest),
        native(
            "/delete_memory", delete_native, "Delete memories", DeleteRequest, message="Memories deleted successfully"
        ),
        native(
            "/delete_memory_by_record_id",
            delete_record,
            "Archive a memory, or delete it permanently",
            RecordRequest,
            message="Called Successfully",
        ),
        native(
            "/recover_memory_by_record_id",
            recover_record,
            "Restore an archived memory",
            RecordRequest,
            message="Called Successfully",
        ),
    ]


async def update_memory(call: Call, request: UpdateRequest) -> dict[str, Any]:
    memory_service = call.services.memory_service
    records = await memory_service.find(call.principal, [request.memory_id])
    if not records:
        raise NotFound("there is no memory of this id", param="memory_id")
    if request.status == "deleted":
        await memory_service.delete(records)
        return {"success": True, "memory_id": records[0].id}
    old = records[0]
    edited = replace(old, text=request.content or old.text, details=replace(old.details, title=request.title or ""))
    turn = call.turn(Identity(old.user_id, old.session_id, (), ()))
    screened = await call.services.remember.screened(turn, [edited])
    if not screened:
        raise Forbidden("a plugin does not let this be stored")
    record = screened[0]
    text = None if request.content is None else record.text
    title = None if request.title is None else record.details.title
    changed = await memory_service.edit(old, text=text, status=request.status, title=title)
    return {"success": True, "memory_id": changed.id, "version": changed.version}


async def delete_memory(call: Call, request: DeleteRequest) -> dict[str, Any]:
    await _delete(call, request)
    return {"success": True}


async def delete_native(call: Call, request: DeleteRequest) -> dict[str, Any]:
    await _delete(call, request)
    return {"status": "success"}


async def _delete(call: Call, request: DeleteRequest) -> int:
    memory_service = call.services.memory_service
    if request.memory_ids:
        records = await memory_service.find(call.principal, request.memory_ids)
        users = set(request.user_ids) | ({request.user_id} if request.user_id else set())
        cubes = set(request.writable_cube_ids or ()) | ({request.mem_cube_id} if request.mem_cube_id else set())
        records = [record for record in records if not users or record.user_id in users]
        records = [record for record in records if not cubes or record.cube_id in cubes]
    else:
        records = []
        conditions = _build_conditions(request)
        for scope, allows in await _scopes_to_delete_from(call, request):
            records += await memory_service.records(scope, _match_all([*conditions, *([allows] if allows else [])]))
    if request.memory_type:
        type_name = request.memory_type
        records = [
            record for record in records if type_name in (memory_type(record), record.kind, group_of(record.kind))
        ]
    return await memory_service.delete(records) if records else 0


def _build_conditions(request: DeleteRequest) -> list[Callable[[Record], bool]]:
    conditions: list[Callable[[Record], bool]] = []
    if request.session_id:
        conditions.append(lambda record: record.session_id == request.session_id)
    if request.agent_id and (request.user_id or request.user_ids):
        conditions.append(lambda record: record.agent_id == request.agent_id)
    if request.file_ids:
        files = set(request.file_ids)
        conditions.append(lambda record: bool(files.intersection(record.origin.file_ids)))
    return conditions


def _match_all(conditions: Sequence[Callable[[Record], bool]]) -> Callable[[Record], bool]:
    return lambda record: all(condition(record) for condition in conditions)


async def _scopes_to_delete_from(
    call: Call, request: DeleteRequest
) -> list[tuple[Scope, Callable[[Record], bool] | None]]:
    """Scopes of a deletion by condition, each with its filter: those of the users, of the agent, or all of the key."""
    registry, parsed = call.services.registry, read_filter(request.filter)
    users = list(dict.fromkeys([*request.user_ids, *([request.user_id] if request.user_id else [])]))
    if users:
        scopes = [scope for user in users for scope in await _scopes_of_user(call, call.user(user), request)]
        shared = [scope for scope in await registry.scopes(call.tenant) if not scope.owner and scope.kind in _SHARED]
        scopes += shared  # they may have copies of the user's messages to agents, or of public ones
    elif request.agent_id:
        call.require_project_key()
        scopes = [agent_scope(call.tenant, checked_id(request.agent_id, "agent_id"))]
    else:
        all_scopes = await registry.scopes(call.tenant)
        pinned = call.principal.user
        scopes = [scope for scope in all_scopes if pinned is None or scope.owner == pinned]
    cube_ids = request.writable_cube_ids or ((request.mem_cube_id,) if request.mem_cube_id else None)
    if cube_ids is not None:
        scopes = [scope for scope in scopes if scope.cube_id in cube_ids]
    filters = [(scope, _restrict_to_users(of_scope(parsed, scope), scope, users)) for scope in scopes]
    # a filter by cube does not apply to other cubes: nothing is deleted there
    return [(scope, allows) for scope, allows in filters if allows is not None or not request.filter]


def _restrict_to_users(
    allows: Callable[[Record], bool] | None, scope: Scope, users: Sequence[str]
) -> Callable[[Record], bool] | None:
    """In a shared scope, restrict a deletion to the records of these users, without documents."""
    if not users or scope.owner:
        return allows

    def is_theirs(record: Record) -> bool:
        return record.user_id in users and not kind_of(record.kind).is_file_chunk and (allows is None or allows(record))

    return is_theirs


async def _scopes_of_user(call: Call, user: str, request: DeleteRequest) -> list[Scope]:
    owned_scopes = await call.services.registry.scopes_of_owner(call.tenant, user)
    named_cubes = cube_scopes(call.tenant, user, request.writable_cube_ids or ())
    return list({scope.value: scope for scope in (scope_of(call.tenant, user), *named_cubes, *owned_scopes)}.values())


async def delete_record(call: Call, request: RecordRequest) -> dict[str, Any]:
    record = await _find_record(call, request.record_id, request.mem_cube_id)
    if request.hard_delete:
        await call.services.memory_service.delete([record])
    else:
        await call.services.memory_service.archive(record)
    return {"status": "success", "record_id": record.id}


async def recover_record(call: Call, request: RecordRequest) -> dict[str, Any]:
    record = await _find_record(call, request.delete_record_id, request.mem_cube_id)
    await call.services.memory_service.restore(record)
    return {"status": "success", "record_id": record.id}


async def _find_record(call: Call, record_id: str | None, cube_id: str) -> Record:
    if not record_id:
        raise BadRequest("record_id: is needed", param="record_id")
    records = await call.services.memory_service.find(call.principal, [record_id])
    if not records or records[0].cube_id != cube_id:
        raise NotFound("there is no memory of this id in this cube", param="record_id")
    return records[0]
