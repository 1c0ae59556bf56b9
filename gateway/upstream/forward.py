"""Which upstream a model name goes to, and the request as that upstream gets it.

A client can name a model, never an address. An upstream with a key gets that key and never the client's; one without
gets the client's own `Authorization`, unless that is a key of the gateway.
"""

import fnmatch
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from gateway import splice
from gateway.config import ModelsConfig
from gateway.errors import NotFound, UpstreamFailed
from gateway.telemetry import Telemetry
from gateway.upstream import headers as header_lists
from gateway.upstream.client import Incoming, Outgoing, Upstream

__all__ = ["Forwarder", "Route"]

_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Route:
    """An upstream, the name that the model has there, and the name that was asked for."""

    upstream: Upstream
    model: str
    asked: str


class Forwarder:
    """Sends requests to upstreams. `is_own_key` tells a key of the gateway, which must never go up."""

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        models: ModelsConfig,
        telemetry: Telemetry,
        is_own_key: Callable[[str], bool],
    ) -> None:
        self._upstreams = [
            (upstream, [re.compile(fnmatch.translate(pattern)) for pattern in upstream.config.models])
            for upstream in upstreams
        ]
        self._models = models
        self._telemetry = telemetry
        self._is_own_key = is_own_key

    @property
    def upstreams(self) -> list[Upstream]:
        return [upstream for upstream, _ in self._upstreams]

    def route(self, model: str) -> Route:
        """Where a model is. Raises NotFound (`model_not_found`)."""
        name = self._models.default if model == _DEFAULT else self._models.aliases.get(model, model)
        for upstream, patterns in self._upstreams:
            if any(pattern.match(name) for pattern in patterns):
                return Route(upstream, name, model)
        raise NotFound(f"no upstream has the model {model[:100]!r}", code="model_not_found", param="model")

    async def send_chat(
        self, route: Route, *, path: str, query_string: str, client_headers: Mapping[str, str], raw: bytes
    ) -> Incoming:
        """Send a request whose JSON body we read; its bytes change only where the model has another name."""
        if route.model != route.asked:
            span = splice.find(raw, ("model",))
            if span is not None:
                raw = splice.replace(raw, span, orjson.dumps(route.model))
        headers = self._headers(route.upstream, client_headers)
        headers["accept-encoding"] = "identity"
        headers.setdefault("content-type", "application/json")
        return await self._send(
            route.upstream, Outgoing(method="POST", path=path, query_string=query_string, headers=headers, body=raw)
        )

    async def pass_through(
        self,
        upstream: Upstream,
        *,
        method: str,
        path: str,
        query_string: str,
        client_headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes] | None,
    ) -> Incoming:
        """Send anything else; a body in pieces keeps its length if the client told it."""
        headers = self._headers(upstream, client_headers)
        if "accept-encoding" in client_headers:
            headers["accept-encoding"] = client_headers["accept-encoding"]
        if body is not None and not isinstance(body, bytes) and "content-length" in client_headers:
            headers["content-length"] = client_headers["content-length"]
        return await self._send(
            upstream, Outgoing(method=method, path=path, query_string=query_string, headers=headers, body=body)
        )

    async def _send(self, upstream: Upstream, request: Outgoing) -> Incoming:
        began = time.perf_counter()
        incoming = await upstream.send(request)
        self._telemetry.bound("first_byte", upstream.name).observe(time.perf_counter() - began)
        if 300 <= incoming.status < 400 and incoming.status != 304:
            incoming.close()
            raise UpstreamFailed(f"the upstream {upstream.name} answered with a redirect, which is not followed")
        if incoming.status in (401, 403) and upstream.config.api_key is not None:
            incoming.close()
            raise UpstreamFailed(
                f"the upstream {upstream.name} refused the gateway's own key", code="upstream_auth_error"
            )
        return incoming

    def _headers(self, upstream: Upstream, client_headers: Mapping[str, str]) -> dict[str, str]:
        config = upstream.config
        added = {name.lower(): value.get_secret_value() for name, value in config.headers.items()}
        if config.api_key is not None:
            added["authorization"] = f"Bearer {config.api_key.get_secret_value()}"
        else:
            for name in ("authorization", "x-api-key"):
                if name in client_headers and not self._is_own_key(client_headers[name]):
                    added.setdefault(name, client_headers[name])
        return header_lists.up(client_headers, config.forward_headers, added)
