"""Routes for operators: liveness, readiness, metrics."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from aiohttp import web

from gateway import __version__
from gateway.api.console import CONSOLE_PATH, wants_page
from gateway.server.apis import Answerer

__all__ = ["ANSWERERS", "OPEN_PATHS", "OpsFace"]

OPEN_PATHS: Final = frozenset(("/", "/health", "/ready", "/metrics", "/openapi.json", "/docs"))
"""The paths that need no key."""
ANSWERERS: Final = {
    "/health": Answerer.WORKER,
    "/ready": Answerer.OWNER_OR_WORKER,
    "/metrics": Answerer.OWNER_OR_WORKER,
}
"""The paths that are not always answered by the owner of the store."""


class OpsFace:
    """HTTP handlers for operators. `state` returns the health of each component, and `metrics` the page of metrics;
    they run on every request. `has_console`: browsers that open `/` get the console."""

    def __init__(
        self,
        metrics: Callable[[], Awaitable[bytes]],
        state: Callable[[], Awaitable[dict[str, Any]]],
        *,
        has_console: bool,
    ) -> None:
        self._has_console = has_console
        self._metrics = metrics
        self._state = state

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/", self.about, allow_head=False),
            web.get("/health", self.health),
            web.get("/ready", self.ready),
            web.get("/metrics", self.metrics, allow_head=False),
        ]

    async def about(self, request: web.Request) -> web.Response:
        """Describe the service to programs; a browser gets the console."""
        if self._has_console and wants_page(request):
            return web.Response(status=302, headers={"location": f"{CONSOLE_PATH}/", "vary": "accept"})
        return _json(
            {
                "name": "memory-gateway",
                "version": __version__,
                "openai_base_url": "/v1",
                "memos_base_url": "/product",
                "console": CONSOLE_PATH if self._has_console else None,
                "see": ["/docs", "/health", "/ready", "/metrics", "/v1/models"],
            }
        )

    async def health(self, request: web.Request) -> web.Response:
        """The process is alive."""
        return _json({"status": "healthy", "service": "memory-gateway", "version": __version__})

    async def ready(self, request: web.Request) -> web.Response:
        """200 while chats are served, with or without memory; 503 during shutdown. `memory` is the memory's state."""
        state = await self._state()
        return _json(state, 200 if state["ready"] else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        body = await self._metrics()
        return web.Response(body=body, headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
