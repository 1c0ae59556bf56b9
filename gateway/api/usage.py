"""`GET /v1/usage`: usage by hour, key, user, model and upstream."""

import time

import orjson
from aiohttp import web

from gateway.errors import BadRequest, Forbidden, MemoryUnavailable, NotFound
from gateway.server.guard import principal_of
from gateway.server.query_time import moment_in
from gateway.storage.errors import StorageError
from gateway.storage.protocols import Ledger
from gateway.storage.values import DIMENSIONS, MOST
from gateway.turn import Right

__all__ = ["UsageFace"]

_MONTH = 30 * 86_400.0


class UsageFace:
    """HTTP handler for usage. `ledger` None: usage is not recorded. `is_open`: no keys, so callers see all tenants."""

    def __init__(self, ledger: Ledger | None, *, is_open: bool) -> None:
        self._ledger = ledger
        self._is_open = is_open

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.get("/v1/usage", self.usage, allow_head=False)]

    async def usage(self, request: web.Request) -> web.Response:
        """Sum usage of the last 30 days, or between `since` and `until`, grouped by the dimensions in `by`."""
        principal, query = principal_of(request), request.query
        if Right.ADMIN not in principal.rights:
            raise Forbidden("this key does not have the right `admin`")
        if self._ledger is None:
            raise NotFound("usage is not recorded: see usage.enabled in the configuration")
        by = [name for name in query.get("by", "model").split(",") if name]
        now = time.time()
        since, until = (
            moment_in(query.get("since"), now - _MONTH, "since"),
            moment_in(query.get("until"), now + 1, "until"),
        )
        only = {name: query[name] for name in DIMENSIONS if name in query}
        tenant = None if self._is_open else principal.tenant
        try:
            rows = await self._ledger.read(by, tenant=tenant, since=since, until=until, only=only)
        except ValueError as error:
            raise BadRequest(str(error), param="by") from error
        except StorageError as error:
            raise MemoryUnavailable("the ledger cannot be read now; try again") from error
        body = {"object": "list", "since": int(since), "until": int(until), "data": rows, "has_more": len(rows) == MOST}
        return web.Response(body=orjson.dumps(body), content_type="application/json")
