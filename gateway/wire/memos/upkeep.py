"""Changing and deleting memories, and what needs no memory: re-ranking, profiles, suggestions, settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from gateway.asking import suggest
from gateway.errors import BadRequest, Forbidden, NotFound
from gateway.identity import agent_scope, checked_id, cube_scopes, scope_of
from gateway.offload import offload
from gateway.store.filters import file_ids, memory_type
from gateway.store.registry import PROFILE
from gateway.turn import Identity, Record, Right, Scope, ScopeKind, group_of
from gateway.wire.dialects.chat import text_of
from gateway.wire.memos.envelope import Call, Operation, client, native, of_scope, read_filter
from gateway.wire.memos.manage_models import (
    BindProfileRequest,
    DeleteRequest,
    ProfileRequest,
    RecordRequest,
    RerankRequest,
    SuggestionRequest,
    UpdateRequest,
)

__all__ = ["upkeep_operations"]

_RANKED = 4000  # characters of a document that its relevance is judged by
_SHARED = (ScopeKind.AGENT, ScopeKind.PUBLIC, ScopeKind.KNOWLEDGE)
_SUGGESTED_FROM = 20  # newest messages


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


async def update_memory(call: Call, asked: UpdateRequest) -> dict[str, Any]:
    library = call.desk.library
    found = await library.find(call.principal, [asked.memory_id])
    if not found:
        raise NotFound("there is no memory of this id", param="memory_id")
    if asked.status == "deleted":
        await library.delete(found)
        return {"success": True, "memory_id": found[0].id}
    old = found[0]
    wanted = replace(old, text=asked.content or old.text, info={**old.info, "title": asked.title or ""})
    turn = call.turn(Identity(old.user_id, old.session_id, (), ()))
    screened = await call.desk.remember.screened(turn, [wanted])
    if not screened:
        raise Forbidden("a plugin does not let this be stored")
    record = screened[0]
    text = None if asked.content is None else record.text
    title = None if asked.title is None else str(record.info.get("title", ""))
    changed = await library.update(old, text=text, status=asked.status, title=title)
    return {"success": True, "memory_id": changed.id, "version": changed.version}


async def delete_memory(call: Call, asked: DeleteRequest) -> dict[str, Any]:
    await _delete(call, asked)
    return {"success": True}


async def delete_native(call: Call, asked: DeleteRequest) -> dict[str, Any]:
    await _delete(call, asked)
    return {"status": "success"}


async def _delete(call: Call, asked: DeleteRequest) -> int:
    library = call.desk.library
    if asked.memory_ids:
        records = await library.find(call.principal, asked.memory_ids)
        users = set(asked.user_ids) | ({asked.user_id} if asked.user_id else set())
        cubes = set(asked.writable_cube_ids or ()) | ({asked.mem_cube_id} if asked.mem_cube_id else set())
        records = [one for one in records if not users or one.user_id in users]
        records = [one for one in records if not cubes or one.cube_id in cubes]
    else:
        records = []
        conditions = _conditions(asked)
        for scope, allows in await _scopes_to_delete_from(call, asked):
            records += await library.records(scope, _all_of([*conditions, *([allows] if allows else [])]))
    if asked.memory_type:
        wanted = asked.memory_type
        records = [one for one in records if wanted in (memory_type(one), one.kind, group_of(one.kind))]
    return await library.delete(records) if records else 0


def _conditions(asked: DeleteRequest) -> list[Callable[[Record], bool]]:
    found: list[Callable[[Record], bool]] = []
    if asked.session_id:
        found.append(lambda record: record.session_id == asked.session_id)
    if asked.agent_id and (asked.user_id or asked.user_ids):
        found.append(lambda record: record.agent_id == asked.agent_id)
    if asked.file_ids:
        files = set(asked.file_ids)
        found.append(lambda record: bool(files.intersection(file_ids(record))))
    return found


def _all_of(conditions: Sequence[Callable[[Record], bool]]) -> Callable[[Record], bool]:
    return lambda record: all(condition(record) for condition in conditions)


async def _scopes_to_delete_from(
    call: Call, asked: DeleteRequest
) -> list[tuple[Scope, Callable[[Record], bool] | None]]:
    """Where a deletion by condition looks: what is the user's, the agent's, or all that the key may touch."""
    registry, parsed = call.desk.registry, read_filter(asked.filter)
    users = list(dict.fromkeys([*asked.user_ids, *([asked.user_id] if asked.user_id else [])]))
    if users:
        scopes = [scope for user in users for scope in await _scopes_of_user(call, call.user(user), asked)]
        shared = [one for one in await registry.scopes(call.tenant) if not one.owner and one.kind in _SHARED]
        scopes += shared  # copies of what the user said to agents, or allowed to be public
    elif asked.agent_id:
        call.require_project_key()
        scopes = [agent_scope(call.tenant, checked_id(asked.agent_id, "agent_id"))]
    else:
        known = await registry.scopes(call.tenant)
        pinned = call.principal.user
        scopes = [scope for scope in known if pinned is None or scope.owner == pinned]
    named = asked.writable_cube_ids or ((asked.mem_cube_id,) if asked.mem_cube_id else None)
    if named is not None:
        scopes = [scope for scope in scopes if scope.cube_id in named]
    found = [(scope, _own_words(of_scope(parsed, scope), scope, users)) for scope in scopes]
    # a filter by cube says nothing of the cubes that it does not name: they are left alone
    return [(scope, allows) for scope, allows in found if allows is not None or not asked.filter]


def _own_words(
    allows: Callable[[Record], bool] | None, scope: Scope, users: Sequence[str]
) -> Callable[[Record], bool] | None:
    """In what several users share, a deletion of one user reaches what that user said."""
    if not users or scope.owner:
        return allows
    return lambda record: record.user_id in users and record.kind != "document" and (allows is None or allows(record))


async def _scopes_of_user(call: Call, user: str, asked: DeleteRequest) -> list[Scope]:
    known = await call.desk.registry.scopes_of_owner(call.tenant, user)
    named = cube_scopes(call.tenant, user, asked.writable_cube_ids or ())
    return list({scope.value: scope for scope in (scope_of(call.tenant, user), *named, *known)}.values())


async def delete_record(call: Call, asked: RecordRequest) -> dict[str, Any]:
    found = await _own_record(call, asked.record_id, asked.mem_cube_id)
    if asked.hard_delete:
        await call.desk.library.delete([found])
    else:
        await call.desk.library.update(found, status="archived")
    return {"status": "success", "record_id": found.id}


async def recover_record(call: Call, asked: RecordRequest) -> dict[str, Any]:
    found = await _own_record(call, asked.delete_record_id, asked.mem_cube_id)
    await call.desk.library.update(found, status="activated")
    return {"status": "success", "record_id": found.id}


async def _own_record(call: Call, record_id: str | None, cube_id: str) -> Record:
    if not record_id:
        raise BadRequest("record_id: is needed", param="record_id")
    found = await call.desk.library.find(call.principal, [record_id])
    if not found or found[0].cube_id != cube_id:
        raise NotFound("there is no memory of this id in this cube", param="record_id")
    return found[0]


async def rerank(call: Call, asked: RerankRequest) -> Any:
    """By the gateway's own measure of relevance: words and meaning. Top level and `data` hold the same."""
    order = await call.desk.pipeline.recall.rank_texts(asked.query, [text[:_RANKED] for text in asked.documents])
    results = [
        {"index": index, "document": {"text": asked.documents[index]}, "relevance_score": round(score, 4)}
        for index, score in order[: asked.top_n or len(order)]
    ]
    texts = (asked.query, *asked.documents)
    tokens = await offload(lambda: sum(map(call.desk.pipeline.count, texts)), sum(map(len, texts)))
    found = {
        "id": f"rerank-{call.request_id}",
        "model": asked.model or "memory-gateway",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": results,
    }
    return call.whole({"code": call.code, "message": "ok", **found, "data": found})


