"""The memory API and self-service as values: their routes, rights and descriptions."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway.api.memory.access import MemoryAccess
from gateway.api.memory.admin import MemoryFace
from gateway.api.memory.changing import ChangingFace
from gateway.api.memory.description import me_paths, memory_paths
from gateway.api.memory.me import MeFace
from gateway.api.memory.reading import ReadingFace
from gateway.api.memory.serializing import MemoryWriter
from gateway.api.memory.users import UsersFace
from gateway.config import Config
from gateway.engine import MemoryEngine
from gateway.errors import GatewayError, MemoryUnavailable
from gateway.prompt.shared_explanations import SharedExplanations
from gateway.server.apis import Api
from gateway.storage.errors import StorageError
from gateway.turn import Right

__all__ = ["MemoryApis"]


@dataclass(frozen=True, slots=True)
class MemoryApis:
    """Builds both APIs from the parts of a gateway. `is_open`: no keys are configured."""

    config: Config
    memory: MemoryEngine
    explanations: SharedExplanations
    write_error: Callable[[GatewayError], bytes]
    is_open: bool

    def build_memory(self) -> Api:
        """The API under `/v1/memory`."""
        memory, access, writer = self.memory, self._access(), self._writer()
        reading = ReadingFace(memory.memory_service, memory.recall, access, writer)
        changing = ChangingFace(memory.memory_service, memory.remember, access, writer, self.config)
        users = UsersFace(memory.registry, memory.transfer, access, memory.sizes, is_open=self.is_open)
        management = MemoryFace(
            self.explanations,
            lambda: memory.reindexer,
            memory.forgetter,
            memory.transfer,
            memory.startup,
            limits=self.config.limits,
            is_open=self.is_open,
        )
        routes = [
            *management.routes(),
            *reading.routes(),
            *changing.routes(),
            *users.routes(),
            web.get("/v1/memory/{id}", reading.get_memory, allow_head=False),  # after those whose names it matches
            web.patch("/v1/memory/{id}", changing.change),
            web.delete("/v1/memory/{id}", changing.delete),
        ]
        return Api(
            name="memory",
            routes=_with_storage_errors(routes),
            prefixes=("/v1/memory/",),
            paths=frozenset({"/v1/memory"}),
            right=Right.MEMORY,
            write_error=self.write_error,
            describe=memory_paths,
        )

    def build_me(self) -> Api:
        """The API under `/v1/me`."""
        memory, access = self.memory, self._access()
        face = MeFace(
            access,
            ReadingFace(memory.memory_service, memory.recall, access, self._writer()),
            memory.sizes,
            self.config,
            transfer=memory.transfer,
            forgetter=memory.forgetter,
            is_open=self.is_open,
        )
        return Api(
            name="me",
            routes=_with_storage_errors(face.routes()),
            prefixes=("/v1/me/",),
            paths=frozenset({"/v1/me"}),
            is_for_any_key=True,
            write_error=self.write_error,
            describe=me_paths,
        )

    def _access(self) -> MemoryAccess:
        memory = self.memory
        return MemoryAccess(memory.memory_service, memory.registry, self.config.memory.default_user)

    def _writer(self) -> MemoryWriter:
        return MemoryWriter(self.memory.memory_service, self.memory.registry)


def _with_storage_errors(routes: Iterable[web.AbstractRouteDef]) -> list[web.AbstractRouteDef]:
    """The same routes, which report a failure of the storage as one of the memory."""
    return [
        web.RouteDef(route.method, route.path, _report_storage_errors(route.handler), route.kwargs)
        if isinstance(route, web.RouteDef)
        else route
        for route in routes
    ]


def _report_storage_errors(handler: Any) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
        except StorageError as error:
            raise MemoryUnavailable(f"the {error.part} cannot be read or written now; try again") from error
        return response

    return serve
