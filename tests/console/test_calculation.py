"""The calculations of the console: modules that touch no page, run by the browser and compared with plain Python."""

import json
import math
import random
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.console.console import open_console
from tests.console.gateway import GatewayProcess

Call = Callable[..., Any]

METRICS = r"""# HELP gateway_requests_total Requests.
# TYPE gateway_requests_total counter
gateway_requests_total{face="openai",status="200"} 3.0
gateway_requests_total{face="ops",status="200"} 5.0
gateway_tokens_total{upstream="a\"b\\c\nd} 7",kind="prompt"} 2
gateway_plain 1.5e+01
gateway_broken{ what
gateway_t_bucket{le="0.1",stage="recall"} 2.0
gateway_t_bucket{le="0.5",stage="recall"} 4.0
gateway_t_bucket{le="+Inf",stage="recall"} 5.0
gateway_t_bucket{le="0.1",stage="other"} 0.0
gateway_t_bucket{le="0.5",stage="other"} 4.0
gateway_t_bucket{le="+Inf",stage="other"} 4.0
"""


@pytest.fixture(scope="module")
def call(browser: Browser, gateway: GatewayProcess) -> Iterator[Call]:
    """Evaluates an expression in which `m` is a module, and `a` its argument."""
    with open_console(browser, gateway.url) as console:
        console.open("/nothing")

        def evaluate(module: str, expression: str, argument: Any = None) -> Any:
            script = f"async (a) => {{ const m = await import('/ui/lib/{module}.js'); return {expression}; }}"
            return console.page.evaluate(script, argument)

        yield evaluate


def test_metrics_are_read(call: Call) -> None:
    metrics = call("metrics", "m.parseMetrics(a)", METRICS)
    assert metrics["gateway_tokens_total"][0]["labels"] == {"upstream": 'a"b\\c\nd} 7', "kind": "prompt"}
    assert metrics["gateway_plain"][0]["value"] == 15
    assert "gateway_broken" not in metrics
    assert call("metrics", "m.sumOf(m.parseMetrics(a), 'gateway_requests_total')", METRICS) == 8
    assert call("metrics", "m.sumOf(m.parseMetrics(a), 'gateway_requests_total', {face: 'ops'})", METRICS) == 5
    assert call("metrics", "m.sumOf(m.parseMetrics(a), 'gateway_unknown')", METRICS) is None


@pytest.mark.parametrize(
    ("stage", "share", "expected"),
    [("recall", 0.2, 0.05), ("recall", 0.5, 0.2), ("recall", 0.8, 0.5), ("recall", 0.99, 0.5), ("other", 0.5, 0.3)],
)
def test_quantiles_of_histograms_are_those_of_prometheus(call: Call, stage: str, share: float, expected: float) -> None:
    expression = "m.quantileOf(m.readHistogram(m.parseMetrics(a[0]), 'gateway_t', {stage: a[1]}), a[2])"
    assert math.isclose(call("metrics", expression, [METRICS, stage, share]), expected)


def test_an_empty_histogram_has_no_quantiles(call: Call) -> None:
    assert call("metrics", "m.quantileOf(m.readHistogram({}, 'gateway_t'), 0.5)") is None


def test_exact_quantiles_are_values_that_enough_others_do_not_exceed(call: Call) -> None:
    numbers = [random.Random(7).lognormvariate(2, 1) for _ in range(101)]
    for share in (0, 0.5, 0.95, 0.99, 1):
        value = call("series", "m.exactQuantile(a[0], a[1])", [numbers, share])
        assert value in numbers
        assert sum(number <= value for number in numbers) >= share * len(numbers)
        assert sum(number < value for number in numbers) <= share * len(numbers)


def test_series_lose_no_turn(call: Call) -> None:
    generator = random.Random(3)
    statuses = ("hit", "miss", "off")
    turns = [
        {
            "time": generator.uniform(10_000, 13_600),
            "memory": generator.choice(statuses),
            "overhead_ms": 1.0,
            "cost": 0.5,
            "model": f"m{number % 12}",
        }
        for number in range(400)
    ]
    frame = {"from": 10_000, "to": 13_600}
    series = call("series", "m.turnSeries(a[0], a[1], 0)", [turns, frame])
    step = series["step"]
    seconds = [min(step, 13_600 - time) for time in series["times"]]
    counts = [rate * length for rate, length in zip(series["requests"], seconds, strict=True)]
    assert math.isclose(sum(counts), 400)
    for index, count in enumerate(counts):
        shares = [series["shares"][status][index] for status in statuses]
        assert math.isclose(sum(shares), 1) if round(count) else shares == [None] * 3
    cost = call("series", "m.costSeries(m.costsOfTurns(a[0]), a[1], 1, 0)", [turns, frame])
    assert math.isclose(sum(model["total"] for model in cost["models"]), 200)
    assert len(cost["models"]) == 7
    stacked = call("series", "m.stack(a)", [model["values"] for model in cost["models"]])
    assert math.isclose(sum(stacked[-1]), 200)


