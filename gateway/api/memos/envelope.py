"""Shared parts of all MemOS routes: the operation table, the response envelope, and the scopes of a call.

A client operation is served under `/product` (`code` 200) and under `/api/openmem/v1` (`code` 0), a native one under
`/product` only. A handler gets a `Call` and its validated body and returns `data`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson
from aiohttp import web

from gateway.api.memos.defaults import Defaults
from gateway.api.memos.models import Body, ScopedRequest, checked
from gateway.config import Config
from gateway.errors import BadRequest, Forbidden, GatewayError, MemoryUnavailable, NotFound
from gateway.extraction.on_request import Extractor
from gateway.formats.base import ParsedRequest
from gateway.formats.chat import ChatFormat
from gateway.identity import agent_scope, checked_id, cube_scopes, knowledge_scope, public_scope
from gateway.llm.client import ModelClient
from gateway.llm.questions import refine
from gateway.memory.filters import BadFilter, MemoryFilter, parse_filter
from gateway.memory.recalled import Memory, RecallOptions
from gateway.memory.record import Record
from gateway.pipeline.background import BackgroundTasks
from gateway.pipeline.pipeline import Pipeline
from gateway.recall.recall import Recall
from gateway.remember.ingestion import Ingestion
from gateway.remember.remember import SAME_WITHIN, Remember
from gateway.server.guard import principal_of, read_json, request_id_of
from gateway.service.feedback import FeedbackService
from gateway.service.memories import MemoryService
from gateway.storage.errors import StorageError
from gateway.storage.protocols import RecordLog, Registry
from gateway.storage.values import Task
from gateway.turn import Identity, Principal, Right, Scope, ScopeKind, Turn
from gateway.upstream.forward import Forwarder

__all__ = [
    "KNOWLEDGE",
    "MOST_ON_CLIENT_ROUTES",
    "Access",
    "Call",
    "MemosServices",
    "Operation",
    "client",
    "envelope",
    "native",
    "of_scope",
    "operations_to_routes",
    "read_filter",
    "write_error",
]

KNOWLEDGE: Final = "knowledgebase"
MOST_ON_CLIENT_ROUTES: Final = 25  # most memories of one group in a reply
_CLIENT_TEXTS, _NATIVE_TEXTS = 6, 10
_ALL: Final = "all"
_PUBLIC: Final = "public"
_SYNC_TIMEOUT = 10.0
_MAX_ITEMS_ON_LOOP = 500  # replies with more items are serialized in a thread
_SOURCES: Final = {
    ScopeKind.USER: "user",
    ScopeKind.CUBE: "user",
    ScopeKind.AGENT: "agent",
    ScopeKind.KNOWLEDGE: "knowledgebase",
    ScopeKind.PUBLIC: "public",
}


class Searchable(Protocol):
    """Waits until all earlier writes, or those up to a number of the journal, can be found. False after the timeout."""

    async def __call__(self, timeout: float, seq: int | None = None) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MemosServices:
    """The services that handlers use.

    `caught_up` waits until the messages of a conversation can be found. `count` counts tokens.
    """

    config: Config
    pipeline: Pipeline
    forwarder: Forwarder
    recall: Recall
    remember: Remember
    memory_service: MemoryService
    registry: Registry
    journal: RecordLog
    model_client: ModelClient
    feedback: FeedbackService
    extractor: Extractor
    ingestion: Ingestion
    defaults: Defaults
    searchable: Searchable
    caught_up: Callable[[Identity, float], Awaitable[None]]
    count: Callable[[str], int]
    tasks: BackgroundTasks


@dataclass(frozen=True, slots=True)
class Access:
    """The scopes that a call reads and writes, and the filter on its memories."""

    identity: Identity
    filter: MemoryFilter

    def allows(self, scope: Scope) -> Callable[[Record], bool] | None:
        return of_scope(self.filter, scope)

    @property
    def by_scope(self) -> dict[str, Callable[[Record], bool]]:
        filters = ((scope.value, self.allows(scope)) for scope in self.identity.reads)
        return {value: allows for value, allows in filters if allows is not None}


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a MemOS route, with its principal and the services."""

    request: web.Request
    services: MemosServices
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
        """Default number of text memories for requests that do not set one."""
        return _CLIENT_TEXTS if self.is_client else _NATIVE_TEXTS

    async def json(self) -> Any:
        """Read the body as JSON, within the limits of the configuration."""
        limits = self.services.config.limits
        return (await read_json(self.request, limits))[1]

    def reply(self, message: str, data: Any, headers: Mapping[str, str] | None = None) -> web.Response:
        return envelope(self.code, message, data, headers)

    def whole(self, body: Mapping[str, Any]) -> web.Response:
        """A response with this body instead of the envelope."""
        return web.Response(body=orjson.dumps(body), content_type="application/json")

    def require(self, right: Right) -> None:
        if right not in self.principal.rights:
            raise Forbidden(f"this key does not have the right `{right.value}`")

    def require_project_key(self) -> None:
        """Raise Forbidden for a key pinned to one user: it has no access to resources shared within the tenant."""
        if self.principal.user is not None:
            raise Forbidden("this key is for one user; knowledge bases and agents need a key that is not")

    def user(self, name: str) -> str:
        """Check a user id against the key. Raises Forbidden for another user's key, BadRequest for an invalid id."""
        user = checked_id(name, "user_id")
        if self.principal.user is not None and self.principal.user != user:
            raise Forbidden("this key is for one user, and user_id names another")
        return user

    async def access(self, request: ScopedRequest) -> Access:
        """Resolve the scopes of a request. Raises Forbidden, NotFound, BadRequest or MemoryUnavailable."""
        if not self.services.config.memory.enabled:
            raise MemoryUnavailable("the memory is switched off in the configuration")
        users = [self.user(name) for name in request.users]
        agents = [checked_id(name, "agent_id") for name in request.agents]
        if not users and not agents:
            raise BadRequest("user_id: is needed", param="user_id")
        if agents and not users:
            self.require_project_key()
        session = checked_id(request.session_id, "session_id") if request.session_id else "default_session"
        reads = await self._cube_scopes(users, request.readable_cube_ids or _optional_tuple(request.mem_cube_id))
        writes = await self._cube_scopes(users, request.writable_cube_ids or _optional_tuple(request.mem_cube_id))
        agent_scopes = [agent_scope(self.tenant, agent) for agent in agents]
        reads += [] if users else agent_scopes
        writes += agent_scopes
        reads += await self._knowledge_scopes(request.knowledgebase_ids)
        writes += await self._knowledge_scopes(request.allow_knowledgebase_ids)
        if request.allow_public:  # readable by all users of the tenant that ask for all knowledge bases
            self.require(Right.PUBLIC)
            writes.append(public_scope(self.tenant))
        if any(scope.kind is ScopeKind.KNOWLEDGE for scope in writes):
            self.require_project_key()
        return Access(
            Identity((users or agents)[0], session, _unique_scopes(reads), _unique_scopes(writes)),
            read_filter(request.filter),
        )

    async def _cube_scopes(self, users: Sequence[str], cube_ids: Sequence[str] | None) -> list[Scope]:
        """Scopes of these cubes (the users' cubes, or knowledge bases of the tenant); default: the users' own."""
        scopes: list[Scope] = []
        for user in users:
            for cube in cube_ids or (user,):
                name = checked_id(cube, "cube_id")
                if name != user and await self.services.registry.item(self.tenant, KNOWLEDGE, name) is not None:
                    scopes.append(knowledge_scope(self.tenant, name))
                else:
                    scopes += cube_scopes(self.tenant, user, [name])
        return scopes

    async def _knowledge_scopes(self, ids: Sequence[str]) -> list[Scope]:
        scopes: list[Scope] = []
        for id_ in ids:
            if id_ == _ALL:
                items = await self.services.registry.items(self.tenant, KNOWLEDGE)
                scopes += [public_scope(self.tenant), *(knowledge_scope(self.tenant, item.id) for item in items)]
            elif id_ == _PUBLIC:
                scopes.append(public_scope(self.tenant))
            elif await self.services.registry.item(self.tenant, KNOWLEDGE, id_) is None:
                raise NotFound("knowledgebase_ids: there is no knowledge base of this id", param="knowledgebase_ids")
            else:
                scopes.append(knowledge_scope(self.tenant, id_))
        return scopes

    def turn(
        self, identity: Identity, *, ask: ParsedRequest | None = None, wire_format: ChatFormat | None = None
    ) -> Turn:
        return Turn(
            id=request_id_of(self.request),
            started=time.perf_counter(),
            received_at=self.received_at,
            principal=self.principal,
            path="/chat/completions",
            client_path=self.request.path,
            headers=self.request.headers,
            raw=b"",
            body={},
            ask=ask or ParsedRequest(model="", stream=False),
            wire_format=wire_format or ChatFormat(),
            identity=identity,
        )

    async def search(self, access: Access, query: str, options: RecallOptions, context: str = "") -> list[Memory]:
        """Search memories without a chat. Raises MemoryUnavailable."""
        services = self.services
        memories = await services.recall.require_search(access.identity.reads, query, options, context)
        if options.is_fine:
            memories = await refine(services.model_client, query, memories, services.config.memory.extraction.timeout)
        return list(memories)

    async def keep(self, turn: Turn, records: Sequence[Record]) -> list[Record]:
        """Store records durably and return them as stored. The MemOS client retries after a timeout: what another
        gateway has just stored is left out on its routes. Raises MemoryUnavailable."""
        return await self.services.memory_service.add(turn, records, SAME_WITHIN if self.is_client else 0.0)

    async def begin_task(self, id_: str, user: str, cube_id: str) -> str:
        """Register a task that completes when all entries now in the journal can be found."""
        last, _ = await self.services.journal.position()
        await self.services.registry.put_task(
            self.tenant, Task(id=id_, user=user, cube_id=cube_id, status="in_progress", seq=last, at=self.received_at)
        )
        return id_

    async def wait_until_found(self) -> None:
        if not await self.services.searchable(_SYNC_TIMEOUT):
            raise MemoryUnavailable("the memories are stored, but not searchable yet")


