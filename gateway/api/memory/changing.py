"""Routes that add, change and delete memories. A deletion can be previewed, and cannot be undone."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from aiohttp import web

from gateway.api.memory.access import MemoryAccess, require
from gateway.api.memory.bodies import AddBody, DeletionBody, DeletionFilter, PatchBody
from gateway.api.memory.parameters import MAX_LIMIT, read_flag, read_kinds, read_model
from gateway.api.memory.screening import build_turn, screen_edit
from gateway.api.memory.serializing import MemoryWriter, json_response
from gateway.concurrency.offload import offload
from gateway.config import Config
from gateway.errors import BadRequest, Conflict, Forbidden, TooLarge
from gateway.identity import checked_id, derived_session, scope_of
from gateway.memory.record import Record
from gateway.remember.remember import Remember
from gateway.server.guard import principal_of, request_id_of
from gateway.server.query_time import moment_in, storable_moment_in
from gateway.service.memories import MemoryService, Outdated
from gateway.turn import Identity, Right, Turn

__all__ = ["ChangingFace"]


class ChangingFace:
    """HTTP handlers that change memories."""

    def __init__(
        self,
        memory_service: MemoryService,
        remember: Remember,
        access: MemoryAccess,
        writer: MemoryWriter,
        config: Config,
    ) -> None:
        self._memory_service = memory_service
        self._remember = remember
        self._access = access
        self._writer = writer
        self._limits = config.limits
        self._max_bytes = config.memory.remember.max_message_bytes

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.post("/v1/memory", self.add),
            web.post("/v1/memory/delete", self.delete_many),
            web.post("/v1/memory/undo/{id}", self.undo),
        ]

    async def add(self, request: web.Request) -> web.Response:
        """Add a memory of a user. Returns what was stored: a long text in chunks, and the preferences that it
        states."""
        principal = require(request, Right.MEMORY)
        body = await read_model(AddBody, request, self._limits)
        user = self._access.user_of(principal, body.user)
        if len(body.text.encode("utf-8", "replace")) > self._max_bytes:
            raise TooLarge(f"`text`: has at most {self._max_bytes} bytes", param="text")
        session = checked_id(body.session, "session") if body.session else derived_session(body.text, "")
        scope = scope_of(principal.tenant, user)
        turn = _build_turn(request, Identity(user, session, (scope,), (scope,)), body)
        at = _read_moment(body.at, "at", storable_moment_in)
        record = await offload(lambda: self._remember.make(turn, scope, "user", body.text, at=at), len(body.text))
        if not record.text:
            raise BadRequest("`text`: there is no text in it", param="text")
        details = record.details if body.title is None else replace(record.details, title=body.title)
        stored = await self._memory_service.add(turn, [replace(record, kind=body.kind, details=details)])
        if not stored:
            raise Forbidden("a plugin does not let this be stored")
        return json_response({"object": "list", "data": await self._writer.serialize(stored)}, 201)

    async def change(self, request: web.Request) -> web.Response:
        """Change the text, the title or the status of a memory; its earlier text stays in its history."""
        record = await self._access.find_record(request)
        body = await read_model(PatchBody, request, self._limits)
        self._check_text(body)
        turn = _build_turn(request, Identity(record.user_id, record.session_id, (), ()))
        text, title = await screen_edit(self._remember, turn, record, body.text, body.title)
        try:
            changed = await self._memory_service.edit(
                record, text=text, title=title, status=body.status, version=body.version
            )
        except Outdated as error:
            raise Conflict("the memory was changed meanwhile; read it again", param="version") from error
        (item,) = await self._writer.serialize([changed])
        return json_response(item)

    def _check_text(self, body: PatchBody) -> None:
        """Raise BadRequest or TooLarge for a new text that cannot be stored."""
        if body.text is not None and not body.text.strip():
            raise BadRequest("`text`: there is no text in it", param="text")
        if body.text is not None and len(body.text.encode("utf-8", "replace")) > self._max_bytes:
            raise TooLarge(f"`text`: has at most {self._max_bytes} bytes", param="text")

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a memory, and those derived from it; with `preview=true` only say which."""
        is_preview = read_flag(request.query, "preview")
        return json_response(await self._delete([await self._access.find_record(request)], is_preview=is_preview))

    async def delete_many(self, request: web.Request) -> web.Response:
        """Delete memories of a user by ids or by a filter, at most a thousand at once."""
        principal = require(request, Right.MEMORY)
        body = await read_model(DeletionBody, request, self._limits)
        user = self._access.user_of(principal, body.user)
        has_filter = body.filter is not None and bool(body.filter.model_dump(exclude_none=True))
        if bool(body.ids) == has_filter:
            raise BadRequest(
                "name either `ids` or a `filter` with a condition; POST /v1/memory/forget deletes all of a user, and "
                "DELETE /v1/me all of the user of a key",
                param="ids" if body.ids else "filter",
            )
        if body.filter is None or not has_filter:
            records = await self._access.find_owned(principal, user, body.ids)
        else:
            allows = _build_filter(body.filter)
            records = []
            for scope in await self._access.scopes_of(principal.tenant, user):
                records += await self._memory_service.records(scope, allows)
        answer = await self._delete(records[:MAX_LIMIT], is_preview=body.preview)
        return json_response({**answer, "has_more": len(records) > MAX_LIMIT})

    async def _delete(self, records: list[Record], *, is_preview: bool) -> dict[str, Any]:
        in_force = await self._writer.profile_ids(records)
        act = self._memory_service.preview_deletion if is_preview else self._memory_service.remove
        return await self._writer.serialize_deletion(await act(records), in_force, is_preview=is_preview)

    async def undo(self, request: web.Request) -> web.Response:
        """Undo the last change of a memory. An undo can itself be undone."""
        changed = await self._memory_service.undo(await self._access.find_record(request))
        if not changed:
            raise BadRequest("this memory has no change that can be undone", code="nothing_to_undo")
        return json_response({"object": "list", "data": await self._writer.serialize(changed)})


def _build_turn(request: web.Request, identity: Identity, body: AddBody | None = None) -> Turn:
    return build_turn(
        request_id_of(request),
        principal_of(request),
        identity,
        path=request.path.removeprefix("/v1"),
        headers=request.headers,
        received_at=time.time(),
        tags=body.tags if body else (),
        metadata=body.metadata if body else None,
    )


def _read_moment(value: str | float | None, name: str, read: Callable[..., float] = moment_in) -> float | None:
    """A time in a body. Raises BadRequest."""
    return None if value in (None, "") else read(str(value), 0.0, name)


def _build_filter(conditions: DeletionFilter) -> Callable[[Record], bool]:
    """The filter of a deletion. Raises BadRequest."""
    kinds = frozenset(read_kinds(conditions.kind or "", "filter.kind"))
    before, after = _read_moment(conditions.before, "filter.before"), _read_moment(conditions.after, "filter.after")
    query = (conditions.query or "").casefold()

    def allows(record: Record) -> bool:
        return (
            record.kind in kinds
            and (conditions.session is None or record.session_id == conditions.session)
            and (before is None or record.event_time < before)
            and (after is None or record.event_time > after)
            and (conditions.archived is None or (record.status == "archived") == conditions.archived)
            and query in record.text.casefold()
        )

    return allows
