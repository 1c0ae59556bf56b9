"""The gateway's own routes on memory, under `/v1/memory`."""

from collections.abc import Callable
from dataclasses import asdict

import orjson
from aiohttp import web

from gateway.errors import Forbidden, MemoryUnavailable, NotFound
from gateway.recall.explain import Explanations
from gateway.remember.reindex import Reindexer
from gateway.turn import Right
from gateway.wire.guard import principal_of

__all__ = ["MemoryFace"]


class MemoryFace:
    """`reindexer` gives None until the memory is loaded."""

    def __init__(self, explanations: Explanations, reindexer: Callable[[], Reindexer | None]) -> None:
        self._explanations = explanations
        self._reindexer = reindexer

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/v1/memory/explain/{id}", self.explain, allow_head=False),
            web.get("/v1/memory/reindex", self.reindexed, allow_head=False),
            web.post("/v1/memory/reindex", self.reindex),
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

    def _loaded(self) -> Reindexer:
        reindexer = self._reindexer()
        if reindexer is None:
            raise MemoryUnavailable("the memory is not loaded; try again in a moment", headers={"retry-after": "2"})
        return reindexer


def _require(request: web.Request, right: Right) -> None:
    if right not in principal_of(request).rights:
        raise Forbidden(f"this key does not have the right `{right}`")


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
