"""Routes that change and delete memories, and those for re-ranking, profiles, suggestions and settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from gateway.api.memos.envelope import Call, Operation, client, native, of_scope, read_filter
from gateway.api.memos.manage_models import (
    BindProfileRequest,
    DeleteRequest,
    ProfileRequest,
    RecordRequest,
    RerankRequest,
    SuggestionRequest,
    UpdateRequest,
)
from gateway.concurrency.offload import offload
from gateway.errors import BadRequest, Forbidden, NotFound
from gateway.formats.chat import text_of
from gateway.identity import agent_scope, checked_id, cube_scopes, scope_of
from gateway.llm.questions import suggest
from gateway.memory.filters import file_ids, memory_type
from gateway.memory.kinds import group_of
from gateway.memory.record import Record
from gateway.storage.values import PROFILE
from gateway.turn import Identity, Right, Scope, ScopeKind

__all__ = ["upkeep_operations"]

_MAX_RANKED_CHARACTERS = 4000  # characters of a document that re-ranking considers
_SHARED = (ScopeKind.AGENT, ScopeKind.PUBLIC, ScopeKind.KNOWLEDGE)
_SUGGESTION_MESSAGES = 20  # most recent messages that suggestions are based on


def upkeep_operations() -> list[Operation]:
    return [
        client("/update/memory", update_memory, "Change a memory", UpdateRequest),
        client("/delete/memory", delete_memory, "Delete memories", DeleteRequest),
        native(
            "/delete_memory", delete_native, "Delete memories", DeleteRequest, message="Memories deleted successfully"
        ),
        native(
            "/delete_memory_by_record_id",
            delete_record,
            "Take a memory out, or delete it for good",
            RecordRequest,
            message="Called Successfully",
        ),
        native(
            "/recover_memory_by_record_id",
            recover_record,
            "Bring back a memory that was taken out",
            RecordRequest,
            message="Called Successfully",
        ),
        client("/rerank", rerank, "Order texts by relevance", RerankRequest),
        client("/bind/profile_template", bind_profiles, "Give users or agents a profile", BindProfileRequest),
        client("/edit/profile", edit_profile, "Change a profile", ProfileRequest),
        client("/delete/profile", delete_profile, "Drop a profile", ProfileRequest),
        native(
            "/suggestions",
            suggestions,
            "Three questions to ask next",
            SuggestionRequest,
            message="Suggestions retrieved successfully",
        ),
        native(
            "/configure",
            configure,
            "Change defaults of chats at run time (right `admin`)",
            message="Configuration set successfully",
        ),
        native("/configure", configuration, "The defaults of chats (right `admin`)", method="GET"),
    ]


async def update_memory(call: Call, request: UpdateRequest) -> dict[str, Any]:
    library = call.desk.library
    records = await library.find(call.principal, [request.memory_id])
    if not records:
        raise NotFound("there is no memory of this id", param="memory_id")
    if request.status == "deleted":
        await library.delete(records)
        return {"success": True, "memory_id": records[0].id}
    old = records[0]
    edited = replace(old, text=request.content or old.text, details=replace(old.details, title=request.title or ""))
    turn = call.turn(Identity(old.user_id, old.session_id, (), ()))
    screened = await call.desk.remember.screened(turn, [edited])
    if not screened:
        raise Forbidden("a plugin does not let this be stored")
    record = screened[0]
    text = None if request.content is None else record.text
    title = None if request.title is None else record.details.title
    changed = await library.update(old, text=text, status=request.status, title=title)
    return {"success": True, "memory_id": changed.id, "version": changed.version}


async def delete_memory(call: Call, request: DeleteRequest) -> dict[str, Any]:
    await _delete(call, request)
    return {"success": True}


async def delete_native(call: Call, request: DeleteRequest) -> dict[str, Any]:
    await _delete(call, request)
    return {"status": "success"}


async def _delete(call: Call, request: DeleteRequest) -> int:
    library = call.desk.library
    if request.memory_ids:
        records = await library.find(call.principal, request.memory_ids)
        users = set(request.user_ids) | ({request.user_id} if request.user_id else set())
        cubes = set(request.writable_cube_ids or ()) | ({request.mem_cube_id} if request.mem_cube_id else set())
        records = [record for record in records if not users or record.user_id in users]
        records = [record for record in records if not cubes or record.cube_id in cubes]
    else:
        records = []
        conditions = _build_conditions(request)
        for scope, allows in await _scopes_to_delete_from(call, request):
            records += await library.records(scope, _match_all([*conditions, *([allows] if allows else [])]))
    if request.memory_type:
        type_name = request.memory_type
        records = [
            record for record in records if type_name in (memory_type(record), record.kind, group_of(record.kind))
        ]
    return await library.delete(records) if records else 0


def _build_conditions(request: DeleteRequest) -> list[Callable[[Record], bool]]:
    conditions: list[Callable[[Record], bool]] = []
    if request.session_id:
        conditions.append(lambda record: record.session_id == request.session_id)
    if request.agent_id and (request.user_id or request.user_ids):
        conditions.append(lambda record: record.agent_id == request.agent_id)
    if request.file_ids:
        files = set(request.file_ids)
        conditions.append(lambda record: bool(files.intersection(file_ids(record))))
    return conditions


def _match_all(conditions: Sequence[Callable[[Record], bool]]) -> Callable[[Record], bool]:
    return lambda record: all(condition(record) for condition in conditions)


async def _scopes_to_delete_from(
    call: Call, request: DeleteRequest
) -> list[tuple[Scope, Callable[[Record], bool] | None]]:
    """Scopes of a deletion by condition, each with its filter: those of the users, of the agent, or all of the key."""
    registry, parsed = call.desk.registry, read_filter(request.filter)
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
    return lambda record: record.user_id in users and record.kind != "document" and (allows is None or allows(record))


async def _scopes_of_user(call: Call, user: str, request: DeleteRequest) -> list[Scope]:
    owned_scopes = await call.desk.registry.scopes_of_owner(call.tenant, user)
    named_cubes = cube_scopes(call.tenant, user, request.writable_cube_ids or ())
    return list({scope.value: scope for scope in (scope_of(call.tenant, user), *named_cubes, *owned_scopes)}.values())


async def delete_record(call: Call, request: RecordRequest) -> dict[str, Any]:
    record = await _find_record(call, request.record_id, request.mem_cube_id)
    if request.hard_delete:
        await call.desk.library.delete([record])
    else:
        await call.desk.library.update(record, status="archived")
    return {"status": "success", "record_id": record.id}


async def recover_record(call: Call, request: RecordRequest) -> dict[str, Any]:
    record = await _find_record(call, request.delete_record_id, request.mem_cube_id)
    await call.desk.library.update(record, status="activated")
    return {"status": "success", "record_id": record.id}


async def _find_record(call: Call, record_id: str | None, cube_id: str) -> Record:
    if not record_id:
        raise BadRequest("record_id: is needed", param="record_id")
    records = await call.desk.library.find(call.principal, [record_id])
    if not records or records[0].cube_id != cube_id:
        raise NotFound("there is no memory of this id in this cube", param="record_id")
    return records[0]


async def rerank(call: Call, request: RerankRequest) -> Any:
    """Rank texts by the gateway's relevance: lexical and semantic. The result is at the top level and in `data`."""
    order = await call.desk.pipeline.recall.rank_texts(
        request.query, [text[:_MAX_RANKED_CHARACTERS] for text in request.documents]
    )
    results = [
        {"index": index, "document": {"text": request.documents[index]}, "relevance_score": round(score, 4)}
        for index, score in order[: request.top_n or len(order)]
    ]
    texts = (request.query, *request.documents)
    tokens = await offload(lambda: sum(map(call.desk.pipeline.count, texts)), sum(map(len, texts)))
    result = {
        "id": f"rerank-{call.request_id}",
        "model": request.model or "memory-gateway",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": results,
    }
    return call.whole({"code": call.code, "message": "ok", **result, "data": result})


