"""Memory management routes under `/v1/memory`: explain, reindex, forget, export, import."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict

from aiohttp import web

from gateway.api.memory.access import require
from gateway.api.memory.bodies import ForgetRequest
from gateway.api.memory.exporting import stream_export
from gateway.api.memory.parameters import read_flag, read_model
from gateway.api.memory.serializing import json_response
from gateway.config import LimitsConfig
from gateway.errors import BadRequest, Forbidden, NotFound
from gateway.maintenance.forget import Forgetter
from gateway.maintenance.reindex import Reindexer
from gateway.maintenance.selection import MemorySelection
from gateway.maintenance.transfer import Transfer
from gateway.prompt.shared_explanations import SharedExplanations
from gateway.recall.startup import Startup
from gateway.server.guard import principal_of
from gateway.turn import Right

__all__ = ["MemoryFace"]

_MAX_LINE_BYTES = 2**20
_LINE_TIMEOUT = 60.0


class MemoryFace:
    """HTTP handlers for memory management.

    `reindexer` returns None until the memory is loaded. `is_open`: no keys are configured, so any caller may name any
    tenant.
    """

    def __init__(
        self,
        explanations: SharedExplanations,
        reindexer: Callable[[], Reindexer | None],
        forgetter: Forgetter,
        transfer: Transfer,
        startup: Startup,
        *,
        limits: LimitsConfig,
        is_open: bool,
    ) -> None:
        self._explanations = explanations
        self._reindexer = reindexer
        self._forgetter = forgetter
        self._transfer = transfer
        self._startup = startup
        self._limits = limits
        self._is_open = is_open

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/v1/memory/explain/{id}", self.explain, allow_head=False),
            web.get("/v1/memory/reindex", self.reindex_progress, allow_head=False),
            web.post("/v1/memory/reindex", self.reindex),
            web.post("/v1/memory/forget", self.forget),
            web.get("/v1/memory/export", self.export, allow_head=False),
            web.post("/v1/memory/import", self.import_memories),
        ]

    async def explain(self, request: web.Request) -> web.Response:
        """Explain which memories a turn recalled and why. Without access, the answer is the 404 of an unknown turn."""
        require(request, Right.MEMORY)
        explanation = await self._explanations.find(request.match_info["id"], principal_of(request))
        if explanation is None:
            raise NotFound(
                "no turn of this id can be explained: take the id from the header x-gateway-request-id of an answer; "
                "only the latest turns are kept (memory.recall.explain_turns), until a memory is changed or deleted"
            )
        return json_response(explanation)

    async def reindex_progress(self, request: web.Request) -> web.Response:
        """Progress of re-embedding the memories with the configured embedder."""
        require(request, Right.ADMIN)
        return json_response(asdict(await self._require_loaded().overall_progress()))

    async def reindex(self, request: web.Request) -> web.Response:
        """Start re-embedding unless it is running; the gateway serves requests meanwhile."""
        require(request, Right.ADMIN)
        reindexer = self._require_loaded()
        reindexer.request()
        return json_response(asdict(await reindexer.overall_progress()), 202)

    async def forget(self, request: web.Request) -> web.Response:
        """Delete memories: recall drops them at once; with `purge` they are erased from disk before the response."""
        require(request, Right.ADMIN)
        body = await read_model(ForgetRequest, request, self._limits)
        selection = MemorySelection(
            tenant=self._resolve_tenant(request, body.tenant),
            user=body.user,
            session=body.session,
            ids=frozenset(body.ids),
        )
        if selection.is_everything and not body.everything:
            raise BadRequest("name a `user`, a `session` or `ids`, or say `everything`: true", param="user")
        self._require_loaded()
        return json_response(asdict(await self._forgetter.forget(selection, purge=body.purge)))

    async def export(self, request: web.Request) -> web.StreamResponse:
        """Stream memories as JSON lines, with their vectors if `vectors` is true."""
        require(request, Right.ADMIN)
        self._require_loaded()
        query = request.query
        selection = MemorySelection(
            tenant=self._resolve_tenant(request, query.get("tenant")),
            user=query.get("user"),
            session=query.get("session"),
        )
        return await stream_export(request, self._transfer, selection, with_vectors=read_flag(query, "vectors"))

    async def import_memories(self, request: web.Request) -> web.Response:
        """Import memories from JSON lines, as `export` writes them."""
        require(request, Right.ADMIN)
        self._require_loaded()
        tenant = self._resolve_tenant(request, request.query.get("tenant"))
        return json_response(asdict(await self._transfer.import_lines(_read_lines(request), tenant)))

    def _resolve_tenant(self, request: web.Request, requested: str | None) -> str | None:
        """Return the tenant of the key; without keys the requested tenant, or None for all."""
        key_tenant = principal_of(request).tenant
        requested = requested or None
        if self._is_open:
            return requested
        if requested not in (None, key_tenant):
            raise Forbidden(f"this key belongs to the tenant `{key_tenant}`")
        return key_tenant

    def _require_loaded(self) -> Reindexer:
        reindexer = self._reindexer()
        if reindexer is None:
            raise self._startup.error()
        return reindexer


async def _read_lines(request: web.Request) -> AsyncIterator[bytes]:
    """Yield the lines of a body of any length, each bounded in size and time."""
    partial_line = b""
    chunks = request.content.iter_any()
    while True:
        try:
            async with asyncio.timeout(_LINE_TIMEOUT):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise BadRequest("the body did not arrive in time", code="body_timeout") from error
        except web.RequestPayloadError as error:
            raise BadRequest("the body is not what its headers say", code="bad_body") from error
        if chunk is None:
            break
        *lines, partial_line = (partial_line + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(partial_line) > _MAX_LINE_BYTES:
            raise BadRequest("a line has more than a MiB", code="bad_body")
    yield partial_line
