"""Load balancing, failover and retries over the upstreams of a model. A client names a model, never an address.

A request goes to the first target (among adjacent weighted targets, to one drawn by weight). It fails over to the next
target if the upstream cannot be reached, has no free slot, or answers that it is unavailable (429, 502, 503, 504); each
target is tried once. Upstreams with an open circuit breaker are skipped while others are available. A model with a
single target is retried there once, if few requests are being retried. A request is never retried after its answer has
begun.
"""

import asyncio
import logging
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import orjson

from gateway.config import ModelsConfig
from gateway.errors import ConnectTimedOut, Overloaded, UpstreamFailed, UpstreamTimedOut, UpstreamUnreachable
from gateway.formats import json_splice
from gateway.telemetry import Telemetry
from gateway.upstream import headers as header_lists
from gateway.upstream.breaker import Breaker
from gateway.upstream.client import Incoming, Outgoing, Upstream
from gateway.upstream.keys import credentials, secrets_of
from gateway.upstream.limiter import ConcurrencyLimiter
from gateway.upstream.routes import Route, Routes, Target

if TYPE_CHECKING:
    from gateway.tracing.otel import Trace

__all__ = ["Forwarder", "Route", "UpstreamAnswer"]

_log = logging.getLogger("gateway.upstream")
_UNAVAILABLE = frozenset((429, 502, 503, 504))
_FAILURES = frozenset((500, 502, 503, 504))
_MAX_ATTEMPTS = 4  # of one request
_MIN_RETRIES = 3  # concurrent retries that are always allowed
_RETRIED_SHARE = 0.1  # of the requests in flight may be retries beyond that
_LONGEST_JITTER, _LONGEST_PAUSE = 0.25, 2.0  # seconds


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """An answer whose headers were read, the target that gave it, and the number of attempts."""

    target: Target
    incoming: Incoming
    attempts: int

    @property
    def upstream(self) -> Upstream:
        return self.target.upstream