async def bind_profiles(call: Call, request: BindProfileRequest) -> dict[str, Any]:
    bindings = []
    for index, entry in enumerate(request.bind_list):
        template, user, agent = entry.get("profile_template_id"), entry.get("user_id"), entry.get("agent_id")
        subjects = [name for name in (user, agent) if name]
        if not isinstance(template, str) or not template or len(subjects) != 1 or not isinstance(subjects[0], str):
            raise BadRequest(
                f"bind_list[{index}]: needs profile_template_id, and either user_id or agent_id", param="bind_list"
            )
        metadata = entry.get("metadata")
        bindings.append((template, user, agent, metadata if isinstance(metadata, dict) else {}))
    for template, user, agent, metadata in bindings:
        await _put_profile(call, template, user, agent, metadata)
    return {"success": True, "bound": len(bindings)}


async def edit_profile(call: Call, request: ProfileRequest) -> dict[str, Any]:
    if not request.metadata and not request.remove_fields:
        raise BadRequest("metadata or remove_fields is needed", param="metadata")
    registry = call.desk.registry
    async with registry.changing:
        item = await registry.item(call.tenant, PROFILE, _profile_id(call, request))
        if item is None:
            raise NotFound("there is no such profile; bind it first", param="profile_template_id")
        profile = merge_profile(item.value.get("metadata", {}), request.metadata)
        removed = [name for name in request.remove_fields if remove_field(profile, name)]
        if request.remove_fields and not removed and not request.metadata:
            raise NotFound("the profile has none of these fields", param="remove_fields")
        await _put_profile(call, request.profile_template_id, request.user_id, request.agent_id, profile)
    return {"success": True, "metadata": profile, "removed": removed}


