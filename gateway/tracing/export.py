"""Exporters that count failures and log them at most once a minute: a collector that is down is no fault of a chat.

They run in threads of the SDK. What a collector does not take in time is dropped; queues are bounded.
"""

import logging
import threading
import time
from collections.abc import Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from gateway.telemetry import Telemetry

__all__ = ["FailureLog", "LoggedMetricExporter", "LoggedSpanExporter"]

_log = logging.getLogger("gateway.tracing")
_LOG_PAUSE = 60.0  # seconds


class FailureLog:
    """Counts failed exports in a metric, and writes a log line for them at most once a minute."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._lock = threading.Lock()
        self._failures = 0
        self._next_line = 0.0

    def note(self, signal: str) -> None:
        """Note that a batch of `spans` or `metrics` was not exported."""
        self._telemetry.bound("export_failures", signal).inc()
        with self._lock:
            self._failures += 1
            now = time.monotonic()
            if now < self._next_line:
                return
            failures, self._failures = self._failures, 0
            self._next_line = now + _LOG_PAUSE
        _log.warning("otel_export_failed", extra={"signal": signal, "failures": failures})


class LoggedSpanExporter(OTLPSpanExporter):
    """Exports spans by OTLP over HTTP."""

    def __init__(self, failures: FailureLog, endpoint: str | None, headers: Mapping[str, str]) -> None:
        super().__init__(endpoint=endpoint, headers=headers)
        self._failures = failures

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is not SpanExportResult.SUCCESS:
            self._failures.note("spans")
        return result


class LoggedMetricExporter(OTLPMetricExporter):
    """Exports metrics by OTLP over HTTP."""

    def __init__(self, failures: FailureLog, endpoint: str | None, headers: Mapping[str, str]) -> None:
        super().__init__(endpoint=endpoint, headers=dict(headers))
        self._failures = failures

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: object
    ) -> MetricExportResult:
        result = super().export(metrics_data, timeout_millis, **kwargs)
        if result is not MetricExportResult.SUCCESS:
            self._failures.note("metrics")
        return result
