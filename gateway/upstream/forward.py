"""Which of a model's upstreams gets a request, and the request as it gets it. A client names a model, never an address.

Of several targets the first one is asked (of neighbours with weights one that is drawn), and the next one where it
cannot be reached, has no place free, or answers that it does not serve now (429, 502, 503, 504): each once. One that
keeps failing is passed over while others do not. A model that has one target only is asked for once more there, if few
requests are on their second try. Nothing is ever asked for again once an answer has begun.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import orjson

from gateway import splice
from gateway.config import ModelsConfig
from gateway.errors import ConnectTimedOut, Overloaded, UpstreamFailed, UpstreamTimedOut, UpstreamUnreachable
from gateway.telemetry import Telemetry
from gateway.upstream import headers as header_lists
from gateway.upstream.breaker import Breaker
from gateway.upstream.client import Incoming, Outgoing, Upstream
from gateway.upstream.keys import credentials, secrets_of
from gateway.upstream.lane import Lane
from gateway.upstream.routes import Route, Routes, Target

__all__ = ["Forwarder", "Route", "Served"]

_log = logging.getLogger("gateway.upstream")
_NOT_NOW = frozenset((429, 502, 503, 504))
_BROKEN = frozenset((500, 502, 503, 504))
_MOST_TRIES = 4  # of one request
_FEW = 3  # second tries at once that are always allowed, else
_RETRIED_SHARE = 0.1  # of the requests in flight
_LONGEST_JITTER, _LONGEST_PAUSE = 0.25, 2.0  # seconds


@dataclass(frozen=True, slots=True)
class Served:
    """An answer whose head was read, who gave it, and how many were asked for it."""

    target: Target
    incoming: Incoming
    attempts: int

    @property
    def upstream(self) -> Upstream:
        return self.target.upstream


class Forwarder:
    """Sends requests to upstreams. `is_own_key` tells a key of the gateway, which must never go up."""

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        models: ModelsConfig,
        telemetry: Telemetry,
        is_own_key: Callable[[str], bool],
    ) -> None:
        self._routes = Routes(upstreams, models)
        self._telemetry = telemetry
        self._is_own_key = is_own_key
        self._breakers = {upstream.name: Breaker() for upstream in upstreams}
        self._lanes = {one.name: Lane(one.name, one.config.max_in_flight) for one in upstreams}
        self._secrets = {upstream.name: secrets_of(upstream.config) for upstream in upstreams}
        self._in_flight = self._retrying = 0

    @property
    def upstreams(self) -> list[Upstream]:
        return self._routes.upstreams

    def route(self, model: str) -> Route:
        """Where a model is. Raises NotFound (`model_not_found`)."""
        return self._routes.route(model)

    async def send_chat(
        self, route: Route, *, path: str, query_string: str, client_headers: Mapping[str, str], raw: bytes
    ) -> Served:
        """Send a request whose JSON body we read; its bytes change only where the model has another name. Raises
        UpstreamFailed, UpstreamTimedOut or Overloaded."""

        def request(target: Target) -> Outgoing:
            headers = self._headers(target.upstream, client_headers)
            headers["accept-encoding"] = "identity"
            headers.setdefault("content-type", "application/json")
            body = raw if target.model == route.asked else _renamed(raw, target.model)
            return Outgoing(
                method="POST", path=path, query_string=query_string, headers=headers, body=body, model=target.model
            )

        self._in_flight += 1
        try:
            return await self._served(self._in_order(route.targets), request)
        finally:
            self._in_flight -= 1

    def is_clients_account(self, upstreams: Iterable[Upstream], client_headers: Mapping[str, str]) -> bool:
        """True if all of these upstreams get the client's own credentials and none of ours: they keep their clients
        apart themselves."""
        return all(
            upstream.config.kind in ("openai", "anthropic")
            and upstream.config.api_key is None
            and not upstream.config.headers
            and not upstream.config.query
            and bool(credentials(upstream.config, client_headers, self._is_own_key))
            for upstream in upstreams
        )

    def secrets(self, upstream: Upstream) -> Sequence[bytes]:
        """What an upstream gets from the configuration and must never come back from it."""
        return self._secrets[upstream.name]

    def _in_order(self, targets: Sequence[Target]) -> Sequence[Target]:
        """Those that may be asked, in their order, those with a place free first; all of them if each one fails."""
        if len(targets) == 1:
            return targets
        now = time.monotonic()
        ordered = _shared_out(targets)
        allowed = [one for one in ordered if self._breakers[one.upstream.name].allows(now)] or ordered
        return sorted(allowed, key=lambda one: self._lanes[one.upstream.name].is_full)

    async def _served(self, targets: Sequence[Target], request: Callable[[Target], Outgoing]) -> Served:
        *earlier, last = targets[:_MOST_TRIES] if len(targets) > 1 else (targets[0], targets[0])
        for attempt, target in enumerate(earlier, start=1):
            is_same_next = target is last
            try:
                incoming = await self._send(target.upstream, request(target))
            except (UpstreamUnreachable, ConnectTimedOut, Overloaded) as error:
                if is_same_next and (not self._may_retry or isinstance(error, Overloaded)):
                    raise
                cause, pause = type(error).__name__, _pause(None)
            else:
                pause = _pause(incoming.headers.get("retry-after"))
                if incoming.status not in _NOT_NOW or (is_same_next and (pause is None or not self._may_retry)):
                    return Served(target, incoming, attempt)
                cause = str(incoming.status)
                incoming.close()
            _log.warning("asked_again", extra={"upstream": target.upstream.name, "cause": cause})
            if is_same_next:
                await self._rest(pause or 0)
        return Served(last, await self._send(last.upstream, request(last)), len(earlier) + 1)

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
        growth: int = 0,
    ) -> Incoming:
        """Send anything else; a body in pieces keeps its length if the client told it, plus `growth` bytes."""
        headers = self._headers(upstream, client_headers)
        has_secrets = bool(self._secrets[upstream.name])  # they are found in plain text only
        if "accept-encoding" in client_headers and not has_secrets:
            headers["accept-encoding"] = client_headers["accept-encoding"]
        is_as_sent = "content-encoding" not in client_headers  # else its length was that of the compressed bytes
        if body is not None and not isinstance(body, bytes) and is_as_sent and "content-length" in client_headers:
            headers["content-length"] = str(int(client_headers["content-length"]) + growth)
        return await self._send(
            upstream, Outgoing(method=method, path=path, query_string=query_string, headers=headers, body=body)
        )

    async def _send(self, upstream: Upstream, request: Outgoing) -> Incoming:
        lane = self._lanes[upstream.name]
        await lane.enter(upstream.config.timeouts.connect)
        began = time.perf_counter()
        self._breakers[upstream.name].asked(time.monotonic())
        try:
            incoming = lane.held(await upstream.send(request))
        except BaseException as error:
            lane.leave()
            if isinstance(error, UpstreamFailed | UpstreamTimedOut):
                self._note(upstream, has_failed=True)
            else:
                self._breakers[upstream.name].not_asked()
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
        added |= credentials(config, client_headers, self._is_own_key)
        return header_lists.up(client_headers, config.forward_headers, added)


def _renamed(raw: bytes, model: str) -> bytes:
    """The same request for a model of another name."""
    span = splice.find(raw, ("model",))
    return raw if span is None else splice.replace(raw, span, orjson.dumps(model))


def _drawn(target: Target) -> float:
    weight = target.upstream.config.weight
    return random.expovariate(weight) if weight else math.inf


def _shared_out(targets: Sequence[Target]) -> list[Target]:
    """Neighbours with weights in an order drawn by them, each as likely first as its weight says (Efraimidis and
    Spirakis 2006); all others where they are."""
    ordered: list[Target] = []
    for (_, has_weight), group in groupby(targets, lambda one: (one.model, one.upstream.config.weight is not None)):
        members = list(group)
        if has_weight:
            members.sort(key=_drawn)
        ordered += members
    return ordered


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