def test_the_time_before_the_first_turn_is_unknown_and_not_zero(call: Call) -> None:
    turns = [{"time": 11_000, "memory": "hit", "overhead_ms": None}]
    series = call("series", "m.turnSeries(a, {from: 10000, to: 13600}, 11000)", turns)
    assert series["requests"][0] is None
    assert series["requests"][-1] == 0


@pytest.mark.parametrize(
    ("start", "end"), [("", ""), ("x", "y"), ("5", "1"), ("1", "2"), ("1", "1e99"), ("-9", "800"), ("99999", "999999")]
)
def test_what_is_no_window_counts_as_none(call: Call, start: str, end: str) -> None:
    window = call("series", "m.readWindow('1h', a[0], a[1], 20000)", [start, end])
    assert window == {"from": 16_400, "to": 20_000, "isZoomed": False}


def test_a_window_never_ends_in_the_future(call: Call) -> None:
    for change in ({"factor": 2}, {"factor": 0.5}, {"shift": 1}, {"shift": -1}):
        window = call("series", "m.moveWindow({from: 9000, to: 10000}, a, 10000)", change)
        assert window["to"] <= 10_000
        assert window["to"] - window["from"] == round(1000 * change.get("factor", 1))


def test_a_command_quotes_what_the_shell_would_read(call: Call) -> None:
    argument = {
        "origin": "http://localhost:1",
        "key": "KEY",
        "headers": {"x-memory-user": "it's $HOME `id` 小明"},
        "body": {"model": "m", "messages": [{"role": "user", "content": "don't\n$(rm)"}]},
    }
    words = shlex.split(call("chat", "m.curlCommand(a)", argument))
    assert words[:2] == ["curl", "http://localhost:1/v1/chat/completions"]
    assert "x-memory-user: it's $HOME `id` 小明" in words
    assert "authorization: Bearer KEY" in words
    assert json.loads(words[-1]) == argument["body"]


BODIES = [
    {
        "model": "m",
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "A"},
            {"role": "assistant", "content": "B"},
            {"role": "user", "content": [{"type": "text", "text": "C"}]},
        ],
    },
    {
        "model": "m",
        "system": "S",
        "messages": [
            {"role": "user", "content": "A"},
            {"role": "assistant", "content": [{"type": "text", "text": "B"}]},
            {"role": "user", "content": "C"},
        ],
    },
    {
        "model": "m",
        "instructions": "S",
        "input": [
            {"role": "user", "content": "A"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "B"}]},
            {"role": "user", "content": [{"type": "input_text", "text": "C"}]},
        ],
    },
]


@pytest.mark.parametrize("body", BODIES, ids=["chat", "messages", "responses"])
def test_a_conversation_is_read_from_each_format(call: Call, body: dict[str, Any]) -> None:
    assert call("chat", "m.readConversation(a)", body) == {
        "model": "m",
        "system": "S",
        "messages": [{"role": "user", "text": "A"}, {"role": "assistant", "text": "B"}],
        "draft": "C",
        "isWhole": True,
    }


@pytest.mark.parametrize("body", [None, {}, [], "x", {"messages": 5}, {"messages": [{}]}, {"input": None}])
def test_what_is_no_conversation_is_read_as_an_empty_one(call: Call, body: Any) -> None:
    conversation = call("chat", "m.readConversation(a)", body)
    assert (conversation["messages"], conversation["draft"]) == ([], "")


def test_events_of_a_stream_are_read(call: Call) -> None:
    events = [
        '{"choices":[{"delta":{"content":"a"}}]}',
        "[DONE]",
        "{",
        "null",
        '{"choices":[]}',
        '{"error":{"message":"m"}}',
    ]
    text, *nothing, error = call("chat", "a.map(m.readChunk)", events)
    assert text == {"text": "a", "reasoning": "", "error": None}
    assert nothing == [None] * 4
    assert error["error"] == {"error": {"message": "m"}}


@pytest.mark.parametrize(
    ("budget", "selectivity", "names"),
    [
        ("", "", []),
        ("0", "0", []),
        ("100000", "1.0", []),
        ("1.5", "0.5", ["budget"]),
        ("-1", "2", ["budget", "selectivity"]),
        ("1e3", "abc", ["budget", "selectivity"]),
    ],
)
def test_settings_that_the_gateway_would_refuse_are_named(
    call: Call, budget: str, selectivity: str, names: list[str]
) -> None:
    assert call("chat", "m.findInvalid(a)", {"budget": budget, "selectivity": selectivity}) == names
