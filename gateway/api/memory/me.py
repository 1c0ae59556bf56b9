"""Self-service under `/v1/me`: a key that is pinned to a user can see, export and erase that user's memories.

The user is always that of the key: no parameter names another one.
"""

import contextlib
from dataclasses import asdict

from aiohttp import web

from gateway.api.memory.access import MemoryAccess, require
from gateway.api.memory.bodies import EraseBody
from gateway.api.memory.exporting import stream_export
from gateway.api.memory.parameters import read_flag, read_model
from gateway.api.memory.reading import ReadingFace
from gateway.api.memory.serializing import json_response
from gateway.api.memory.users import COUNT_TIMEOUT
from gateway.config import Config
from gateway.errors import BadRequest, TooManyRequests
from gateway.maintenance.forget import Forgetter
from gateway.maintenance.selection import MemorySelection
from gateway.maintenance.transfer import Transfer
from gateway.server.guard import principal_of
from gateway.service.sizes import ScopeSizes
from gateway.storage.errors import StorageError
from gateway.turn import Principal, Right

__all__ = ["MeFace"]


class MeFace:
    """HTTP handlers about the holder of a key. `is_open`: no keys are configured."""

    def __init__(
        self,
        access: MemoryAccess,
        reading: ReadingFace,
        sizes: ScopeSizes,
        config: Config,
        *,
        transfer: Transfer,
        forgetter: Forgetter,
        is_open: bool,
    ) -> None:
        self._access = access
        self._reading = reading
        self._sizes = sizes
        self._transfer = transfer
        self._forgetter = forgetter
        self._limits = config.limits
        self._default_user = config.memory.default_user
        self._is_open = is_open
        self._erasing: set[tuple[str, str]] = set()  # tenants and users

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/v1/me", self.get_me, allow_head=False),
            web.delete("/v1/me", self.erase),
            web.get("/v1/me/memories", self.list_memories, allow_head=False),
            web.get("/v1/me/export", self.export, allow_head=False),
        ]

    async def get_me(self, request: web.Request) -> web.Response:
        """Get the tenant, the user and the rights of a key, and how many memories it speaks for."""
        principal = principal_of(request)
        user = principal.user or self._default_user
        count = None
        if user and Right.MEMORY in principal.rights:
            with contextlib.suppress(StorageError):
                scopes = await self._access.scopes_of(principal.tenant, user)
                count = await self._sizes.count(scopes, COUNT_TIMEOUT)
        return json_response(
            {
                "object": "me",
                "key": principal.name or None,
                "tenant": principal.tenant,
                "user": principal.user,
                "rights": sorted(principal.rights),
                "is_open": self._is_open,
                "default_user": self._default_user,
                "memories": count,
            }
        )

    async def list_memories(self, request: web.Request) -> web.Response:
        """List the memories of the key's user, with the parameters of `GET /v1/memory/list`."""
        principal, user = _require_user(request, "GET /v1/memory/list?user=USER")
        return await self._reading.list_of(request, await self._access.scopes_of(principal.tenant, user))

    async def export(self, request: web.Request) -> web.StreamResponse:
        """Stream the memories of the key's user as JSON lines."""
        principal, user = _require_user(request, "GET /v1/memory/user-export?user=USER")
        with_vectors = read_flag(request.query, "vectors")
        selection = MemorySelection(tenant=principal.tenant, user=user)
        return await stream_export(request, self._transfer, selection, with_vectors=with_vectors)

    async def erase(self, request: web.Request) -> web.Response:
        """Erase the memories of the key's user, from the disk too, before the response. It must be confirmed by the id
        of the user."""
        principal, user = _require_user(request, "POST /v1/memory/forget")
        if "confirm" in request.query:
            confirmation = request.query["confirm"]
        else:
            confirmation = (await read_model(EraseBody, request, self._limits)).confirm if request.can_read_body else ""
        if confirmation != user:
            raise BadRequest("`confirm`: must be the id of the user of this key; nothing was deleted", param="confirm")
        owner = principal.tenant, user
        if owner in self._erasing:
            raise TooManyRequests("the memories of this user are being erased", headers={"retry-after": "5"})
        self._erasing.add(owner)
        try:
            selection = MemorySelection(tenant=principal.tenant, user=user)
            return json_response(asdict(await self._forgetter.forget(selection, purge=True)))
        finally:
            self._erasing.discard(owner)


def _require_user(request: web.Request, route: str) -> tuple[Principal, str]:
    """The principal of a key that is pinned to a user, and that user. Raises Forbidden or BadRequest."""
    principal = require(request, Right.MEMORY)
    if principal.user is None:
        raise BadRequest(
            f"this key is not for one user; a key with `user` in auth.keys is, and {route} does this for any user",
            code="no_user_of_key",
        )
    return principal, principal.user
