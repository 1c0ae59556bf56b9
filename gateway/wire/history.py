"""What was known when, and taking it back: lists, search, history and undo under `/v1/memory`.

Who asks sees the memories of the users that the key may speak for; a foreign id is answered as an unknown one.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from gateway.errors import BadRequest, Forbidden, MemoryUnavailable, NotFound
from gateway.identity import checked_id, scope_of
from gateway.recall.assemble import when
from gateway.recall.library import Library
from gateway.recall.recall import Recall
from gateway.store.lineage import LEARNT, held_at, held_since, held_until, replaced_by, replaced_ids
from gateway.store.registry import Registry
from gateway.turn import Memory, MemoryStatus, Record, Right, Scope, Wanted
from gateway.wire.guard import principal_of
from gateway.wire.moments import moment_in

__all__ = ["HistoryFace"]

_WHOLE_ID = 32  # characters
_NAMED = 4  # ids in an error
_USUAL, _MOST = 100, 1000
_KINDS = ("turn", "fact", "preference", "profile", "tool", "skill", "document")


class HistoryFace:
    """`default_user` is whose memories are meant where nobody is named."""

    def __init__(self, library: Library, recall: Recall, registry: Registry, default_user: str | None) -> None:
        self._library = library
        self._recall = recall
        self._registry = registry
        self._default_user = default_user

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/v1/memory/list", self.listed, allow_head=False),
            web.get("/v1/memory/search", self.searched, allow_head=False),
            web.get("/v1/memory/history/{id}", self.history, allow_head=False),
            web.post("/v1/memory/undo/{id}", self.undo),
        ]

    async def listed(self, request: web.Request) -> web.Response:
        """A user's memories, the newest first: those that hold, with `archived=true` those that do not, and with
        `as_of` those that were known and held then."""
        query, kinds = request.query, _kinds(request.query)
        as_of = moment_in(query["as_of"], 0.0, "as_of") if query.get("as_of") else None
        is_archived = _flag(query, "archived")
        status = "archived" if is_archived else "activated"

        def allows(record: Record) -> bool:
            holds = record.status == status if as_of is None else held_at(record, as_of)
            return holds and record.kind in kinds

        records: list[Record] = []
        for scope in await self._scopes(request):
            records += await self._library.records(scope, allows)
        records.sort(key=lambda record: (-record.event_time, record.part))
        limit = _limit(query)
        return _json({"object": "list", "data": [*map(_shown, records[:limit])], "has_more": len(records) > limit})

    async def searched(self, request: web.Request) -> web.Response:
        """A user's memories that belong to a `query`, the best first; with `archived=true` those that hold no more."""
        query, kinds = request.query, _kinds(request.query)
        if not query.get("query", "").strip():
            raise BadRequest("say what to search for: `query`", param="query")
        limit, scopes = _limit(query), await self._scopes(request)
        allows: Callable[[Record], bool] = lambda record: record.kind in kinds  # noqa: E731 — one test for all scopes
        wanted = Wanted(
            text=limit,
            preference=limit,
            tool=limit,
            skill=limit,
            min_relativity=0.0,
            allows={scope.value: allows for scope in scopes},
            is_archived=_flag(query, "archived"),
        )
        found = await self._recall.search(scopes, query["query"], wanted)
        if found.status is MemoryStatus.DEGRADED:
            raise MemoryUnavailable(f"the memory cannot be searched now ({found.reason}); try again")
        best = sorted(found.memories, key=lambda memory: -memory.relativity)[:limit]
        status = "archived" if wanted.is_archived else "activated"
        return _json({"object": "list", "data": [_found(memory, status) for memory in best]})

    async def history(self, request: web.Request) -> web.Response:
        """A memory with all that it replaced and that replaced it, the first one first."""
        line = await self._library.history(await self._record(request))
        return _json({"object": "list", "data": [*map(_shown, line)]})

    async def undo(self, request: web.Request) -> web.Response:
        """Take back the last thing that happened to a memory. What was taken back may be so again."""
        changed = await self._library.undo(await self._record(request))
        if not changed:
            raise BadRequest("nothing happened to this memory that could be taken back", code="nothing_to_undo")
        return _json({"object": "list", "data": [*map(_shown, changed)]})

    async def _record(self, request: web.Request) -> Record:
        principal, id_ = _allowed(request), request.match_info["id"]
        found = await self._library.find(principal, [id_])
        if not found and len(id_) < _WHOLE_ID:
            found = await self._library.beginning(principal, id_.lower())
        if not found:
            raise NotFound("there is no memory of this id")
        if len(found) > 1:
            some = ", ".join(record.id for record in found[:_NAMED])
            raise BadRequest(f"{len(found)} memories have ids that begin so: {some}", code="ambiguous_id", param="id")
        return found[0]

    async def _scopes(self, request: web.Request) -> list[Scope]:
        """The cubes of the user that is asked for. Raises Forbidden or BadRequest."""
        principal, asked = _allowed(request), request.query.get("user")
        if principal.user is not None and asked not in (None, principal.user):
            raise Forbidden("this key is for one user, and `user` names another")
        user = principal.user or asked or self._default_user
        if not user:
            raise BadRequest("say whose memories: `user`", param="user")
        own = scope_of(principal.tenant, checked_id(user, "user"))
        known = await self._registry.scopes_of_owner(principal.tenant, user)
        return list({scope.value: scope for scope in (own, *known)}.values())


def _allowed(request: web.Request) -> Any:
    principal = principal_of(request)
    if Right.MEMORY not in principal.rights:
        raise Forbidden(f"this key does not have the right `{Right.MEMORY}`")
    return principal


def _kinds(query: Mapping[str, str]) -> tuple[str, ...]:
    asked = tuple(kind for kind in query.get("kind", "").split(",") if kind)
    unknown = [kind for kind in asked if kind not in _KINDS]
    if unknown:
        raise BadRequest(f"kind: there are {', '.join(_KINDS)}", param="kind")
    return asked or _KINDS


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(_USUAL))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MOST))) or not 0 < int(text) <= _MOST:
        raise BadRequest(f"limit: a number from 1 to {_MOST}", param="limit")
    return int(text)


def _flag(query: Mapping[str, str], name: str) -> bool:
    text = query.get(name, "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise BadRequest(f"{name}: true or false", param=name)
    return text in ("true", "1")


def _found(memory: Memory, status: str) -> dict[str, Any]:
    record = replace(memory.record, status=status)  # what was archived is searched as if it held
    return {**_shown(record), "relativity": round(memory.relativity, 4)}


def _shown(record: Record) -> dict[str, Any]:
    until = held_until(record)
    return {
        "id": record.id,
        "kind": record.kind,
        "text": record.text,
        "source": record.source,
        "is_learnt": LEARNT in record.info,
        "status": record.status,
        "confidence": record.confidence,
        "session_id": record.session_id,
        "from": _iso(held_since(record)),
        "until": None if until is None else _iso(until),
        "replaces": list(replaced_ids(record.info)),
        "replaced_by": replaced_by(record) or None,
        "rests_on": list(record.links),
        "version": record.version,
    }


def _iso(at: float) -> str:
    return when(at).isoformat()  # to the microsecond: the moment can be asked for again


def _json(body: object) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")
