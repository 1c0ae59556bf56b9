"""The dashboard and the alert rules in `deploy/grafana` name metrics and labels that the program has."""

import itertools
import json
import re
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from gateway.memory.recalled import MemoryStatus
from gateway.telemetry import Telemetry
from tests.docs.promql import read_expression
from tests.docs.reference.tables import ROOT
from tests.fakes.running import Running

FOLDER = ROOT / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel, target) for panel in PANELS for target in panel["targets"]]
SCRAPED = frozenset(("job", "instance"))  # labels that Prometheus adds
NO_METRICS = {"up": SCRAPED}  # of Prometheus, too


def known_metrics() -> dict[str, frozenset[str]]:
    """The labels of each name on the metrics page."""
    names: dict[str, frozenset[str]] = dict(NO_METRICS)
    for metric in vars(Telemetry()).values():
        if isinstance(metric, MetricWrapperBase):
            labels = frozenset(metric._labelnames) | SCRAPED
            if metric._type == "histogram":
                names |= {f"{metric._name}_bucket": labels | {"le"}}
                names |= {f"{metric._name}_{part}": labels for part in ("sum", "count")}
            else:
                names[metric._name + ("_total" if metric._type == "counter" else "")] = labels
    return names


KNOWN = known_metrics()


EXPRESSIONS = [*(target["expr"] for _, target in TARGETS), *(rule["expr"] for rule in RULES)]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_expression_names_metrics_and_labels_that_exist(expression: str) -> None:
    assert read_expression(expression, KNOWN).metrics


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("sum(rate(gateway_nothing_total[5m]))", "no metric or function gateway_nothing_total"),
        ("sum(rate(gateway_requests[5m]))", "no metric or function gateway_requests"),
        ('sum(rate(gateway_requests_total{colour="red"}[5m]))', "no label colour"),
        ("sum by (upstream) (rate(gateway_requests_total[5m]))", "no metric has the label upstream"),
        ("sum(rate(gateway_requests_total[5m])", "is not closed"),
        ("sum(rate(gateway_requests_total[5x]))", "cannot be read"),
        ("gateway_requests_total{face=api}", "is no matcher"),
        ("deriv(gateway_requests_total[5m])", "no metric or function deriv"),
    ],
)
def test_an_expression_that_is_wrong_is_noticed(expression: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_expression(expression, KNOWN)


async def test_the_metrics_are_those_of_the_page_of_a_running_gateway(gateway: Running) -> None:
    page = (await gateway.get("/metrics")).body.decode()
    families = {family.name for family in text_string_to_metric_families(page)}
    used = {name for expression in EXPRESSIONS for name in read_expression(expression, KNOWN).metrics}
    for name in used - NO_METRICS.keys():
        assert re.sub(r"_(?:total|bucket|sum|count)$", "", name) in families, name
    assert "gateway_memory_ready 1.0" in page


def test_values_of_labels_exist() -> None:
    statuses = {str(status) for status in MemoryStatus}
    for expression in EXPRESSIONS:
        for metric, matchers in re.findall(r"(gateway_\w+)\{([^}]*)\}", expression):
            for value in re.findall(r'status(?:=~|!=|=)"([^"]*)"', matchers):
                assert value == "5.." if metric == "gateway_requests_total" else set(value.split("|")) <= statuses


@pytest.mark.parametrize(("panel", "target"), TARGETS, ids=lambda value: value.get("title", value.get("refId")))
def test_legends_show_labels_that_the_result_has(panel: dict[str, Any], target: dict[str, Any]) -> None:
    labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    assert labels <= read_expression(target["expr"], KNOWN).labels


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_it_means_with_labels_that_it_has(rule: dict[str, Any]) -> None:
    assert rule.keys() - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert re.fullmatch(r"MemoryGateway[A-Z]\w+", rule["alert"])
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    texts = rule["annotations"]["summary"] + rule["annotations"]["description"]
    assert texts.count("{{") == texts.count("}}")
    used = set(re.findall(r"\$labels\.(\w+)", texts))
    assert used <= read_expression(rule["expr"], KNOWN).labels


def test_alerts_have_names_of_their_own_and_cover_what_operators_must_know() -> None:
    names = [rule["alert"].removeprefix("MemoryGateway") for rule in RULES]
    assert len(set(names)) == len(names)
    needed = {"Down", "NotReady", "UpstreamOpen", "RecallDegraded", "JournalBacklog", "JournalAside", "DrainFails"}
    assert needed <= set(names)


def test_panels_have_a_place_and_a_number_of_their_own() -> None:
    assert DASHBOARD["schemaVersion"] >= 41
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for first, second in itertools.combinations(places, 2):
        assert any(
            low[axis] + low[size] <= high[axis]
            for low, high in ((first, second), (second, first))
            for axis, size in (("x", "w"), ("y", "h"))
        ), (first, second)
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert all('job="$job"' in target["expr"] for target in panel["targets"])


def test_the_variables_that_are_used_are_defined() -> None:
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(DASHBOARD)))
    assert used == variables
