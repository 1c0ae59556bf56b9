"""Routes of MemOS' profiles: values of a template that are bound to users and agents."""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.api.memos.envelope import Call, Operation, client
from gateway.api.memos.manage_models import (
    BindProfileRequest,
    ProfileRequest,
)
from gateway.errors import BadRequest, NotFound
from gateway.identity import checked_id
from gateway.storage.values import PROFILE

__all__ = ["merge_profile", "profile_operations", "remove_field"]


def profile_operations() -> list[Operation]:
    return [
        client("/bind/profile_template", bind_profiles, "Bind profiles to users or agents", BindProfileRequest),
        client("/edit/profile", edit_profile, "Edit a profile", ProfileRequest),
        client("/delete/profile", delete_profile, "Delete a profile", ProfileRequest),
    ]


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
    registry = call.services.registry
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
    if await call.services.registry.item(call.tenant, PROFILE, name) is None:
        raise NotFound("there is no such profile", param="profile_template_id")
    await call.services.registry.drop_item(call.tenant, PROFILE, name)
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
    await call.services.registry.put_item(call.tenant, PROFILE, _profile_name(call, template, user, agent), value)
