"""`/v1/turns`: the latest turns as a list, and as a stream of server-sent events."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.api.describing import describe_operation, query_parameter
from gateway.errors import BadRequest, Forbidden, NotFound
from gateway.memory.recalled import MemoryStatus
from gateway.pipeline.turn_feed import frame_of
from gateway.pipeline.turn_log import TurnEntry, TurnFilter, TurnLog, serialize_page, serialize_turn
from gateway.server.guard import principal_of, session_of
from gateway.server.sign_in import SignIns
from gateway.turn import Principal, Right

__all__ = ["TurnsFace", "describe_turns"]

_DEFAULT_LIMIT, _MAX_LIMIT = 100, 1000
_MAX_VALUE = 256  # characters of a condition
_MAX_DIGITS = 15
_ENTRIES_PER_FRAME = 200
_PER_USER_KEY = 8  # a key of one user gets at most this part of the subscribers
_STREAM_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
_SIGNED_OUT: Final = b'event: end\ndata: {"reason":"signed_out"}\n\n'
_CONDITIONS: Final = (
    query_parameter("user", "Only turns of this user."),
    query_parameter("model", "Only turns that asked for this model."),
    query_parameter("memory", f"Only turns with this status of memory: {', '.join(MemoryStatus)}."),
    query_parameter("upstream", "Only turns that this upstream answered."),
    query_parameter("q", "Part of an id, a name, an error or the query, in any case."),
)


class TurnsFace:
    """HTTP handlers for turns. `is_open`: no keys are configured, so callers see all turns. `subscribers`: how many
    may read the stream at once."""

    def __init__(self, log: TurnLog, sign_ins: SignIns, *, is_open: bool, subscribers: int) -> None:
        self._log = log
        self._sign_ins = sign_ins
        self._is_open = is_open
        self._most_of_user_key = max(1, subscribers // _PER_USER_KEY)

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/v1/turns", self.list_turns, allow_head=False),
            web.get("/v1/turns/stream", self.stream, allow_head=False),
        ]

    async def list_turns(self, request: web.Request) -> web.Response:
        """List the latest turns, newest first, with counts of the values that can be filtered by."""
        conditions, query = self._conditions(request), request.query
        limit = _number(query, "limit", _DEFAULT_LIMIT)
        if not 0 < limit <= _MAX_LIMIT:
            raise BadRequest(f"limit: a number from 1 to {_MAX_LIMIT}", param="limit")
        before = _number(query, "before", 0) if query.get("before") else None
        after = _number(query, "after", 0)
        entries = self._log.entries()
        body = await asyncio.to_thread(serialize_page, entries, conditions, limit=limit, before=before, after=after)
        return web.Response(body=body, content_type="application/json")

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Stream turns as they end, after those that are newer than `after` or the header `Last-Event-ID`."""
        conditions, principal = self._conditions(request), principal_of(request)
        after = self._start(request)
        holder = (principal.tenant, principal.user, principal.name)
        subscription = self._log.feed.subscribe(
            conditions,
            holder,
            partial(_abort, request),
            self._most_of_user_key if principal.user is not None else None,
        )
        response = web.StreamResponse(headers=_STREAM_HEADERS)
        try:
            earlier = [] if after is None else self._log.entries()
            missed = await asyncio.to_thread(_frames, earlier, conditions, after or 0)
            await response.prepare(request)
            async with contextlib.aclosing(subscription.frames()) as frames:
                for frame in missed:
                    await response.write(frame)
                async for frame in frames:
                    if self._has_signed_out(request):
                        await response.write(_SIGNED_OUT)
                        break
                    await response.write(frame)
            await response.write_eof()
            return response
        finally:
            self._log.feed.unsubscribe(subscription)

    def _has_signed_out(self, request: web.Request) -> bool:
        """True if the session that a request was sent in has ended since."""
        token = session_of(request)
        return token is not None and self._sign_ins.principal(token) is None

    def _start(self, request: web.Request) -> int | None:
        """The number after which turns are sent; None: only new ones."""
        if request.query.get("after"):
            return _number(request.query, "after", 0)
        last = request.headers.get("last-event-id", "")
        return int(last) if _is_number(last) else None

    def _conditions(self, request: web.Request) -> TurnFilter:
        """What the caller asks for, within what it may see. Raises Forbidden, NotFound or BadRequest."""
        visible = self._visible(principal_of(request))
        if not self._log.is_on:
            raise NotFound("turns are not recorded: see console.enabled in the configuration")
        query = request.query
        for name in ("user", "model", "memory", "upstream", "q"):
            if len(query.get(name, "")) > _MAX_VALUE:
                raise BadRequest(f"{name}: at most {_MAX_VALUE} characters", param=name)
        memory = query.get("memory") or None
        if memory is not None and memory not in tuple(MemoryStatus):
            raise BadRequest(f"memory: there are {', '.join(MemoryStatus)}", param="memory")
        return replace(
            visible,
            user=query.get("user") or None,
            model=query.get("model") or None,
            memory=memory,
            upstream=query.get("upstream") or None,
            text=query.get("q", "").lower(),
        )

    def _visible(self, principal: Principal) -> TurnFilter:
        """All turns that a key may see. Raises Forbidden."""
        if self._is_open:
            return TurnFilter()
        if Right.ADMIN in principal.rights:
            return TurnFilter(tenant=principal.tenant)
        if principal.user is None or Right.MEMORY not in principal.rights:
            raise Forbidden("turns need a key with the right `admin`, or one that is for a single user")
        return TurnFilter(tenant=principal.tenant, owner=principal.user)


def describe_turns(schemas: dict[str, Any]) -> dict[str, Any]:
    """The paths for the OpenAPI document."""
    after = query_parameter("after", "Only turns with a higher `seq`.")
    limit = query_parameter("limit", f"How many, 1 to {_MAX_LIMIT}.")
    before = query_parameter("before", "Only turns with a lower `seq`, for the next page.")
    return {
        "/v1/turns": {"get": describe_operation("Turns", "List the latest turns", *_CONDITIONS, limit, before, after)},
        "/v1/turns/stream": {
            "get": describe_operation(
                "Turns", "Stream turns as they end", *_CONDITIONS, after, kind="text/event-stream"
            )
        },
    }


def _frames(entries: Sequence[TurnEntry], conditions: TurnFilter, after: int) -> list[bytes]:
    """The events with the entries that are newer than `after`. Takes milliseconds."""
    chosen = [
        (entry.number, orjson.dumps(serialize_turn(entry)))
        for entry in entries
        if entry.number > after and conditions.takes(entry)
    ]
    return [frame_of(chosen[begin : begin + _ENTRIES_PER_FRAME]) for begin in range(0, len(chosen), _ENTRIES_PER_FRAME)]


def _abort(request: web.Request) -> None:
    """Close the connection of a client that does not read."""
    if request.transport is not None:
        request.transport.abort()


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not _is_number(text):
        raise BadRequest(f"{name}: a number of at most {_MAX_DIGITS} digits", param=name)
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
