"""The gateway's own routes on memory, under `/v1/memory`."""

import orjson
from aiohttp import web

from gateway.errors import Forbidden, NotFound
from gateway.recall.explain import Explanations
from gateway.turn import Right
from gateway.wire.guard import principal_of

__all__ = ["MemoryFace"]


class MemoryFace:
    def __init__(self, explanations: Explanations) -> None:
        self._explanations = explanations

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.get("/v1/memory/explain/{id}", self.explain, allow_head=False)]

    async def explain(self, request: web.Request) -> web.Response:
        """What was recalled for a turn and why; whoever may not see it is told the same as if it were not there."""
        principal = principal_of(request)
        if Right.MEMORY not in principal.rights:
            raise Forbidden(f"this key does not have the right `{Right.MEMORY}`")
        found = self._explanations.find(request.match_info["id"], principal)
        if found is None:
            raise NotFound(
                "no turn of this id can be explained: take the id from the header x-gateway-request-id of an answer; "
                "only the latest turns are kept (memory.recall.explain_turns), until a memory is changed or deleted"
            )
        return web.Response(body=orjson.dumps(found), content_type="application/json")
