import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.telemetry import JsonFormatter, Telemetry, log_event, set_up_logging, short_digest
from tests.fakes.running import eventually


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


@contextmanager
def log_lines() -> Iterator[io.StringIO]:
    """A stream with the log of the gateway. No fixture: pytest adds its own handlers between set-up and test."""
    stream = io.StringIO()
    set_up_logging("info", stream)
    try:
        yield stream
    finally:
        logging.getLogger("gateway").propagate = True
        logging.getLogger("gateway").handlers.clear()


async def test_lines_of_events_are_gathered_and_stay_in_order() -> None:
    log = logging.getLogger("gateway.turn")
    with log_lines() as stream:
        log_event(log, "turn", {"turn": "a"})
        log_event(log, "turn", {"turn": "b"})
        assert stream.getvalue() == ""
        log.warning("later", extra={"turn": "c"})
        log_event(log, "turn", {"turn": "d"})

        async def is_written() -> bool:
            return '"d"' in stream.getvalue()

        await eventually(is_written)
        lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["turn"] for line in lines] == ["a", "b", "c", "d"]
    assert [line["event"] for line in lines] == ["turn", "turn", "later", "turn"]
    assert list(lines[0]) == list(lines[2]) == ["at", "level", "event", "turn"]


def test_a_line_of_an_event_is_written_at_once_without_a_loop() -> None:
    with log_lines() as stream:
        log_event(logging.getLogger("gateway.turn"), "turn", {"turn": "a"})
        assert json.loads(stream.getvalue())["turn"] == "a"


def test_an_event_below_the_level_is_not_logged() -> None:
    with log_lines() as stream:
        logging.getLogger("gateway").setLevel(logging.WARNING)
        log_event(logging.getLogger("gateway.turn"), "turn", {"turn": "a"})
        assert stream.getvalue() == ""


def test_an_event_reaches_other_handlers_as_a_record(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="gateway")
    log_event(logging.getLogger("gateway.turn"), "turn", {"turn": "a"})
    (record,) = caplog.records
    assert (record.getMessage(), vars(record)["turn"]) == ("turn", "a")


def test_gathered_numbers_are_on_the_page() -> None:
    telemetry, page = Telemetry(), list[str]()
    for _ in range(2):  # reading the page does not count twice
        telemetry.bound("tokens", "main", "prompt").inc(3)
        telemetry.bound("duration", "openai").observe(0.004)
        telemetry.bound("duration", "openai").observe(0.005)
        telemetry.bound("duration", "openai").observe(1000)
        page = telemetry.exposition().decode().splitlines()
    assert 'gateway_tokens_total{kind="prompt",upstream="main"} 6.0' in page
    assert 'gateway_request_duration_seconds_bucket{face="openai",le="0.0025"} 0.0' in page
    assert 'gateway_request_duration_seconds_bucket{face="openai",le="0.005"} 4.0' in page
    assert 'gateway_request_duration_seconds_bucket{face="openai",le="+Inf"} 6.0' in page
    assert 'gateway_request_duration_seconds_sum{face="openai"} 2000.018' in page


def test_two_gateways_have_metrics_of_their_own() -> None:
    one, other = Telemetry(), Telemetry()
    one.requests.labels("openai", 200).inc()
    assert b'gateway_requests_total{face="openai",status="200"} 1.0' in one.exposition()
    assert b'status="200"' not in other.exposition()


def test_user_ids_are_digests() -> None:
    assert short_digest("ada") != "ada"
    assert len(short_digest("ada")) == 12