async def bind_profiles(call: Call, asked: BindProfileRequest) -> dict[str, Any]:
    bound = []
    for index, one in enumerate(asked.bind_list):
        template, user, agent = one.get("profile_template_id"), one.get("user_id"), one.get("agent_id")
        named = [name for name in (user, agent) if name]
        if not isinstance(template, str) or not template or len(named) != 1 or not isinstance(named[0], str):
            raise BadRequest(
                f"bind_list[{index}]: needs profile_template_id, and either user_id or agent_id", param="bind_list"
            )
        metadata = one.get("metadata")
        bound.append((template, user, agent, metadata if isinstance(metadata, dict) else {}))
    for template, user, agent, metadata in bound:
        await _put_profile(call, template, user, agent, metadata)
    return {"success": True, "bound": len(bound)}


async def edit_profile(call: Call, asked: ProfileRequest) -> dict[str, Any]:
    if not asked.metadata and not asked.remove_fields:
        raise BadRequest("metadata or remove_fields is needed", param="metadata")
    registry = call.desk.registry
    async with registry.changing:
        item = await registry.item(call.tenant, PROFILE, _profile_id(call, asked))
        if item is None:
            raise NotFound("there is no such profile; bind it first", param="profile_template_id")
        profile = merged(item.value.get("metadata", {}), asked.metadata)
        removed = [name for name in asked.remove_fields if remove_field(profile, name)]
        if asked.remove_fields and not removed and not asked.metadata:
            raise NotFound("the profile has none of these fields", param="remove_fields")
        await _put_profile(call, asked.profile_template_id, asked.user_id, asked.agent_id, profile)
    return {"success": True, "metadata": profile, "removed": removed}


