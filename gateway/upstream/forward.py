"""Which upstreams a model name can go to, which of them gets a request, and the request as it gets it.

A client can name a model, never an address. An upstream with a key gets that key and never the client's; one without
gets the client's own `Authorization`, unless that is a key of the gateway.

Of several upstreams that have a model the first one is asked, and the next one where it cannot be reached or answers
that it does not serve now (429, 502, 503, 504): each once. One that keeps failing is passed over while others do not. A
model that has one upstream only is asked for once more there, if few requests are on their second try. Nothing is ever
asked for again once an answer has begun.
"""

import asyncio
import fnmatch
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from gateway import splice
from gateway.config import ModelsConfig, UpstreamConfig
from gateway.errors import ConnectTimedOut, NotFound, UpstreamFailed, UpstreamTimedOut, UpstreamUnreachable
from gateway.telemetry import Telemetry
from gateway.upstream import headers as header_lists
from gateway.upstream.breaker import Breaker
from gateway.upstream.client import Incoming, Outgoing, Upstream

__all__ = ["Forwarder", "Route", "Served"]

_log = logging.getLogger("gateway.upstream")
_DEFAULT = "default"
_NOT_NOW = frozenset((429, 502, 503, 504))
_BROKEN = frozenset((500, 502, 503, 504))
_SHORTEST_SECRET = 8  # a header's value that is shorter is a setting
_MOST_UPSTREAMS = 4  # asked for one request
_FEW = 3  # second tries at once that are always allowed, else
_RETRIED_SHARE = 0.1  # of the requests in flight
_LONGEST_JITTER, _LONGEST_PAUSE = 0.25, 2.0  # seconds


@dataclass(frozen=True, slots=True)
class Route:
    """The upstreams of a model in their order, the name that the model has there, and the name that was asked for."""

    upstreams: tuple[Upstream, ...]
    model: str
    asked: str

    @property
    def upstream(self) -> Upstream:
        """The one that is asked first."""
        return self.upstreams[0]


