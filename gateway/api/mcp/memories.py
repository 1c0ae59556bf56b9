"""What the tools do: read and change the memories of one user, named by the key, a header or an argument.

A tool reaches the cubes of its user only. An id that is not in these is answered as an unknown one.
"""

import heapq
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from gateway.api.mcp.caller import Caller, McpServices
from gateway.api.mcp.schemas import (
    AddArguments,
    AddMessagesArguments,
    DeleteArguments,
    HistoryArguments,
    ListArguments,
    SearchArguments,
    UpdateArguments,
    UserArguments,
)
from gateway.api.memory.access import find_by_prefix, user_cubes
from gateway.api.memory.parameters import Position, build_filter, decode_position, encode_cursor
from gateway.api.memory.screening import build_turn, screen_edit
from gateway.concurrency.offload import offload
from gateway.errors import BadRequest, Forbidden, MemoryUnavailable, NotFound
from gateway.formats.base import ParsedRequest
from gateway.identity import checked_id, cube_scopes, named_user
from gateway.memory.filters import plain_id
from gateway.memory.profile import in_force, of_profile
from gateway.memory.recalled import Memory, RecallOptions
from gateway.memory.record import Record
from gateway.server.query_time import storable_moment_in
from gateway.service.memories import Outdated
from gateway.turn import Identity, Scope, Turn

__all__ = ["UserMemories"]

_SEARCHABLE_TIMEOUT = 5.0  # seconds that an addition waits until it can be found
_NOTHING = ParsedRequest(model="", stream=False)