OperationHandler = Callable[[Call, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route.

    `handler` returns `data` or a whole response; `message` is the message of a successful response; `query` maps the
    names of query parameters to whether they are required.
    """

    path: str
    handler: OperationHandler
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


def client(
    path: str, handler: OperationHandler, summary: str, model: type[Body] | None = None, **more: Any
) -> Operation:
    """An operation of the MemOS client API, which is served under both prefixes."""
    return Operation(path=path, handler=handler, summary=summary, model=model, is_client=True, **more)


def native(
    path: str, handler: OperationHandler, summary: str, model: type[Body] | None = None, **more: Any
) -> Operation:
    """An operation of the native API of MemOS' own server."""
    return Operation(path=path, handler=handler, summary=summary, model=model, **more)


def operations_to_routes(operations: Iterable[Operation], services: MemosServices) -> list[web.AbstractRouteDef]:
    return [
        web.route(operation.method, path, _build_handler(operation, services, 0 if path.startswith("/api/") else 200))
        for operation in operations
        for path in operation.paths
    ]


def _build_handler(
    operation: Operation, services: MemosServices, code: int
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        call = Call(request, services, operation.is_client, code, principal_of(request))
        call.require(Right.MEMORY)
        try:
            body = None
            if request.content_type.startswith("multipart/") and not operation.takes_form:
                raise BadRequest("the body must be JSON, not a form", code="bad_body")
            if operation.model is not None and not request.content_type.startswith("multipart/"):
                body = checked(operation.model, await call.json())
            data = await operation.handler(call, body)
        except StorageError as error:
            raise MemoryUnavailable(f"the {error.part} cannot be read or written now; try again") from error
        if isinstance(data, web.StreamResponse):
            return data
        if _count_items(data) > _MAX_ITEMS_ON_LOOP:
            return await asyncio.to_thread(call.reply, operation.message, data)
        return call.reply(operation.message, data)

    return serve


def _count_items(data: Any, levels: int = 3) -> int:
    """Count the items of a reply in nested lists and objects, up to `levels` deep."""
    values = data.values() if isinstance(data, Mapping) else data if isinstance(data, list) else ()
    return len(values) + (sum(_count_items(value, levels - 1) for value in values) if levels else 0)


def envelope(code: int, message: str, data: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    response_headers = {name: value for name, value in (headers or {}).items() if name.startswith("x-")}
    body = orjson.dumps({"code": code, "message": message, "data": data})
    return web.Response(body=body, headers=response_headers, content_type="application/json")


def write_error(error: GatewayError) -> bytes:
    return orjson.dumps({"code": error.status, "message": error.message, "data": None})


def of_scope(parsed: MemoryFilter, scope: Scope) -> Callable[[Record], bool] | None:
    """The part of a filter that applies to a scope; None if the scope is not filtered."""
    return parsed.of(scope.cube_id, _SOURCES[scope.kind])


def read_filter(data: Any) -> MemoryFilter:
    try:
        return parse_filter(data)
    except BadFilter as error:
        raise BadRequest(str(error), code="invalid_filter", param=str(error).partition(":")[0]) from error


def _optional_tuple(cube_id: str | None) -> tuple[str, ...] | None:
    return (cube_id,) if cube_id else None


def _unique_scopes(scopes: Sequence[Scope]) -> tuple[Scope, ...]:
    return tuple({scope.value: scope for scope in scopes}.values())
