import io
import json
import logging

from gateway.telemetry import JsonFormatter, Telemetry, set_up_logging, short_digest


def test_a_log_line_is_one_json_object() -> None:
    stream = io.StringIO()
    set_up_logging("info", stream)
    logging.getLogger("gateway.x").info("turn", extra={"turn": "a\nb", "ms": 1.5})
    (line,) = stream.getvalue().splitlines()
    parsed = json.loads(line)
    assert (parsed["event"], parsed["turn"], parsed["ms"], parsed["level"]) == ("turn", "a\nb", 1.5, "info")
    logging.getLogger("gateway").propagate = True
    logging.getLogger("gateway").handlers.clear()


def test_a_traceback_stays_in_its_line() -> None:
    try:
        raise ValueError("x")
    except ValueError:
        import sys

        record = logging.LogRecord("n", logging.ERROR, "p", 1, "failed", None, sys.exc_info())
    assert "ValueError" in json.loads(JsonFormatter().format(record))["traceback"]


def test_two_gateways_have_metrics_of_their_own() -> None:
    one, other = Telemetry(), Telemetry()
    one.requests.labels("openai", 200).inc()
    assert b'gateway_requests_total{face="openai",status="200"} 1.0' in one.exposition()
    assert b'status="200"' not in other.exposition()


def test_user_ids_are_digests() -> None:
    assert short_digest("ada") != "ada"
    assert len(short_digest("ada")) == 12