def merged(profile: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A profile with the fields of `changes`, at any depth; those that it does not name stay as they are."""
    result = dict(profile)
    for name, value in changes.items():
        old = result.get(name)
        result[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def remove_field(profile: dict[str, Any], name: str) -> bool:
    """Remove a field by its name, or by a dotted path to it. False if it is not there."""
    if name in profile:
        del profile[name]
        return True
    steps = name.split(".")
    for count in range(1, len(steps)):  # a name may have dots itself
        inner = profile.get(".".join(steps[:count]))
        if isinstance(inner, dict) and remove_field(inner, ".".join(steps[count:])):
            return True
    return False


async def delete_profile(call: Call, asked: ProfileRequest) -> dict[str, Any]:
    name = _profile_id(call, asked)
    if await call.desk.registry.item(call.tenant, PROFILE, name) is None:
        raise NotFound("there is no such profile", param="profile_template_id")
    await call.desk.registry.drop_item(call.tenant, PROFILE, name)
    return {"success": True}


def _profile_id(call: Call, asked: ProfileRequest) -> str:
    return _profile_name(call, asked.profile_template_id, asked.user_id, asked.agent_id)


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


async def suggestions(call: Call, asked: SuggestionRequest) -> dict[str, Any]:
    if asked.message:
        said = [text_of(message.get("content")).strip() for message in asked.message]
    else:
        access = await call.access(asked)
        records: list[Record] = []
        for scope in access.identity.reads:
            records += await call.desk.library.records(
                scope, lambda record: record.source == "user" and record.status == "activated"
            )
        records.sort(key=lambda record: -record.event_time)
        said = [record.text for record in records[:_SUGGESTED_FROM]]
    timeout = call.desk.config.memory.extraction.timeout
    found = await suggest(call.desk.asker, [text for text in said if text], asked.language, timeout)
    return {"query": found}


async def configure(call: Call, _: None) -> None:
    call.require(Right.ADMIN)
    await call.desk.defaults.change(call.tenant, await call.json())


async def configuration(call: Call, _: None) -> dict[str, Any]:
    call.require(Right.ADMIN)
    return (await call.desk.defaults.of(call.tenant)).model_dump()