class Forwarder:
    """Sends requests to upstreams. `is_own_key` recognises the gateway's own keys, which are never forwarded."""

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
        self._lanes = {
            upstream.name: ConcurrencyLimiter(upstream.name, upstream.config.max_in_flight) for upstream in upstreams
        }
        self._secrets = {upstream.name: secrets_of(upstream.config) for upstream in upstreams}
        self._added_headers = {
            upstream.name: {name.lower(): value.get_secret_value() for name, value in upstream.config.headers.items()}
            for upstream in upstreams
        }
        self._open_breakers: dict[str, bool] = {}  # as the gauge shows them
        self._failures = Counter[str]()
        self._in_flight = self._retrying = 0

    @property
    def upstreams(self) -> list[Upstream]:
        return self._routes.upstreams

    def is_open(self, upstream: Upstream) -> bool:
        """True while the circuit breaker of an upstream is open."""
        return self._breakers[upstream.name].is_open

    def failures(self, upstream: Upstream) -> int:
        """The number of requests that an upstream did not answer, or answered with 500 to 504, since the start."""
        return self._failures[upstream.name]

    def route(self, model: str) -> Route:
        """The route of a model. Raises NotFound (`model_not_found`)."""
        return self._routes.route(model)

    async def send_chat(
        self,
        route: Route,
        *,
        path: str,
        query_string: str,
        client_headers: Mapping[str, str],
        raw: bytes,
        trace: "Trace | None" = None,
    ) -> UpstreamAnswer:
        """Send a chat request; its body changes only if the model has another name at the upstream. With a `trace`, the
        upstream's span continues it instead of the client's.

        Raises UpstreamFailed, UpstreamTimedOut or Overloaded.
        """

        def request(target: Target) -> Outgoing:
            headers = self._headers(target.upstream, client_headers)
            headers["accept-encoding"] = "identity"
            headers.setdefault("content-type", "application/json")
            if trace is not None:
                headers.pop("tracestate", None)
                headers.update(trace.headers)
            body = raw if target.model == route.asked else _replace_model(raw, target.model)
            return Outgoing(
                method="POST", path=path, query_string=query_string, headers=headers, body=body, model=target.model
            )

        self._in_flight += 1
        try:
            return await self._send_with_failover(self._order(route.targets), request, trace)
        finally:
            self._in_flight -= 1

    def is_clients_account(self, upstreams: Iterable[Upstream], client_headers: Mapping[str, str]) -> bool:
        """True if all of these upstreams get the client's credentials and none of the gateway's, so that they separate
        their clients themselves."""
        return all(
            upstream.config.rules.forwards_keys
            and upstream.config.api_key is None
            and not upstream.config.headers
            and not upstream.config.query
            and bool(credentials(upstream.config, client_headers, self._is_own_key))
            for upstream in upstreams
        )

    def secrets(self, upstream: Upstream) -> Sequence[bytes]:
        """The configured secrets that are sent to an upstream and must never appear in its answers."""
        return self._secrets[upstream.name]

    def _order(self, targets: Sequence[Target]) -> Sequence[Target]:
        """The targets whose breaker allows requests, or all if none does; those with a free slot come first."""
        if len(targets) == 1:
            return targets
        now = time.monotonic()
        ordered = _shuffle_weighted(targets)
        allowed = [target for target in ordered if self._breakers[target.upstream.name].allows(now)] or ordered
        return sorted(allowed, key=lambda target: self._lanes[target.upstream.name].is_full)

    async def _send_with_failover(
        self, targets: Sequence[Target], request: Callable[[Target], Outgoing], trace: "Trace | None"
    ) -> UpstreamAnswer:
        """Try the targets in order; a single target is retried once."""
        *earlier, last = targets[:_MAX_ATTEMPTS] if len(targets) > 1 else (targets[0], targets[0])
        for attempt, target in enumerate(earlier, start=1):
            is_retry_next = target is last
            try:
                incoming = await self._send(target.upstream, request(target))
            except (UpstreamUnreachable, ConnectTimedOut, Overloaded) as error:
                if is_retry_next and (not self._may_retry or isinstance(error, Overloaded)):
                    raise
                cause, pause = type(error).__name__, _pause(None)
            else:
                pause = _pause(incoming.headers.get("retry-after"))
                if incoming.status not in _UNAVAILABLE or (is_retry_next and (pause is None or not self._may_retry)):
                    return UpstreamAnswer(target, incoming, attempt)
                cause = str(incoming.status)
                incoming.close()
            _log.warning("model_request_repeated", extra={"upstream": target.upstream.name, "cause": cause})
            if trace is not None:
                trace.add_event("model_request_repeated", {"upstream": target.upstream.name, "cause": cause})
            if is_retry_next:
                await self._pause_before_retry(pause or 0)
        return UpstreamAnswer(last, await self._send(last.upstream, request(last)), len(earlier) + 1)

    @property
    def _may_retry(self) -> bool:
        """True if the retry budget is not used up."""
        return self._retrying < max(_MIN_RETRIES, _RETRIED_SHARE * self._in_flight)

    async def _pause_before_retry(self, pause: float) -> None:
        """Sleep; counts as a retry meanwhile."""
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
        """Send any other request. A streamed body keeps the client's content length, if any, plus `growth` bytes.

        Raises UpstreamFailed, UpstreamTimedOut or Overloaded.
        """
        headers = self._headers(upstream, client_headers)
        has_secrets = bool(self._secrets[upstream.name])  # secrets are only recognised in uncompressed answers
        if "accept-encoding" in client_headers and not has_secrets:
            headers["accept-encoding"] = client_headers["accept-encoding"]
        is_plain = "content-encoding" not in client_headers  # else the length is that of the compressed body
        if body is not None and not isinstance(body, bytes) and is_plain and "content-length" in client_headers:
            headers["content-length"] = str(int(client_headers["content-length"]) + growth)
        return await self._send(
            upstream, Outgoing(method=method, path=path, query_string=query_string, headers=headers, body=body)
        )

    async def _send(self, upstream: Upstream, request: Outgoing) -> Incoming:
        limiter = self._lanes[upstream.name]
        if limiter.has_limit:
            await limiter.enter(upstream.config.timeouts.connect)
        started = time.perf_counter()
        self._breakers[upstream.name].asked(time.monotonic())
        try:
            incoming = limiter.held(await upstream.send(request))
        except BaseException as error:
            limiter.leave()
            if isinstance(error, UpstreamFailed | UpstreamTimedOut):
                self._note(upstream, has_failed=True)
            else:
                self._breakers[upstream.name].not_asked()
            raise
        self._telemetry.bound("first_byte", upstream.name).observe(time.perf_counter() - started)
        self._note(upstream, has_failed=incoming.status in _FAILURES)
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
            self._failures[upstream.name] += 1
            self._telemetry.bound("upstream_failures", upstream.name).inc()
        else:
            breaker.succeeded()
        if self._open_breakers.get(upstream.name) is not breaker.is_open:
            self._open_breakers[upstream.name] = breaker.is_open
            self._telemetry.bound("upstream_open", upstream.name).set(breaker.is_open)

    def _headers(self, upstream: Upstream, client_headers: Mapping[str, str]) -> dict[str, str]:
        config = upstream.config
        added = self._added_headers[upstream.name] | credentials(config, client_headers, self._is_own_key)
        return header_lists.up(client_headers, config.forward_headers, added)


def _replace_model(raw: bytes, model: str) -> bytes:
    """The request body with another model name."""
    span = json_splice.find(raw, ("model",))
    return raw if span is None else json_splice.replace(raw, span, orjson.dumps(model))


def _draw_key(target: Target) -> float:
    """A random sort key, on average smaller for higher weights; weight 0 sorts last."""
    weight = target.upstream.config.weight
    return random.expovariate(weight) if weight else math.inf


def _shuffle_weighted(targets: Sequence[Target]) -> list[Target]:
    """Shuffle adjacent weighted targets of one model by weight (Efraimidis and Spirakis 2006): the probability of being
    first is proportional to the weight. Targets without a weight keep their positions."""
    ordered: list[Target] = []
    for (_, has_weight), group in groupby(
        targets, lambda target: (target.model, target.upstream.config.weight is not None)
    ):
        members = list(group)
        if has_weight:
            members.sort(key=_draw_key)
        ordered += members
    return ordered


def _pause(retry_after: str | None) -> float | None:
    """Seconds to wait before a retry: the upstream's `retry-after`, else random jitter. None if the wait is too long
    for the client (whose own retry is then better)."""
    if retry_after is None:
        return random.uniform(0, _LONGEST_JITTER)
    try:
        seconds = float(retry_after)
    except ValueError:
        return None  # an HTTP date
    return seconds if 0 <= seconds <= _LONGEST_PAUSE else None
