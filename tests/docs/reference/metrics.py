"""Reference of the metrics, from the registry."""

from prometheus_client.metrics import MetricWrapperBase

from gateway.telemetry import Telemetry
from tests.docs.reference.tables import code, table

__all__ = ["describe_metrics"]


def describe_metrics() -> str:
    """A table of all metrics."""
    rows: list[tuple[str, str, str, str]] = []
    for metric in vars(Telemetry()).values():
        if isinstance(metric, MetricWrapperBase):
            name = metric._name + ("_total" if metric._type == "counter" else "")
            labels = ", ".join(map(code, metric._labelnames))
            rows.append((code(name), str(metric._type), labels, metric._documentation))
    return table(("metric", "type", "labels", "meaning"), sorted(rows))
