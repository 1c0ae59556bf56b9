"""Prometheus metrics and JSON log lines.

A log line contains an event, ids and numbers; never a prompt, an answer or a key, and user ids only as digests.
Labels are few and bounded: of values from clients only the first 100 models and 200 users (as digests) become one.
"""

import asyncio
import hashlib
import logging
import sys
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TextIO

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.samples import Sample

__all__ = ["JsonFormatter", "Telemetry", "log_event", "set_up_logging", "short_digest"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_STAGE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1)
_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
_TOKENS = (0, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_ROOT = logging.getLogger("gateway")
_SILENCED = (
    "aiohttp.server",
    "aiohttp.access",
    "aiohttp.web",
    "aiohttp.client",
    "aiohttp.internal",
    "opentelemetry",
    "urllib3",
)
_GATHERING = 0.02  # seconds that a line of `log_event` may wait for others
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class LoopCounter(Counter):
    """A counter of the event loop's thread: it adds plain numbers, and takes the lock only when the page is read."""

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        self._gathered += amount

    def _metric_init(self) -> None:
        super()._metric_init()
        self._gathered = 0.0

    def _child_samples(self) -> Iterable[Sample]:
        gathered, self._gathered = self._gathered, 0.0
        super().inc(gathered)
        return super()._child_samples()


class LoopHistogram(Histogram):
    """A histogram of the event loop's thread, likewise."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        self._gathered[bisect_left(self._upper_bounds, amount)] += 1
        self._gathered_sum += amount

    def _metric_init(self) -> None:
        super()._metric_init()
        self._gathered, self._gathered_sum = [0] * len(self._upper_bounds), 0.0

    def _child_samples(self) -> Iterable[Sample]:
        for bucket, count in zip(self._buckets, self._gathered, strict=True):
            bucket.inc(count)
        self._sum.inc(self._gathered_sum)
        self._gathered, self._gathered_sum = [0] * len(self._upper_bounds), 0.0
        return super()._child_samples()


class Telemetry:
    """All metrics of one gateway, in a separate registry."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no annotation here
        self.registry = CollectorRegistry()
        self._add_cluster_metrics()
        self.requests = self._counter("gateway_requests", "Requests by API and HTTP status.", ["face", "status"])
        self.duration = self._histogram(
            "gateway_request_duration_seconds",
            "Time from the request's head to the last byte of the response.",
            _SECONDS,
            ["face"],
        )
        self.first_byte = self._histogram(
            "gateway_upstream_first_byte_seconds",
            "Time from sending a request to an upstream to the head of its response.",
            _SECONDS,
            ["upstream"],
        )
        self.upstream_failures = self._counter(
            "gateway_upstream_failures",
            "Requests that an upstream did not answer, or answered with 500 to 504.",
            ["upstream"],
        )
        self.upstream_open = Gauge(
            "gateway_upstream_open",
            "1 while the circuit breaker of an upstream is open, else 0.",
            ["upstream"],
            registry=self.registry,
        )
        self.stage = self._histogram(
            "gateway_stage_seconds", "Time spent in the gateway, by stage.", _STAGE_SECONDS, ["stage"]
        )
        self.in_flight = Gauge("gateway_in_flight_requests", "Requests in progress.", registry=self.registry)
        self.backlog = Gauge(
            "gateway_journal_backlog_entries", "Journal entries not yet stored.", registry=self.registry
        )
        self.aside = Gauge(
            "gateway_journal_aside_entries",
            "Dead-lettered journal entries: not stored after five attempts.",
            registry=self.registry,
        )
        self.remembered = self._counter("gateway_remembered_records", "Records to remember, by result.", ["result"])
        self.suspicious = self._counter(
            "gateway_suspicious_records", "Records that read like instructions to a model, by kind.", ["kind"]
        )
        self._add_workers()
        self._add_turns()
        self._add_usage()
        self._add_memory()

    def _add_workers(self) -> None:
        self.workers = Gauge("gateway_workers", "Workers whose metrics are in these.", registry=self.registry)
        self.workers.set(1)
        self.silent_workers = Gauge(
            "gateway_silent_workers",
            "Workers that did not answer in time: their gauges are left out, their counters are the latest known.",
            registry=self.registry,
        )

    def _add_turns(self) -> None:
        self.recalls = self._counter("gateway_recalls", "Turns by memory status and reason.", ["status", "reason"])
        self.recalled_tokens = self._histogram("gateway_recalled_tokens", "Tokens of the injected block.", _TOKENS, [])
        self.blocks = self._counter(
            "gateway_blocks", "Turns that read memory, by the content of the injected block.", ["content"]
        )
        self.prefix_kept = self._histogram(
            "gateway_prompt_prefix_kept_ratio",
            "Share of a conversation's common prompt prefix that is preserved with memories injected.",
            _SHARES,
            [],
        )
        self.outcomes = self._counter("gateway_turns", "Turns by outcome.", ["outcome"])
        self.export_failures = Counter(  # exporters count in threads
            "gateway_otel_export_failures",
            "Batches of spans or metrics that the OpenTelemetry collector did not take.",
            ["signal"],
            registry=self.registry,
        )

    def _add_usage(self) -> None:
        self.tokens = self._counter("gateway_tokens", "Tokens reported by upstreams.", ["upstream", "kind"])
        self.used_tokens = self._counter(
            "gateway_used_tokens", "Tokens used, as reported or counted.", ["key", "model", "kind"]
        )
        self.used_money = self._counter(
            "gateway_cost_dollars", "Cost in US dollars, where prices are known.", ["key", "model"]
        )
        self.user_tokens = self._counter(
            "gateway_user_tokens",
            "Tokens used by user (a digest); the first 200 users, then `other`.",
            ["user", "kind"],
        )

    def _add_memory(self) -> None:
        self.memory_ready = Gauge(
            "gateway_memory_ready",
            "1 while the memory is ready or switched off; 0 while it is loading or a part of it cannot be opened.",
            registry=self.registry,
        )
        self.drained = self._counter("gateway_drained_records", "Records written to the store.", [])
        self.drain_failures = self._counter(
            "gateway_drain_failures", "Batches that could not be stored, by cause.", ["cause"]
        )
        self.working_sets = Gauge("gateway_working_sets", "Scopes whose memories are in RAM.", registry=self.registry)
        self.working_set_bytes = Gauge(
            "gateway_working_set_bytes", "Bytes used by working sets.", registry=self.registry
        )
        self.learned = self._counter(
            "gateway_learned_items", "Items that a model extracted from conversations, by result.", ["result"]
        )
        self.learning_failures = self._counter(
            "gateway_learning_failures", "Failed requests to the extraction model, by cause.", ["cause"]
        )
        self.learning_waiting = Gauge(
            "gateway_learning_waiting_conversations", "Conversations waiting for extraction.", registry=self.registry
        )
        self.learning_aside = Gauge(
            "gateway_learning_aside_conversations",
            "Conversations set aside until the next start after repeated failures.",
            registry=self.registry,
        )
        self.plugin_failures = self._counter("gateway_plugin_failures", "Failed hook calls.", ["plugin", "hook"])
        self.plugin_seconds = self._histogram(
            "gateway_plugin_seconds", "Time spent in plugin hooks.", _STAGE_SECONDS, ["plugin", "hook"]
        )
        self.plugin_counts = Counter(  # plugins may count in threads
            "gateway_plugin_counts", "Counts reported by plugins.", ["plugin", "kind"], registry=self.registry
        )

    @lru_cache(maxsize=512)  # noqa: B019 — one telemetry a process; labels are few and bounded
    def bound(self, metric: str, *labels: str) -> Any:
        """The child of a labelled metric, cached, since the lookup costs more than counting."""
        return getattr(self, metric).labels(*labels)

    def exposition(self) -> bytes:
        """The metrics page in the Prometheus text format."""
        return generate_latest(self.registry)

    def _add_cluster_metrics(self) -> None:
        self.log_lag = Gauge(
            "gateway_cluster_log_lag_seconds",
            "Seconds since this gateway last read the log that the gateways of a cluster share; 0 without a cluster.",
            registry=self.registry,
        )
        self.owned_buckets = Gauge(
            "gateway_cluster_owned_buckets",
            "Buckets (parts of the memory) that this gateway owns and stores; 0 without a cluster.",
            registry=self.registry,
        )
        self.refused_writes = self._counter(
            "gateway_cluster_refused_writes",
            "Writes of this gateway that were refused, since another one owns the bucket now.",
            [],
        )

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return LoopCounter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], labels: list[str]) -> Histogram:
        return LoopHistogram(name, text, labels, buckets=buckets, registry=self.registry)


