"""What all MemOS routes have in common: the table of operations, the envelope, and whose memory a call is about.

A client operation stands under `/product` (`code` 200) and once more under `/api/openmem/v1` (`code` 0), a native one
under `/product`. A handler gets a `Call` and its checked body and returns `data`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.asking import refine
from gateway.config import Config
from gateway.errors import BadRequest, Forbidden, MemoryUnavailable, NotFound
from gateway.identity import agent_scope, checked_id, cube_scopes, knowledge_scope, public_scope
from gateway.pipeline import Pipeline
from gateway.recall.library import Library
from gateway.remember.intake import Intake
from gateway.remember.remember import Remember
from gateway.store.filters import BadFilter, Filter, parse_filter
from gateway.store.journal import Journal, JournalFailed
from gateway.store.registry import Registry, RegistryFailed, Task
from gateway.turn import Ask, Identity, Memory, MemoryStatus, Principal, Record, Right, Scope, ScopeKind, Turn, Wanted
from gateway.upstream.asker import Asker
from gateway.wire.dialects.chat import ChatDialect
from gateway.wire.guard import principal_of, read_json, request_id_of
from gateway.wire.memos.defaults import Defaults
from gateway.wire.memos.models import Body, ScopedRequest, checked

__all__ = [
    "KNOWLEDGE",
    "MOST_ON_CLIENT_ROUTES",
    "Access",
    "Call",
    "Desk",
    "Operation",
    "client",
    "envelope",
    "native",
    "of_scope",
    "operations_to_routes",
    "read_filter",
]

KNOWLEDGE: Final = "knowledgebase"
MOST_ON_CLIENT_ROUTES: Final = 25  # memories of a group
_CLIENT_TEXTS, _NATIVE_TEXTS = 6, 10
_ALL: Final = "all"
_PUBLIC: Final = "public"
_SYNC_TIMEOUT = 10.0
_AT_ONCE = 500  # items of a reply that are written as JSON on the event loop
_SOURCES: Final = {
    ScopeKind.USER: "user",
    ScopeKind.CUBE: "user",
    ScopeKind.AGENT: "agent",
    ScopeKind.KNOWLEDGE: "knowledgebase",
    ScopeKind.PUBLIC: "public",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the handlers work with. `drained` waits until what was written before can be found, `caught_up` until what
    was remembered of a conversation can."""

    config: Config
    pipeline: Pipeline
    remember: Remember
    library: Library
    registry: Registry
    journal: Journal
    asker: Asker
    intake: Intake
    defaults: Defaults
    drained: Callable[[float], Awaitable[bool]]
    caught_up: Callable[[Identity, float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Access:
    """Whose memory a call reads and writes, and by what it is filtered."""

    identity: Identity
    filter: Filter

    def allows(self, scope: Scope) -> Callable[[Record], bool] | None:
        return of_scope(self.filter, scope)

    @property
    def by_scope(self) -> dict[str, Callable[[Record], bool]]:
        found = ((scope.value, self.allows(scope)) for scope in self.identity.reads)
        return {value: allows for value, allows in found if allows is not None}


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way through a handler."""

    request: web.Request
    desk: Desk
    is_client: bool
    code: int
    principal: Principal
    received_at: float = field(default_factory=time.time)

    @property
    def tenant(self) -> str:
        return self.principal.tenant

    @property
    def request_id(self) -> str:
        return request_id_of(self.request)

    @property
    def usual_texts(self) -> int:
        """How many memories a request wants that does not say."""
        return _CLIENT_TEXTS if self.is_client else _NATIVE_TEXTS

    async def json(self) -> Any:
        """The body as JSON, bounded."""
        limits = self.desk.config.limits
        return (await read_json(self.request, limits))[1]

    def reply(self, message: str, data: Any, headers: Mapping[str, str] | None = None) -> web.Response:
        return envelope(self.code, message, data, headers)

    def whole(self, body: Mapping[str, Any]) -> web.Response:
        """An answer that is more than an envelope."""
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    def require(self, right: Right) -> None:
        if right not in self.principal.rights:
            raise Forbidden(f"this key does not have the right `{right.value}`")

    def require_project_key(self) -> None:
        """What is shared within the tenant is not for a key that is pinned to one user."""
        if self.principal.user is not None:
            raise Forbidden("this key is for one user; knowledge bases and agents need a key that is not")

    def user(self, name: str) -> str:
        """A user that the key may speak for. Raises Forbidden or BadRequest."""
        user = checked_id(name, "user_id")
        if self.principal.user is not None and self.principal.user != user:
            raise Forbidden("this key is for one user, and user_id names another")
        return user

    async def access(self, asked: ScopedRequest) -> Access:
        """The scopes of a request. Raises Forbidden, NotFound or BadRequest."""
        if not self.desk.config.memory.enabled:
            raise MemoryUnavailable("the memory is switched off in the configuration")
        users = [self.user(name) for name in asked.users]
        agents = [checked_id(name, "agent_id") for name in asked.agents]
        if not users and not agents:
            raise BadRequest("user_id: is needed", param="user_id")
        if agents and not users:
            self.require_project_key()
        session = checked_id(asked.session_id, "session_id") if asked.session_id else "default_session"
        reads = await self._cubes(users, asked.readable_cube_ids or _one(asked.mem_cube_id))
        writes = await self._cubes(users, asked.writable_cube_ids or _one(asked.mem_cube_id))
        of_agents = [agent_scope(self.tenant, agent) for agent in agents]
        reads += [] if users else of_agents
        writes += of_agents
        reads += await self._knowledge(asked.knowledgebase_ids)
        writes += await self._knowledge(asked.allow_knowledgebase_ids)
        if asked.allow_public:  # what everybody of the tenant reads who asks for all knowledge bases
            self.require(Right.PUBLIC)
            writes.append(public_scope(self.tenant))
        if any(scope.kind is ScopeKind.KNOWLEDGE for scope in writes):
            self.require_project_key()
        return Access(Identity((users or agents)[0], session, _once(reads), _once(writes)), read_filter(asked.filter))

    async def _cubes(self, users: Sequence[str], cube_ids: Sequence[str] | None) -> list[Scope]:
        """The users' own cubes, or those that are named: theirs, or knowledge bases of the tenant."""
        scopes: list[Scope] = []
        for user in users:
            for cube in cube_ids or (user,):
                name = checked_id(cube, "cube_id")
                if name != user and await self.desk.registry.item(self.tenant, KNOWLEDGE, name) is not None:
                    scopes.append(knowledge_scope(self.tenant, name))
                else:
                    scopes += cube_scopes(self.tenant, user, [name])
        return scopes

    async def _knowledge(self, ids: Sequence[str]) -> list[Scope]:
        scopes: list[Scope] = []
        for id_ in ids:
            if id_ == _ALL:
                items = await self.desk.registry.items(self.tenant, KNOWLEDGE)
                scopes += [public_scope(self.tenant), *(knowledge_scope(self.tenant, item.id) for item in items)]
            elif id_ == _PUBLIC:
                scopes.append(public_scope(self.tenant))
            elif await self.desk.registry.item(self.tenant, KNOWLEDGE, id_) is None:
                raise NotFound("knowledgebase_ids: there is no knowledge base of this id", param="knowledgebase_ids")
            else:
                scopes.append(knowledge_scope(self.tenant, id_))
        return scopes

    def turn(self, identity: Identity, *, ask: Ask | None = None, dialect: ChatDialect | None = None) -> Turn:
        return Turn(
            id=request_id_of(self.request),
            started=time.perf_counter(),
            received_at=self.received_at,
            principal=self.principal,
            path="/chat/completions",
            headers=self.request.headers,
            raw=b"",
            body={},
            ask=ask or Ask(model="", stream=False),
            dialect=dialect or ChatDialect(),
            identity=identity,
        )

    async def search(self, access: Access, query: str, wanted: Wanted, context: str = "") -> list[Memory]:
        """Memories, for those who ask for nothing else. Raises MemoryUnavailable."""
        desk = self.desk
        recalled = await desk.pipeline.recall.search(access.identity.reads, query, wanted, context)
        if recalled.status is MemoryStatus.DEGRADED:
            raise MemoryUnavailable(f"the memory cannot be searched now ({recalled.reason}); try again")
        memories = recalled.memories
        if wanted.is_fine:
            memories = await refine(desk.asker, query, memories, desk.config.memory.extraction.timeout)
        return list(memories)

    async def keep(self, turn: Turn, records: Sequence[Record]) -> list[Record]:
        """Commit records that a client asked to keep. Raises MemoryUnavailable."""
        try:
            return await self.desk.remember.add(turn, records)
        except JournalFailed as error:
            raise MemoryUnavailable("the memories could not be written; nothing was kept; try again") from error
        except TimeoutError as error:
            raise MemoryUnavailable("the memories could not be written in time; they may be kept or not") from error

    async def begin_task(self, id_: str, user: str, cube_id: str) -> str:
        """A task that ends when all that is in the journal now can be found."""
        last, _ = await self.desk.journal.position()
        await self.desk.registry.put_task(
            self.tenant, Task(id=id_, user=user, cube_id=cube_id, status="in_progress", seq=last, at=self.received_at)
        )
        return id_

    async def wait_until_found(self) -> None:
        if not await self.desk.drained(_SYNC_TIMEOUT):
            raise MemoryUnavailable("the memories are kept, but cannot be found yet")


Handler = Callable[[Call, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route. `handler` returns `data`, or a whole response; `message` is what a success says; `query` holds the
    names in the query string and whether they are needed."""

    path: str
    handler: Handler
    summary: str
    model: type[Body] | None = None
    message: str = "ok"
    method: str = "POST"
    is_client: bool = False
    data: str = "object"
    query: Mapping[str, bool] = field(default_factory=dict)
    takes_form: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        return (f"/product{self.path}", f"/api/openmem/v1{self.path}") if self.is_client else (f"/product{self.path}",)


def client(path: str, handler: Handler, summary: str, model: type[Body] | None = None, **more: Any) -> Operation:
    """An operation of the client's family."""
    return Operation(path=path, handler=handler, summary=summary, model=model, is_client=True, **more)


def native(path: str, handler: Handler, summary: str, model: type[Body] | None = None, **more: Any) -> Operation:
    """An operation of MemOS' own server."""
    return Operation(path=path, handler=handler, summary=summary, model=model, **more)


def operations_to_routes(operations: Iterable[Operation], desk: Desk) -> list[web.AbstractRouteDef]:
    return [
        web.route(operation.method, path, _bound(operation, desk, 0 if path.startswith("/api/") else 200))
        for operation in operations
        for path in operation.paths
    ]


def _bound(operation: Operation, desk: Desk, code: int) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        call = Call(request, desk, operation.is_client, code, principal_of(request))
        call.require(Right.MEMORY)
        try:
            body = None
            if request.content_type.startswith("multipart/") and not operation.takes_form:
                raise BadRequest("the body must be JSON, not a form", code="bad_body")
            if operation.model is not None and not request.content_type.startswith("multipart/"):
                body = checked(operation.model, await call.json())
            data = await operation.handler(call, body)
        except RegistryFailed as error:
            raise MemoryUnavailable("the registry cannot be read or written now; try again") from error
        except JournalFailed as error:
            raise MemoryUnavailable("the journal cannot be read or written now; try again") from error
        if isinstance(data, web.StreamResponse):
            return data
        if _count_items(data) > _AT_ONCE:
            return await asyncio.to_thread(call.reply, operation.message, data)
        return call.reply(operation.message, data)

    return serve


def _count_items(data: Any, levels: int = 3) -> int:
    """The number of items in the lists of a reply, which lie one within the other up to `levels` deep."""
    values = data.values() if isinstance(data, Mapping) else data if isinstance(data, list) else ()
    return len(values) + (sum(_count_items(value, levels - 1) for value in values) if levels else 0)


def envelope(code: int, message: str, data: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    passed = {name: value for name, value in (headers or {}).items() if name.startswith("x-")}
    body = orjson.dumps({"code": code, "message": message, "data": data})
    return web.Response(body=body, headers=passed, content_type="application/json")


def of_scope(parsed: Filter, scope: Scope) -> Callable[[Record], bool] | None:
    """What of a filter applies to a scope."""
    return parsed.of(scope.cube_id, _SOURCES[scope.kind])


def read_filter(data: Any) -> Filter:
    try:
        return parse_filter(data)
    except BadFilter as error:
        raise BadRequest(str(error), code="invalid_filter", param=str(error).partition(":")[0]) from error


def _one(cube_id: str | None) -> tuple[str, ...] | None:
    return (cube_id,) if cube_id else None


def _once(scopes: Sequence[Scope]) -> tuple[Scope, ...]:
    return tuple({scope.value: scope for scope in scopes}.values())