@dataclass(frozen=True, slots=True)
class Served:
    """An answer whose head was read, who gave it, and how many were asked for it."""

    upstream: Upstream
    incoming: Incoming
    attempts: int


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
        self._breakers = {upstream.name: Breaker() for upstream in upstreams}
        self._secrets = {upstream.name: _secrets_of(upstream.config) for upstream in upstreams}
        self._in_flight = self._retrying = 0

    @property
    def upstreams(self) -> list[Upstream]:
        return [upstream for upstream, _ in self._upstreams]

    def route(self, model: str) -> Route:
        """Where a model is. Raises NotFound (`model_not_found`)."""
        name = self._models.default if model == _DEFAULT else self._models.aliases.get(model, model)
        having = tuple(up for up, patterns in self._upstreams if any(pattern.match(name) for pattern in patterns))
        if having:
            return Route(having, name, model)
        raise NotFound(f"no upstream has the model {model[:100]!r}", code="model_not_found", param="model")

    async def send_chat(
        self, route: Route, *, path: str, query_string: str, client_headers: Mapping[str, str], raw: bytes
    ) -> Served:
        """Send a request whose JSON body we read; its bytes change only where the model has another name. Raises
        UpstreamFailed or UpstreamTimedOut."""
        if route.model != route.asked:
            span = splice.find(raw, ("model",))
            if span is not None:
                raw = splice.replace(raw, span, orjson.dumps(route.model))

        def request(upstream: Upstream) -> Outgoing:
            headers = self._headers(upstream, client_headers)
            headers["accept-encoding"] = "identity"
            headers.setdefault("content-type", "application/json")
            return Outgoing(method="POST", path=path, query_string=query_string, headers=headers, body=raw)

        self._in_flight += 1
        try:
            return await self._served(self._in_order(route.upstreams), request)
        finally:
            self._in_flight -= 1

    def secrets(self, upstream: Upstream) -> Sequence[bytes]:
        """What an upstream gets from the configuration and must never come back from it."""
        return self._secrets[upstream.name]

    def _in_order(self, upstreams: Sequence[Upstream]) -> Sequence[Upstream]:
        """Those that may be asked, in their order; all of them if each one fails."""
        if len(upstreams) == 1:
            return upstreams
        now = time.monotonic()
        return [one for one in upstreams if self._breakers[one.name].allows(now)] or upstreams

    async def _served(self, upstreams: Sequence[Upstream], request: Callable[[Upstream], Outgoing]) -> Served:
        *earlier, last = upstreams[:_MOST_UPSTREAMS] if len(upstreams) > 1 else (upstreams[0], upstreams[0])
        for attempt, upstream in enumerate(earlier, start=1):
            is_same_next = upstream is last
            try:
                incoming = await self._send(upstream, request(upstream))
            except (UpstreamUnreachable, ConnectTimedOut) as error:
                if is_same_next and not self._may_retry:
                    raise
                cause, pause = type(error).__name__, _pause(None)
            else:
                pause = _pause(incoming.headers.get("retry-after"))
                if incoming.status not in _NOT_NOW or (is_same_next and (pause is None or not self._may_retry)):
                    return Served(upstream, incoming, attempt)
                cause = str(incoming.status)
                incoming.close()
            _log.warning("asked_again", extra={"upstream": upstream.name, "cause": cause})
            if is_same_next:
                await self._rest(pause or 0)
        return Served(last, await self._send(last, request(last)), len(earlier) + 1)

    @property
    def _may_retry(self) -> bool:
        """True where few requests are on their second try."""
        return self._retrying < max(_FEW, _RETRIED_SHARE * self._in_flight)

    async def _rest(self, pause: float) -> None:
        self._retrying += 1
        try:
            await asyncio.sleep(pause)
        finally:
            self._retrying -= 1

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
        is_as_sent = "content-encoding" not in client_headers  # else its length was that of the compressed bytes
        if body is not None and not isinstance(body, bytes) and is_as_sent and "content-length" in client_headers:
            headers["content-length"] = client_headers["content-length"]
        return await self._send(
            upstream, Outgoing(method=method, path=path, query_string=query_string, headers=headers, body=body)
        )

    async def _send(self, upstream: Upstream, request: Outgoing) -> Incoming:
        began = time.perf_counter()
        self._breakers[upstream.name].asked(time.monotonic())
        try:
            incoming = await upstream.send(request)
        except (UpstreamFailed, UpstreamTimedOut):
            self._note(upstream, has_failed=True)
            raise
        self._telemetry.bound("first_byte", upstream.name).observe(time.perf_counter() - began)
        self._note(upstream, has_failed=incoming.status in _BROKEN)
        if 300 <= incoming.status < 400 and incoming.status != 304:
            incoming.close()
            raise UpstreamFailed(f"the upstream {upstream.name} answered with a redirect, which is not followed")
        if incoming.status in (401, 403) and upstream.config.api_key is not None:
            incoming.close()
            raise UpstreamFailed(
                f"the upstream {upstream.name} refused the gateway's own key", code="upstream_auth_error"
            )
        return incoming

    def _note(self, upstream: Upstream, *, has_failed: bool) -> None:
        breaker = self._breakers[upstream.name]
        if has_failed:
            breaker.failed(time.monotonic())
            self._telemetry.bound("upstream_failures", upstream.name).inc()
        else:
            breaker.succeeded()
        self._telemetry.bound("upstream_open", upstream.name).set(breaker.is_open)

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


def _secrets_of(config: UpstreamConfig) -> tuple[bytes, ...]:
    values = [value for value in (config.api_key, *config.headers.values()) if value is not None]
    found = [value.get_secret_value().encode("utf-8", "surrogateescape") for value in values]
    return tuple(value for value in found if len(value) >= _SHORTEST_SECRET)


def _pause(retry_after: str | None) -> float | None:
    """Seconds until a second try: what the upstream asks for, else a moment of random length; None if it is too long
    for a client to wait (the client's own retry is then better)."""
    if retry_after is None:
        return random.uniform(0, _LONGEST_JITTER)
    try:
        wanted = float(retry_after)
    except ValueError:
        return None  # a date
    return wanted if 0 <= wanted <= _LONGEST_PAUSE else None
