"""Bitemporal views of the memory and undo: list, search, history and undo under `/v1/memory`.

A caller sees the memories of the users that its key may speak for; a foreign id is answered as an unknown one.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from gateway.errors import BadRequest, Forbidden, NotFound
from gateway.identity import checked_id, scope_of
from gateway.memory.kinds import KINDS
from gateway.memory.recalled import Memory, RecallOptions
from gateway.memory.record import Record
from gateway.memory.versions import is_valid_at, valid_from, valid_to
from gateway.prompt.assemble import when
from gateway.recall.recall import Recall
from gateway.server.guard import principal_of
from gateway.server.query_time import moment_in
from gateway.service.memories import MemoryService
from gateway.storage.protocols import Registry
from gateway.turn import Right, Scope

__all__ = ["HistoryFace", "read_flag"]

_ID_LENGTH = 32  # characters
_MAX_IDS_IN_ERROR = 4  # ids in an error
_DEFAULT_LIMIT, _MAX_LIMIT = 100, 1000


class HistoryFace:
    """HTTP handlers for list, search, history and undo. `default_user` applies to requests that name no user."""

    def __init__(
        self, memory_service: MemoryService, recall: Recall, registry: Registry, default_user: str | None
    ) -> None:
        self._memory_service = memory_service
        self._recall = recall
        self._registry = registry
        self._default_user = default_user

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/v1/memory/list", self.list_memories, allow_head=False),
            web.get("/v1/memory/search", self.search_memories, allow_head=False),
            web.get("/v1/memory/history/{id}", self.history, allow_head=False),
            web.post("/v1/memory/undo/{id}", self.undo),
        ]

    async def list_memories(self, request: web.Request) -> web.Response:
        """List a user's memories, newest first: the valid ones, with `archived=true` the archived ones, and with
        `as_of` those that were known and valid at that time."""
        query, kinds = request.query, _kinds(request.query)
        as_of = moment_in(query["as_of"], 0.0, "as_of") if query.get("as_of") else None
        is_archived = read_flag(query, "archived")
        status = "archived" if is_archived else "activated"

        def allows(record: Record) -> bool:
            holds = record.status == status if as_of is None else is_valid_at(record, as_of)
            return holds and record.kind in kinds

        records: list[Record] = []
        for scope in await self._user_scopes(request):
            records += await self._memory_service.records(scope, allows)
        records.sort(key=lambda record: (-record.event_time, record.part))
        limit = _limit(query)
        return _json(
            {"object": "list", "data": [*map(_serialize_record, records[:limit])], "has_more": len(records) > limit}
        )

    async def search_memories(self, request: web.Request) -> web.Response:
        """Search a user's memories for a `query`, best match first; with `archived=true` the archived ones."""
        query, kinds = request.query, _kinds(request.query)
        if not query.get("query", "").strip():
            raise BadRequest("`query`: is needed, the text to search for", param="query")
        limit, scopes = _limit(query), await self._user_scopes(request)
        allows: Callable[[Record], bool] = lambda record: record.kind in kinds  # noqa: E731 — shared by all scopes
        limits = RecallOptions(
            text=limit,
            preference=limit,
            tool=limit,
            skill=limit,
            min_relativity=0.0,
            allows={scope.value: allows for scope in scopes},
            is_archived=read_flag(query, "archived"),
        )
        memories = await self._recall.require_search(scopes, query["query"], limits)
        best = sorted(memories, key=lambda memory: -memory.relativity)[:limit]
        status = "archived" if limits.is_archived else "activated"
        return _json({"object": "list", "data": [_serialize_match(memory, status) for memory in best]})

    async def history(self, request: web.Request) -> web.Response:
        """Version history of a memory: all that it supersedes and that supersede it, oldest first."""
        versions = await self._memory_service.history(await self._find_record(request))
        return _json({"object": "list", "data": [*map(_serialize_record, versions)]})

    async def undo(self, request: web.Request) -> web.Response:
        """Undo the last change of a memory. An undo can itself be undone."""
        changed = await self._memory_service.undo(await self._find_record(request))
        if not changed:
            raise BadRequest("this memory has no change that can be undone", code="nothing_to_undo")
        return _json({"object": "list", "data": [*map(_serialize_record, changed)]})

    async def _find_record(self, request: web.Request) -> Record:
        principal, id_ = _require_memory_right(request), request.match_info["id"]
        records = await self._memory_service.find(principal, [id_])
        if not records and len(id_) < _ID_LENGTH:
            records = await self._memory_service.beginning(principal, id_.lower())
        if not records:
            raise NotFound("there is no memory of this id")
        if len(records) > 1:
            examples = ", ".join(record.id for record in records[:_MAX_IDS_IN_ERROR])
            raise BadRequest(
                f"{len(records)} memories have ids that begin so: {examples}", code="ambiguous_id", param="id"
            )
        return records[0]

    async def _user_scopes(self, request: web.Request) -> list[Scope]:
        """Return the cubes of the requested user. Raises Forbidden or BadRequest."""
        principal, requested = _require_memory_right(request), request.query.get("user")
        if principal.user is not None and requested not in (None, principal.user):
            raise Forbidden("this key is for one user, and `user` names another")
        user = principal.user or requested or self._default_user
        if not user:
            raise BadRequest("`user`: is needed", param="user")
        default_scope = scope_of(principal.tenant, checked_id(user, "user"))
        registered = await self._registry.scopes_of_owner(principal.tenant, user)
        return list({scope.value: scope for scope in (default_scope, *registered)}.values())


def _require_memory_right(request: web.Request) -> Any:
    principal = principal_of(request)
    if Right.MEMORY not in principal.rights:
        raise Forbidden(f"this key does not have the right `{Right.MEMORY}`")
    return principal


def _kinds(query: Mapping[str, str]) -> Collection[str]:
    requested = tuple(kind for kind in query.get("kind", "").split(",") if kind)
    unknown = [kind for kind in requested if kind not in KINDS]
    if unknown:
        raise BadRequest(f"kind: there are {', '.join(KINDS)}", param="kind")
    return requested or KINDS


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(_DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_LIMIT))) or not 0 < int(text) <= _MAX_LIMIT:
        raise BadRequest(f"limit: a number from 1 to {_MAX_LIMIT}", param="limit")
    return int(text)


def read_flag(query: Mapping[str, str], name: str) -> bool:
    """A flag of a query; False if it is not given. Raises BadRequest."""
    text = query.get(name, "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise BadRequest(f"{name}: true or false", param=name)
    return text in ("true", "1")


def _serialize_match(memory: Memory, status: str) -> dict[str, Any]:
    record = replace(memory.record, status=status)  # archived memories are searched as if they were valid
    return {**_serialize_record(record), "relativity": round(memory.relativity, 4)}


def _serialize_record(record: Record) -> dict[str, Any]:
    until = valid_to(record)
    return {
        "id": record.id,
        "kind": record.kind,
        "text": record.text,
        "source": record.source,
        "is_learnt": record.is_extracted,
        "status": record.status,
        "confidence": record.confidence,
        "session_id": record.session_id,
        "from": _iso(valid_from(record)),
        "until": None if until is None else _iso(until),
        "replaces": list(record.lineage.supersedes),
        "replaced_by": record.lineage.superseded_by or None,
        "rests_on": list(record.links),
        "version": record.version,
    }


def _iso(at: float) -> str:
    return when(at).isoformat()  # to the microsecond: clients send the time back as `as_of`


def _json(body: object) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")