class UserMemories:
    """Reads and changes the memories of the user that a call names."""

    def __init__(self, services: McpServices) -> None:
        self._services = services

    def user_of(self, caller: Caller, requested: str = "") -> str:
        """The user of a call: that of the key, else of a header, else the requested one, else the default user. Raises
        Forbidden if the key or the header names another than the requested one, BadRequest if there is none."""
        principal, users = caller.principal, self._services.users
        fixed = named_user(principal, caller.headers, _NOTHING, users.known)
        if fixed is not None:
            if requested and requested != fixed:
                where = "this key" if principal.user is not None else "the connection"
                raise Forbidden(f"{where} is for one user, and `user` names another")
            return fixed
        user = checked_id(requested, "user") if requested else users.user_of(principal, caller.headers, _NOTHING)
        if user is None:
            raise BadRequest(
                "whose memories? Name the user in the argument `user`, in the header x-memory-user of the "
                "connection, or use a key of one user",
                param="user",
            )
        return user

    def has_fixed_user(self, caller: Caller) -> bool:
        """True if the key or a header names the user. Raises BadRequest for an invalid header."""
        return named_user(caller.principal, caller.headers, _NOTHING, self._services.users.known) is not None

    async def search(self, caller: Caller, arguments: SearchArguments) -> list[Memory]:
        """The memories that match a query, best first."""
        scopes, limit = await self._scopes(caller, arguments), arguments.limit
        options = RecallOptions(
            text=limit,
            preference=limit,
            tool=limit,
            skill=limit,
            min_relativity=arguments.min_relevance,
            is_archived=arguments.archived,
        )
        memories = await self._services.recall.require_search(scopes, arguments.query, options)
        best = sorted(memories, key=lambda memory: -memory.relativity)[:limit]
        if not arguments.archived:
            return best
        # archived memories are searched as if they were valid
        return [replace(memory, record=replace(memory.record, status="archived")) for memory in best]

    async def page(self, caller: Caller, arguments: ListArguments) -> tuple[list[Record], str | None]:
        """A page of memories, newest first, and the cursor of the next page; None if it is the last."""
        allows = build_filter(
            arguments.kind, arguments.as_of, is_archived=arguments.archived, session=arguments.session
        )
        cursor = arguments.cursor
        after = decode_position(cursor, "cursor", "use `next` of the page before") if cursor else None
        records: list[Record] = []
        for scope in await self._scopes(caller, arguments):
            records += await self._services.memory_service.records(scope, allows)
        following = await offload(partial(_first, records, after, arguments.limit + 1), len(records))
        page = following[: arguments.limit]
        return page, encode_cursor(_place(page[-1])) if len(following) > len(page) else None

    async def profile(self, caller: Caller, arguments: UserArguments) -> list[Record]:
        """The standing wishes of the user and the statements about the user that are in force."""
        records: list[Record] = []
        for scope in await self._scopes(caller, arguments):
            records += await self._services.memory_service.records(scope, of_profile)
        return await offload(partial(in_force, records), sum(len(record.text) for record in records))

    async def add(self, caller: Caller, arguments: AddArguments | AddMessagesArguments) -> list[Record]:
        """Store a text, or messages; they can be found when this returns, if the embedder answers in time. Returns them
        as stored: in chunks, with the preferences that they state."""
        user = self.user_of(caller, arguments.user)
        scope = (await self._scopes(caller, arguments))[0]
        session = getattr(arguments, "session", "")
        # without a named conversation, it is one of its own
        session_id = checked_id(session, "session") if session else f"mcp-{caller.request_id}"
        identity = Identity(user, session_id, reads=(scope,), writes=(scope,))
        turn = _turn(caller, identity, getattr(arguments, "tags", ()))
        messages = (
            [("user", arguments.text)]
            if isinstance(arguments, AddArguments)
            else [(message.role, message.content) for message in arguments.messages]
        )
        at = storable_moment_in(getattr(arguments, "at", ""), caller.received_at, "at")
        for _, text in messages:
            self._check_text(text)
        make = self._services.remember.make
        records = await offload(
            lambda: [make(turn, scope, role, text, at=at, index=index) for index, (role, text) in enumerate(messages)],
            sum(len(text) for _, text in messages),
        )
        records = [record for record in records if record.text]
        if not records:
            raise BadRequest("text: there is no text in it", param="text")
        stored = await self._services.memory_service.add(turn, records)
        await self._services.searchable(_SEARCHABLE_TIMEOUT)
        return stored

    async def update(self, caller: Caller, arguments: UpdateArguments) -> Record:
        """Change the text, the title or the status of a memory. Raises NotFound or BadRequest."""
        if arguments.text is None and arguments.title is None and arguments.status is None:
            raise BadRequest("give a new text, title or status", param="text")
        if arguments.text is not None:
            self._check_text(arguments.text)
            if not arguments.text.strip():
                raise BadRequest("text: there is no text in it; delete_memory deletes a memory", param="text")
        record = await self._find(caller, arguments, arguments.id)
        if arguments.version is not None and arguments.version != record.version:
            raise BadRequest(f"the memory was changed meanwhile: it has version {record.version}", param="version")
        turn = _turn(caller, Identity(record.user_id, record.session_id, reads=(), writes=()))
        text, title = await screen_edit(self._services.remember, turn, record, arguments.text, arguments.title)
        try:
            return await self._services.memory_service.edit(
                record, text=text, title=title, status=arguments.status, version=arguments.version
            )
        except Outdated as error:
            raise BadRequest("the memory was changed meanwhile; read it again", param="version") from error

    async def delete(self, caller: Caller, arguments: DeleteArguments) -> tuple[Record, int]:
        """Delete a memory and all that is derived from it. Returns it, and how many were deleted."""
        record = await self._find(caller, arguments, arguments.id)
        return record, await self._services.memory_service.delete([record])

    async def find(self, caller: Caller, arguments: HistoryArguments) -> Record:
        """A memory by its id. Raises NotFound."""
        return await self._find(caller, arguments, arguments.id)

    async def history(self, caller: Caller, arguments: HistoryArguments) -> list[Record]:
        """The versions of a memory: all that it replaces and that replace it, oldest first."""
        record = await self._find(caller, arguments, arguments.id)
        return await self._services.memory_service.history(record)

    async def _find(self, caller: Caller, arguments: UserArguments, memory_id: str) -> Record:
        scopes = {scope.value for scope in await self._scopes(caller, arguments)}
        id_ = plain_id(memory_id).lower()
        records = await find_by_prefix(self._services.memory_service, caller.principal, id_)
        records = [record for record in records if record.scope in scopes]
        if not records:
            raise NotFound("there is no memory of this id")
        if len(records) > 1:
            raise BadRequest(f"{len(records)} memories have ids that begin so", code="ambiguous_id", param="id")
        return records[0]

    async def _scopes(self, caller: Caller, arguments: UserArguments) -> list[Scope]:
        """The cubes of the user of a call: the named ones, or the default cube and all others."""
        if not self._services.config.memory.enabled:
            raise MemoryUnavailable("the memory is switched off in the configuration")
        tenant, user = caller.principal.tenant, self.user_of(caller, arguments.user)
        if arguments.cubes:
            return list(cube_scopes(tenant, user, [checked_id(cube, "cube_id") for cube in arguments.cubes]))
        return await user_cubes(self._services.registry, tenant, user)

    def _check_text(self, text: str) -> None:
        """Raise BadRequest for a text that would be truncated."""
        limit = self._services.config.memory.remember.max_message_bytes
        if len(text.encode("utf-8", "replace")) > limit:
            raise BadRequest(f"text: has more than {limit} bytes", param="text")


def _turn(caller: Caller, identity: Identity, tags: Sequence[str] = ()) -> Turn:
    """The turn of a change, as plugins see it."""
    return build_turn(
        caller.request_id,
        caller.principal,
        identity,
        path="/mcp",
        headers=caller.headers,
        received_at=caller.received_at,
        tags=tuple(tags),
    )


def _place(record: Record) -> Position:
    return -record.event_time, record.part, record.id


def _first(records: Sequence[Record], after: Position | None, count: int) -> list[Record]:
    """The first records of a list after a place."""
    following = (record for record in records if after is None or _place(record) > after)
    return heapq.nsmallest(count, following, key=_place)