def merge_profile(profile: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `changes` into a copy of a profile, at any depth; other fields are unchanged."""
    result = dict(profile)
    for name, value in changes.items():
        old = result.get(name)
        result[name] = merge_profile(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def remove_field(profile: dict[str, Any], name: str) -> bool:
    """Remove a field in place, by its name or by a dotted path. False if there is no such field."""
    if name in profile:
        del profile[name]
        return True
    steps = name.split(".")
    for count in range(1, len(steps)):  # a name may contain dots
        inner = profile.get(".".join(steps[:count]))
        if isinstance(inner, dict) and remove_field(inner, ".".join(steps[count:])):
            return True
    return False


async def delete_profile(call: Call, request: ProfileRequest) -> dict[str, Any]:
    name = _profile_id(call, request)
    if await call.desk.registry.item(call.tenant, PROFILE, name) is None:
        raise NotFound("there is no such profile", param="profile_template_id")
    await call.desk.registry.drop_item(call.tenant, PROFILE, name)
    return {"success": True}


def _profile_id(call: Call, request: ProfileRequest) -> str:
    return _profile_name(call, request.profile_template_id, request.user_id, request.agent_id)


def _profile_name(call: Call, template: str, user: str | None, agent: str | None) -> str:
    if user:
        return orjson.dumps([template, "user", call.user(user)]).decode()
    call.require_project_key()
    return orjson.dumps([template, "agent", checked_id(agent or "", "agent_id")]).decode()


async def _put_profile(
    call: Call, template: str, user: str | None, agent: str | None, metadata: dict[str, Any]
) -> None:
    value = {"profile_template_id": template, "user_id": user, "agent_id": agent, "metadata": metadata}
    await call.desk.registry.put_item(call.tenant, PROFILE, _profile_name(call, template, user, agent), value)


async def suggestions(call: Call, request: SuggestionRequest) -> dict[str, Any]:
    if request.message:
        texts = [text_of(message.get("content")).strip() for message in request.message]
    else:
        access = await call.access(request)
        records: list[Record] = []
        for scope in access.identity.reads:
            records += await call.desk.library.records(
                scope, lambda record: record.source == "user" and record.status == "activated"
            )
        records.sort(key=lambda record: -record.event_time)
        texts = [record.text for record in records[:_SUGGESTION_MESSAGES]]
    timeout = call.desk.config.memory.extraction.timeout
    questions = await suggest(call.desk.asker, [text for text in texts if text], request.language, timeout)
    return {"query": questions}


async def configure(call: Call, _: None) -> None:
    call.require(Right.ADMIN)
    await call.desk.defaults.change(call.tenant, await call.json())


async def configuration(call: Call, _: None) -> dict[str, Any]:
    call.require(Right.ADMIN)
    return (await call.desk.defaults.of(call.tenant)).model_dump()
