"""`GET /v1/usage`: what was used, by hour, key, user, model and upstream."""

import contextlib
import time
from datetime import UTC, datetime

import orjson
from aiohttp import web

from gateway.errors import BadRequest, Forbidden, MemoryUnavailable, NotFound
from gateway.store.ledger import DIMENSIONS, MOST, Ledger, LedgerFailed
from gateway.turn import Right
from gateway.wire.guard import principal_of

__all__ = ["UsageFace"]

_LAST = 2**37  # the year 6325
_MONTH = 30 * 86_400.0


class UsageFace:
    """`ledger` None: nothing is kept. `is_open`: without keys whoever asks sees all tenants."""

    def __init__(self, ledger: Ledger | None, *, is_open: bool) -> None:
        self._ledger = ledger
        self._is_open = is_open

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.get("/v1/usage", self.usage, allow_head=False)]

    async def usage(self, request: web.Request) -> web.Response:
        """Sums of the last 30 days, or between `since` and `until`, for each value of what `by` names."""
        principal, query = principal_of(request), request.query
        if Right.ADMIN not in principal.rights:
            raise Forbidden("this key does not have the right `admin`")
        if self._ledger is None:
            raise NotFound("no usage is kept: see usage.enabled in the configuration")
        by = [name for name in query.get("by", "model").split(",") if name]
        now = time.time()
        since, until = _moment(query.get("since"), now - _MONTH, "since"), _moment(query.get("until"), now + 1, "until")
        only = {name: query[name] for name in DIMENSIONS if name in query}
        tenant = None if self._is_open else principal.tenant
        try:
            rows = await self._ledger.read(by, tenant=tenant, since=since, until=until, only=only)
        except ValueError as error:
            raise BadRequest(str(error), param="by") from error
        except LedgerFailed as error:
            raise MemoryUnavailable("the ledger cannot be read now; try again") from error
        body = {"object": "list", "since": int(since), "until": int(until), "data": rows, "has_more": len(rows) == MOST}
        return web.Response(body=orjson.dumps(body), content_type="application/json")


def _moment(text: str | None, default: float, name: str) -> float:
    """Seconds since 1970, or a date or time in ISO's form (UTC where it names no zone). Raises BadRequest."""
    if not text:
        return default
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if 0 <= seconds < _LAST:
            return seconds
        raise BadRequest(f"{name} must be seconds since 1970", param=name)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(f"{name} must be a date, a time or seconds since 1970", param=name) from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
