"""Resolves the users and ids that a request to the memory API names, to scopes and memories that its key may touch.

A foreign id is answered as an unknown one.
"""

from collections.abc import Sequence

from aiohttp import web

from gateway.errors import BadRequest, Forbidden, NotFound
from gateway.identity import checked_id, scope_of
from gateway.memory.record import Record
from gateway.server.guard import principal_of
from gateway.service.memories import MemoryService
from gateway.storage.protocols import Registry
from gateway.turn import Principal, Right, Scope

__all__ = ["MemoryAccess", "find_by_prefix", "require", "user_cubes"]

_ID_LENGTH = 32  # characters
_MAX_IDS_IN_ERROR = 4  # ids in an error


class MemoryAccess:
    """The access of requests to memories. `default_user` applies to requests that name no user."""

    def __init__(self, memory_service: MemoryService, registry: Registry, default_user: str | None) -> None:
        self._memory_service = memory_service
        self._registry = registry
        self._default_user = default_user

    async def find_record(self, request: web.Request) -> Record:
        """The memory of the id, or the beginning of an id, in the path. Raises NotFound, BadRequest or Forbidden."""
        principal, id_ = require(request, Right.MEMORY), request.match_info["id"]
        records = await find_by_prefix(self._memory_service, principal, id_)
        if not records:
            raise NotFound("there is no memory of this id")
        if len(records) > 1:
            examples = ", ".join(record.id for record in records[:_MAX_IDS_IN_ERROR])
            raise BadRequest(
                f"{len(records)} memories have ids that begin so: {examples}", code="ambiguous_id", param="id"
            )
        return records[0]

    def user_of(self, principal: Principal, requested: str | None) -> str:
        """The user that a request is about. Raises Forbidden or BadRequest."""
        if principal.user is not None and requested not in (None, principal.user):
            raise Forbidden("this key is for one user, and `user` names another")
        user = principal.user or requested or self._default_user
        if not user:
            raise BadRequest("`user`: is needed", param="user")
        return checked_id(user, "user")

    async def user_scopes(self, request: web.Request) -> list[Scope]:
        """The cubes of the user in the query. Raises Forbidden or BadRequest."""
        principal = require(request, Right.MEMORY)
        return await self.scopes_of(principal.tenant, self.user_of(principal, request.query.get("user")))

    async def scopes_of(self, tenant: str, user: str) -> list[Scope]:
        """The cubes of a user, the default one first."""
        return await user_cubes(self._registry, tenant, user)

    async def find_owned(self, principal: Principal, user: str, memory_ids: Sequence[str]) -> list[Record]:
        """Those of the memories that are in cubes of a user."""
        scopes = {scope.value for scope in await self.scopes_of(principal.tenant, user)}
        records = await self._memory_service.find(principal, memory_ids)
        return [record for record in records if record.scope in scopes]


async def find_by_prefix(memory_service: MemoryService, principal: Principal, id_: str) -> list[Record]:
    """The memory of an id, or those whose ids begin so, of those that the key may touch."""
    records = await memory_service.find(principal, [id_])
    if not records and len(id_) < _ID_LENGTH:
        records = await memory_service.beginning(principal, id_.lower())
    return records


async def user_cubes(registry: Registry, tenant: str, user: str) -> list[Scope]:
    """The cubes of a user, the default one first, whether it is registered or not."""
    registered = await registry.scopes_of_owner(tenant, user)
    return list({scope.value: scope for scope in (scope_of(tenant, user), *registered)}.values())


def require(request: web.Request, right: Right) -> Principal:
    """The principal of a request, if it has a right. Raises Forbidden."""
    principal = principal_of(request)
    if right not in principal.rights:
        raise Forbidden(f"this key does not have the right `{right}`")
    return principal