class JsonFormatter(logging.Formatter):
    """Formats a log record as one JSON object on a line, with the fields of `extra` at the top level. `origin` has
    fields of every line."""

    def __init__(self, origin: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._origin = origin or {}

    def format(self, record: logging.LogRecord) -> str:
        fields = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        fields.update(self._origin)
        return _json_line(record.created, record.levelname.lower(), record.getMessage(), fields).decode()


class JsonHandler(logging.StreamHandler[TextIO]):
    """Writes log records as JSON lines, and gathers those of frequent events for some milliseconds."""

    def __init__(self, stream: TextIO, origin: Mapping[str, Any]) -> None:
        super().__init__(stream)
        self._origin = origin
        self.setFormatter(JsonFormatter(origin))
        self._lines: list[bytes] = []

    def gather(self, event: str, fields: Mapping[str, Any]) -> None:
        """Write the line of an event at level info soon: within milliseconds in a loop, and before any later line."""
        self._lines.append(
            _json_line(time.time(), "info", event, {**fields, **self._origin} if self._origin else fields)
        )
        if len(self._lines) == 1:
            try:
                asyncio.get_running_loop().call_later(_GATHERING, self.flush)
            except RuntimeError:  # no loop runs
                self.flush()

    def emit(self, record: logging.LogRecord) -> None:
        self._write_gathered()
        super().emit(record)

    def flush(self) -> None:
        with self.lock:  # type: ignore[union-attr]  # every handler has one
            self._write_gathered()
        super().flush()

    def _write_gathered(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            try:
                self.stream.write(b"\n".join([*lines, b""]).decode())
            except (OSError, ValueError):  # as for records: a closed or full stream stops no request
                return


@lru_cache(maxsize=2)
def _second(moment: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))


def _json_line(created: float, level: str, event: str, fields: Mapping[str, Any]) -> bytes:
    whole = int(created)
    at = f"{_second(whole)}.{int((created - whole) * 1000):03d}Z"
    return orjson.dumps({"at": at, "level": level, "event": event, **fields}, default=str)


def log_event(logger: logging.Logger, event: str, fields: Mapping[str, Any]) -> None:
    """Log an event at level info, as `logger.info` does with `extra`, at a tenth of its cost where the handler is that
    of `set_up_logging`."""
    if not logger.isEnabledFor(logging.INFO):
        return
    root = _ROOT
    if not root.propagate and not logger.handlers and len(root.handlers) == 1 and logger.parent is root:
        handler = root.handlers[0]
        if isinstance(handler, JsonHandler):
            handler.gather(event, fields)
            return
    logger.info(event, extra=dict(fields))


def set_up_logging(level: str, stream: TextIO = sys.stderr, origin: Mapping[str, Any] | None = None) -> None:
    """Write JSON lines of the gateway's loggers to `stream`, each with the fields of `origin`; silence those of
    libraries that would log raw bytes of requests, or each failed export."""
    _ROOT.handlers[:] = [JsonHandler(stream, origin or {})]
    _ROOT.setLevel(level.upper())
    _ROOT.propagate = False
    for name in _SILENCED:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def short_digest(value: str) -> str:
    """The form of a user id in logs: 12 hex characters of its digest."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:12]
