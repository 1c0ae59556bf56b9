"""The gateway's own routes on memory, under `/v1/memory`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Annotated

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.config import LimitsConfig
from gateway.errors import BadRequest, Forbidden, GatewayError, NotFound
from gateway.recall.explain import Explanations
from gateway.recall.startup import Startup
from gateway.remember.forget import Forgetter
from gateway.remember.reindex import Reindexer
from gateway.remember.selection import Selection
from gateway.remember.transfer import Transfer
from gateway.turn import Right
from gateway.wire.guard import parse_json, principal_of, read_body

__all__ = ["ForgetRequest", "MemoryFace"]

_LONGEST_LINE = 2**20
_LINE_TIMEOUT = 60.0
_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_Name = Annotated[str, Field(min_length=1, max_length=256)]


class ForgetRequest(BaseModel):
    """What is to be forgotten: all conditions that are given must hold. `everything` is for when none is."""

    model_config = ConfigDict(extra="forbid")

    tenant: _Name | None = None
    user: _Name | None = None
    session: _Name | None = None
    ids: list[_Id] = Field([], max_length=10_000)
    everything: bool = False
    purge: bool = False


class MemoryFace:
    """`reindexer` gives None until the memory is loaded. `is_open`: without keys whoever asks may name any tenant."""

    def __init__(
        self,
        explanations: Explanations,
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
            web.get("/v1/memory/reindex", self.reindexed, allow_head=False),
            web.post("/v1/memory/reindex", self.reindex),
            web.post("/v1/memory/forget", self.forget),
            web.get("/v1/memory/export", self.export, allow_head=False),
            web.post("/v1/memory/import", self.take_in),
        ]

    async def explain(self, request: web.Request) -> web.Response:
        """What was recalled for a turn and why; whoever may not see it is told the same as if it were not there."""
        _require(request, Right.MEMORY)
        found = self._explanations.find(request.match_info["id"], principal_of(request))
        if found is None:
            raise NotFound(
                "no turn of this id can be explained: take the id from the header x-gateway-request-id of an answer; "
                "only the latest turns are kept (memory.recall.explain_turns), until a memory is changed or deleted"
            )
        return _json(found)

    async def reindexed(self, request: web.Request) -> web.Response:
        """How far the memories are made anew for the configured embedder."""
        _require(request, Right.ADMIN)
        return _json(asdict(self._loaded().progress))

    async def reindex(self, request: web.Request) -> web.Response:
        """Begin to make them anew, if they are not; the gateway serves meanwhile."""
        _require(request, Right.ADMIN)
        reindexer = self._loaded()
        reindexer.start()
        return _json(asdict(reindexer.progress), 202)

    async def forget(self, request: web.Request) -> web.Response:
        """Delete memories: at once in recall; with `purge` from the disk too, before this answers."""
        _require(request, Right.ADMIN)
        try:
            asked = ForgetRequest.model_validate(parse_json(await read_body(request, self._limits), self._limits))
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, problem["loc"]))
            raise BadRequest(f"`{where or 'body'}`: {problem['msg']}", param=where or None) from error
        selection = Selection(
            tenant=self._tenant(request, asked.tenant),
            user=asked.user,
            session=asked.session,
            ids=frozenset(asked.ids),
        )
        if selection.is_everything and not asked.everything:
            raise BadRequest("name a `user`, a `session` or `ids`, or say `everything`: true", param="user")
        self._loaded()
        return _json(asdict(await self._forgetter.forget(selection, purge=asked.purge)))

    async def export(self, request: web.Request) -> web.StreamResponse:
        """Memories as lines of JSON."""
        _require(request, Right.ADMIN)
        self._loaded()
        query = request.query
        selection = Selection(
            tenant=self._tenant(request, query.get("tenant")), user=query.get("user"), session=query.get("session")
        )
        pieces = self._transfer.export(selection)
        async with contextlib.aclosing(pieces):  # type: ignore[type-var]  # it is a generator
            first = await anext(pieces, b"")  # a failure before it is an error as any other
            response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
            await response.prepare(request)
            await response.write(first)
            try:
                async for piece in pieces:
                    await response.write(piece)
            except GatewayError:
                if request.transport is not None:
                    request.transport.close()  # no good end: what was sent is not all
                return response
        await response.write_eof()
        return response

    async def take_in(self, request: web.Request) -> web.Response:
        """Store memories out of lines of JSON, as `export` writes them."""
        _require(request, Right.ADMIN)
        self._loaded()
        tenant = self._tenant(request, request.query.get("tenant"))
        return _json(asdict(await self._transfer.take_in(_lines(request), tenant)))

    def _tenant(self, request: web.Request, asked: str | None) -> str | None:
        """The tenant of the key; without keys the one that is asked for, or all."""
        own = principal_of(request).tenant
        asked = asked or None
        if self._is_open:
            return asked
        if asked not in (None, own):
            raise Forbidden(f"this key belongs to the tenant `{own}`")
        return own

    def _loaded(self) -> Reindexer:
        reindexer = self._reindexer()
        if reindexer is None:
            raise self._startup.error()
        return reindexer


async def _lines(request: web.Request) -> AsyncIterator[bytes]:
    """The lines of a body of any length, each bounded in size and time."""
    rest = b""
    pieces = request.content.iter_any()
    while True:
        try:
            async with asyncio.timeout(_LINE_TIMEOUT):
                piece = await anext(pieces, None)
        except TimeoutError as error:
            raise BadRequest("the body did not arrive in time", code="body_timeout") from error
        except web.RequestPayloadError as error:
            raise BadRequest("the body is not what its headers say", code="bad_body") from error
        if piece is None:
            break
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line
        if len(rest) > _LONGEST_LINE:
            raise BadRequest("a line has more than a MiB", code="bad_body")
    yield rest


def _require(request: web.Request, right: Right) -> None:
    if right not in principal_of(request).rights:
        raise Forbidden(f"this key does not have the right `{right}`")


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
