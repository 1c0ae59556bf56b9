"""Traces and metrics by the OpenTelemetry SDK, with the names of its GenAI conventions.

The only importer is `opening.py`, since the SDK is an extra. Providers belong to one gateway: the global ones of the
process stay as they are.
"""

import asyncio
import contextlib
import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from gateway import __version__
from gateway.config import OtelConfig
from gateway.telemetry import Telemetry
from gateway.tracing.export import FailureLog, LoggedMetricExporter, LoggedSpanExporter

__all__ = ["Trace", "Tracing"]

_log = logging.getLogger("gateway.tracing")
_NAME = "memory-gateway"
_STOP_TIMEOUT = 3.0  # seconds that the last batches may take at the end of the process
_MAX_CONTEXT = 512  # characters of `traceparent` and `tracestate`; longer ones are dropped, as the specification allows
_MEMBER = re.compile(
    r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
"""A member of `tracestate`. The SDK would log one that is malformed, and with it what a client sent."""
_DURATIONS = tuple(0.01 * 2**power for power in range(14))
_FIRST_CHUNKS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TOKENS = tuple(4**power for power in range(14))

_Attributes = Mapping[str, AttributeValue]


@dataclass(frozen=True, slots=True)
class _Child:
    """A step of a turn that has ended, on the clock of `time.perf_counter`."""

    name: str
    began: float
    ended: float
    attributes: _Attributes
    error: str


class Trace:
    """The spans of one turn: the chat, and its steps as children, which are made when the turn ends.

    `headers` name the chat's span to an upstream (W3C trace context). `sent_at` and `first_chunk_at` are on the clock
    of `time.perf_counter`, None if that was not reached.
    """

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self.headers: dict[str, str] = {}
        self.sent_at: float | None = None
        self.first_chunk_at: float | None = None
        self._tracer = tracer
        self._span = span
        self._context = set_span_in_context(span)
        self._zero = time.time_ns() - int(time.perf_counter() * 1e9)
        self._children: list[_Child] = []
        _PROPAGATOR.inject(self.headers, self._context)

    @property
    def is_recorded(self) -> bool:
        """True if the trace is sampled."""
        return self._span.is_recording()

    def note_sent(self) -> None:
        """Note that the request is being sent to an upstream; only the first time counts."""
        if self.sent_at is None:
            self.sent_at = time.perf_counter()

    def feed(self, chunk: bytes) -> None:
        """Note the first bytes of a streamed answer."""
        if self.first_chunk_at is None and chunk:
            self.first_chunk_at = time.perf_counter()

    def end(self) -> None:
        """The bytes of a streamed answer have ended."""

    def add_event(self, name: str, attributes: _Attributes) -> None:
        """Add an event of now to the chat's span."""
        self._span.add_event(name, attributes)

    def add_child(self, name: str, began: float, ended: float, attributes: _Attributes, error: str = "") -> None:
        """Add a step of the turn. `error` is its `error.type`."""
        if self.is_recorded:
            self._children.append(_Child(name, began, ended, attributes, error))

    def add_upsert(self, began: float, count: int, error: str = "") -> None:
        """Add the step that stored `count` records, and ends now."""
        attributes: _Attributes = {"gen_ai.operation.name": "upsert_memory", "gen_ai.memory.record.count": count}
        self.add_child("upsert_memory", began, time.perf_counter(), attributes, error)

    def finish(
        self,
        name: str,
        ended: float,
        attributes: _Attributes,
        *,
        error: str = "",
        more: Mapping[str, _Attributes] | None = None,
    ) -> None:
        """End the chat's span, and make those of its steps. `more`: attributes to add, by the name of a step."""
        if not self.is_recorded:
            return
        for child in self._children:
            span = self._tracer.start_span(
                child.name,
                self._context,
                kind=SpanKind.INTERNAL,
                attributes={**child.attributes, **(more or {}).get(child.name, {})},
                start_time=self._nanoseconds(child.began),
            )
            _set_error(span, child.error)
            span.end(self._nanoseconds(child.ended))
        self._span.update_name(name)
        self._span.set_attributes(attributes)
        _set_error(self._span, error)
        self._span.end(self._nanoseconds(ended))

    def _nanoseconds(self, moment: float) -> int:
        return self._zero + int(moment * 1e9)


class Tracing:
    """Makes the traces of turns and records their metrics; both are exported in the background.

    The constructor reads the environment and may take long: run it in a thread. Raises ValueError for a variable that
    the SDK refuses.
    """

    def __init__(self, config: OtelConfig, telemetry: Telemetry) -> None:
        failures = FailureLog(telemetry)
        headers = {name: value.get_secret_value() for name, value in config.headers.items()}
        resource = _resource(config.service_name)
        self._spans = LoggedSpanExporter(failures, _address(config, "traces"), headers)
        self._tracers = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(config.sample_ratio)), resource=resource, shutdown_on_exit=False
        )
        self._tracers.add_span_processor(BatchSpanProcessor(self._spans))
        self._tracer = self._tracers.get_tracer(_NAME, __version__)
        self._metrics = LoggedMetricExporter(failures, _address(config, "metrics"), headers) if config.metrics else None
        readers = [] if self._metrics is None else [PeriodicExportingMetricReader(self._metrics)]
        self._meters = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        meter = self._meters.get_meter(_NAME, __version__)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_DURATIONS,
        )
        self._first_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            "s",
            "Time to receive the first chunk of a stream.",
            explicit_bucket_boundaries_advisory=_FIRST_CHUNKS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )

    def begin(self, name: str, started: float, client_headers: Mapping[str, str]) -> Trace:
        """Begin the trace of a turn that `started` on the clock of `time.perf_counter`; its parent is the span that
        the client's headers name, if any."""
        carrier = {name: client_headers.get(name, "") for name in ("traceparent", "tracestate")}
        carrier = {name: value for name, value in carrier.items() if len(value) <= _MAX_CONTEXT}
        if not _is_state(carrier.get("tracestate", "")):
            carrier.pop("tracestate", None)
        began = time.time_ns() - int((time.perf_counter() - started) * 1e9)
        parent = _PROPAGATOR.extract(carrier)
        return Trace(self._tracer, self._tracer.start_span(name, parent, kind=SpanKind.CLIENT, start_time=began))

    def record(
        self, attributes: _Attributes, duration: float, first_chunk: float | None, tokens: Mapping[str, int | None]
    ) -> None:
        """Record the metrics of a request to a model. `tokens` by `gen_ai.token.type`; None if unknown."""
        if self._metrics is None:
            return
        self._duration.record(duration, attributes)
        if first_chunk is not None:
            self._first_chunk.record(first_chunk, attributes)
        for kind, count in tokens.items():
            if count is not None:
                self._tokens.record(count, {**attributes, "gen_ai.token.type": kind})

    async def stop(self) -> None:
        """Export the last batches; what takes too long is dropped."""
        loop, is_done = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            try:
                self._tracers.shutdown()
                self._meters.shutdown()
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is closed already
                    loop.call_soon_threadsafe(is_done.set)

        threading.Thread(target=flush, name="otel-stop", daemon=True).start()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await is_done.wait()
        except TimeoutError:
            _log.warning("otel_stop_timed_out")
            self._spans.shutdown()  # type: ignore[no-untyped-call]  # it has no annotation; ends the pause of a retry
            if self._metrics is not None:
                self._metrics.shutdown()


_PROPAGATOR = TraceContextTextMapPropagator()


def _is_state(text: str) -> bool:
    """True for a well-formed `tracestate`."""
    return all(_MEMBER.fullmatch(member) for member in (part.strip(" \t") for part in text.split(",")) if member)


def _set_error(span: Span, error: str) -> None:
    if error:
        span.set_attribute("error.type", error)
        span.set_status(StatusCode.ERROR)


def _address(config: OtelConfig, signal: str) -> str | None:
    """The address for a signal; None: by the variables of OpenTelemetry."""
    return None if config.endpoint is None else f"{config.endpoint.rstrip('/')}/v1/{signal}"


def _resource(service_name: str | None) -> Resource:
    resource = Resource.create(
        {"service.version": __version__, **({"service.name": service_name} if service_name else {})}
    )
    if str(resource.attributes["service.name"]).startswith("unknown_service"):  # no variable names it either
        resource = resource.merge(Resource({"service.name": _NAME}))
    return resource
