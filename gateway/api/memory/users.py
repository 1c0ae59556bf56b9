"""Routes about users: those of a tenant, and an export of one user's memories."""

import itertools
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from gateway.api.memory.access import MemoryAccess, require
from gateway.api.memory.exporting import stream_export
from gateway.api.memory.parameters import read_flag, read_limit
from gateway.api.memory.serializing import iso, json_response
from gateway.errors import BadRequest, Forbidden
from gateway.identity import checked_id
from gateway.maintenance.selection import MemorySelection
from gateway.maintenance.transfer import Transfer
from gateway.service.sizes import ScopeSizes
from gateway.storage.protocols import Registry
from gateway.storage.values import ScopeSize
from gateway.turn import Principal, Right, Scope

__all__ = ["COUNT_TIMEOUT", "UsersFace"]

_MAX_ID: Final = 256  # characters
COUNT_TIMEOUT: Final = 0.25
"""Seconds that an answer waits for the numbers of memories."""


class UsersFace:
    """HTTP handlers about users. `is_open`: no keys are configured, so any caller may name any tenant."""

    def __init__(
        self, registry: Registry, transfer: Transfer, access: MemoryAccess, sizes: ScopeSizes, *, is_open: bool
    ) -> None:
        self._registry = registry
        self._transfer = transfer
        self._access = access
        self._sizes = sizes
        self._is_open = is_open

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/v1/memory/users", self.list_users, allow_head=False),
            web.get("/v1/memory/user-export", self.export, allow_head=False),
        ]

    async def list_users(self, request: web.Request) -> web.Response:
        """List the users of a tenant, by their ids, with their cubes and the number of their memories."""
        principal, query = require(request, Right.ADMIN), request.query
        tenant, limit = self._resolve_tenant(principal, query.get("tenant")), read_limit(query)
        containing, after = query.get("query", ""), query.get("after", "")
        for name, text in (("query", containing), ("after", after)):
            if len(text) > _MAX_ID:
                raise BadRequest(f"{name}: has at most {_MAX_ID} characters", param=name)
        scopes = await self._registry.owned_scopes(tenant, containing, after, limit + 1)
        by_user = {user: list(cubes) for user, cubes in itertools.groupby(scopes, lambda scope: scope.owner)}
        users = list(by_user)[:limit]
        sizes = await self._sizes.within([scope for user in users for scope in by_user[user]], COUNT_TIMEOUT)
        has_more = len(by_user) > limit
        return json_response(
            {
                "object": "list",
                "data": [_serialize_user(user, by_user[user], sizes) for user in users],
                "has_more": has_more,
                "next": users[-1] if has_more else None,
            }
        )

    async def export(self, request: web.Request) -> web.StreamResponse:
        """Stream the memories of one user as JSON lines, as `GET /v1/memory/export` does for an admin."""
        principal = require(request, Right.MEMORY)
        user = self._access.user_of(principal, request.query.get("user"))
        selection = MemorySelection(tenant=principal.tenant, user=user)
        with_vectors = read_flag(request.query, "vectors")
        return await stream_export(request, self._transfer, selection, with_vectors=with_vectors)

    def _resolve_tenant(self, principal: Principal, requested: str | None) -> str:
        """The tenant of the key; without keys the requested one. Raises Forbidden or BadRequest."""
        if self._is_open and requested:
            return checked_id(requested, "tenant")
        if requested not in (None, "", principal.tenant):
            raise Forbidden(f"this key belongs to the tenant `{principal.tenant}`")
        return principal.tenant


def _serialize_user(user: str, scopes: Sequence[Scope], sizes: dict[str, ScopeSize]) -> dict[str, Any]:
    measured = [sizes[scope.value] for scope in scopes if scope.value in sizes]
    updated_at = max((size.updated_at for size in measured), default=0.0)
    return {
        "id": user,
        "cubes": [{"id": scope.cube_id, "kind": scope.kind.value} for scope in scopes],
        "memories": sum(size.count for size in measured) if len(measured) == len(scopes) else None,
        "updated_at": iso(updated_at) if updated_at else None,
    }
