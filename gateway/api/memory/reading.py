"""Routes that read memories: one by its id, lists, search, timeline and history, also as of a point in time."""

import asyncio
import bisect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from aiohttp import web

from gateway.api.memory.access import MemoryAccess
from gateway.api.memory.parameters import (
    Position,
    decode_cursor,
    encode_cursor,
    read_filter,
    read_flag,
    read_kinds,
    read_limit,
)
from gateway.api.memory.serializing import MemoryWriter, iso, json_response
from gateway.errors import BadRequest
from gateway.memory.kinds import kind_of
from gateway.memory.recalled import RecallOptions
from gateway.memory.record import Record
from gateway.memory.versions import is_valid_at, valid_from, valid_to
from gateway.recall.recall import Recall
from gateway.server.guard import principal_of
from gateway.server.query_time import moment_in
from gateway.service.memories import MemoryService
from gateway.turn import Scope

__all__ = ["ReadingFace"]

_MAX_SOURCES: Final = 16  # sources of a memory among which its message is looked for
_MAX_ON_LOOP: Final = 500  # memories; more are sorted in a thread


class ReadingFace:
    """HTTP handlers that read memories."""

    def __init__(
        self, memory_service: MemoryService, recall: Recall, access: MemoryAccess, writer: MemoryWriter
    ) -> None:
        self._memory_service = memory_service
        self._recall = recall
        self._access = access
        self._writer = writer

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/v1/memory/list", self.list_memories, allow_head=False),
            web.get("/v1/memory/search", self.search_memories, allow_head=False),
            web.get("/v1/memory/timeline", self.timeline, allow_head=False),
            web.get("/v1/memory/history/{id}", self.history, allow_head=False),
        ]

    async def list_memories(self, request: web.Request) -> web.Response:
        """List a user's memories, newest first."""
        return await self.list_of(request, await self._access.user_scopes(request))

    async def list_of(self, request: web.Request, scopes: Iterable[Scope]) -> web.Response:
        """List the memories of some cubes, newest first: the valid ones, with `archived=true` the archived ones, with
        `as_of` those that were known and valid at that time, with `standing=true` only the profile."""
        query, allows = request.query, read_filter(request.query)
        records: list[Record] = []
        for scope in scopes:
            if read_flag(query, "standing"):
                records += filter(allows, await self._memory_service.profile(scope))
            else:
                records += await self._memory_service.records(scope, allows)
        page, following = await _page(query, records, lambda record: (-record.event_time, record.part, record.id))
        return json_response(
            {
                "object": "list",
                "data": await self._writer.serialize(page),
                "has_more": following is not None,
                "next": following,
                "total": len(records),
            }
        )

    async def search_memories(self, request: web.Request) -> web.Response:
        """Search a user's memories for a `query`, best match first; with `archived=true` the archived ones."""
        query, kinds = request.query, read_kinds(request.query.get("kind", ""))
        if not query.get("query", "").strip():
            raise BadRequest("`query`: is needed, the text to search for", param="query")
        limit, scopes = read_limit(query), await self._access.user_scopes(request)
        allows: Callable[[Record], bool] = lambda record: record.kind in kinds  # noqa: E731 — shared by all scopes
        options = RecallOptions(
            text=limit,
            preference=limit,
            tool=limit,
            skill=limit,
            min_relativity=0.0,
            allows={scope.value: allows for scope in scopes},
            is_archived=read_flag(query, "archived"),
        )
        memories = await self._recall.require_search(scopes, query["query"], options)
        best = sorted(memories, key=lambda memory: -memory.relativity)[:limit]
        # archived memories are searched as if they were valid
        status = "archived" if options.is_archived else "activated"
        items = await self._writer.serialize([replace(memory.record, status=status) for memory in best])
        matches = [
            {**item, "relativity": round(memory.relativity, 4)} for item, memory in zip(items, best, strict=True)
        ]
        return json_response({"object": "list", "data": matches})

    async def timeline(self, request: web.Request) -> web.Response:
        """List all versions of a user's memories, valid and archived ones, by the start of their validity; with `as_of`
        only those that were valid then."""
        query, kinds = request.query, read_kinds(request.query.get("kind", ""))
        as_of = moment_in(query["as_of"], 0.0, "as_of") if query.get("as_of") else None

        def allows(record: Record) -> bool:
            return record.kind in kinds and (as_of is None or is_valid_at(record, as_of))

        records: list[Record] = []
        for scope in await self._access.user_scopes(request):
            records += await self._memory_service.records(scope, allows)
        page, following = await _page(query, records, lambda record: (valid_from(record), record.part, record.id))
        is_short = len(records) <= _MAX_ON_LOOP
        first, last = _span(records) if is_short else await asyncio.to_thread(_span, records)
        return json_response(
            {
                "object": "list",
                "data": await self._writer.serialize(page),
                "has_more": following is not None,
                "next": following,
                "total": len(records),
                "first": first,
                "last": last,
            }
        )

    async def get_memory(self, request: web.Request) -> web.Response:
        """Get a memory, the number of its versions, and the message that it comes from."""
        record = await self._access.find_record(request)
        (item,) = await self._writer.serialize([record])
        versions = await self._memory_service.history(record)
        sources = await self._memory_service.find(principal_of(request), record.links[:_MAX_SOURCES])
        message = next((source for source in sources if kind_of(source.kind).is_extraction_source), None)
        item["versions"] = len(versions)
        item["message"] = None if message is None else {"id": message.id, "text": message.text}
        return json_response(item)

    async def history(self, request: web.Request) -> web.Response:
        """Version history of a memory: all that it supersedes and that supersede it, oldest first."""
        versions = await self._memory_service.history(await self._access.find_record(request))
        return json_response({"object": "list", "data": await self._writer.serialize(versions)})


def _span(records: Iterable[Record]) -> tuple[str | None, str | None]:
    """The first and the last moment at which the validity of a memory begins or ends; None without memories."""
    moments = [moment for record in records for moment in (valid_from(record), valid_to(record)) if moment is not None]
    return (iso(min(moments)), iso(max(moments))) if moments else (None, None)


async def _page(
    query: Mapping[str, str], records: Sequence[Record], place: Callable[[Record], Position]
) -> tuple[list[Record], str | None]:
    """The records of a page, and the cursor of the next one. Raises BadRequest."""
    limit, position = read_limit(query), decode_cursor(query)
    if len(records) <= _MAX_ON_LOOP:
        return _cut_page(records, place, limit, position)
    return await asyncio.to_thread(_cut_page, records, place, limit, position)


def _cut_page(
    records: Sequence[Record], place: Callable[[Record], Position], limit: int, position: Position | None
) -> tuple[list[Record], str | None]:
    """The page after a position. Records of one time and part stay in their order; if the last one of the previous page
    was deleted meanwhile, those of its time come again."""
    ordered = sorted(records, key=lambda record: place(record)[:2])
    begin = 0
    if position is not None:
        begin = bisect.bisect_left(ordered, position[:2], key=lambda record: place(record)[:2])
        ties = itertools.takewhile(lambda record: place(record)[:2] == position[:2], ordered[begin:])
        begin += next((index for index, record in enumerate(ties, 1) if record.id == position[2]), 0)
    page = ordered[begin : begin + limit]
    has_more = begin + limit < len(ordered)
    return page, encode_cursor(place(page[-1])) if page and has_more else None
