"""Opens tracing if the configuration asks for it: the OpenTelemetry SDK is an extra, imported only then."""

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gateway.config import OtelConfig
from gateway.errors import ConfigError
from gateway.telemetry import Telemetry

if TYPE_CHECKING:
    from gateway.tracing.otel import Tracing

__all__ = ["check_extra", "open_tracing"]

_MODULES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")


def check_extra(config: OtelConfig) -> None:
    """Raises ConfigError if traces are enabled and the packages for them are not installed."""
    if config.enabled and not all(map(_is_installed, _MODULES)):
        raise ConfigError("otel.enabled: traces need the extra `otel`: `pip install 'memory-gateway[otel]'`")


async def open_tracing(config: OtelConfig, telemetry: Telemetry) -> "Tracing | None":
    """Start to export traces and metrics; None if that is not enabled. Raises ConfigError."""
    return await asyncio.to_thread(_open, config, telemetry) if config.enabled else None


def _open(config: OtelConfig, telemetry: Telemetry) -> "Tracing":
    from gateway.tracing.otel import Tracing  # noqa: PLC0415 — without tracing the SDK is not loaded

    try:
        return Tracing(config, telemetry)
    except ValueError as error:  # of an OTEL_… variable
        raise ConfigError(f"otel: the exporter cannot be set up: {error}") from error


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # its parent package is missing
        return False
