"""The Helm chart: its templates are rendered by Helm, the results checked with the schemas of Kubernetes, and the
configuration in them by the gateway."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from gateway.cli.main import build_parser
from gateway.config import Config, load
from tests.deploy.test_compose import DOCKERFILE
from tests.docs.markdown import ROOT, blocks, read

CHART = ROOT / "deploy" / "helm" / "memory-gateway"
CLUSTER = yaml.safe_load(read(CHART / "values-cluster.yaml"))
ALL = {
    "replicas": 1,
    "persistence": {"enabled": False},
    "ingress": {"enabled": True, "tlsSecret": "certificate", "annotations": {"example.com/team": "chat"}},
    **{name: {"enabled": True} for name in ("podDisruptionBudget", "autoscaling", "topologySpread", "serviceMonitor")},
    "imagePullSecrets": [{"name": "registry"}],
    "podAnnotations": {"example.com/team": "chat"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "chat", "operator": "Exists"}],
}
SETS: dict[str, dict[str, Any]] = {"values.yaml": {}, "values-cluster.yaml": CLUSTER, "everything": ALL}
KUBERNETES = ("1.30.0", "1.34.0")
NO_SCHEMA = {"ServiceMonitor"}  # of an operator, not of Kubernetes


def render(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rendered objects by their kind."""
    with helm_python.Chart.load(CHART) as chart:
        rendered = chart.render(values, name="memory", namespace="chat")
    objects = [part for text in rendered.values() for part in yaml.safe_load_all(text) if part]
    assert len({part["kind"] for part in objects}) == len(objects)
    return {part["kind"]: part for part in objects}


def pod_of(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


@pytest.fixture(params=SETS)
def values(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SETS[str(request.param)]


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, dict[str, Any]]], Config]:
    """Load the configuration in a ConfigMap, with a value for each variable."""

    def configure(objects: dict[str, dict[str, Any]]) -> Config:
        text = objects["ConfigMap"]["data"]["config.yaml"]
        for name in re.findall(r"\$\{(\w+)\}", text):
            monkeypatch.setenv(
                name, "postgresql://gateway@db/gateway" if name == "DATABASE_URL" else f"value of {name}"
            )
        (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
        return load(tmp_path / "config.yaml")

    return configure


def test_helm_finds_nothing_wrong(values: dict[str, Any]) -> None:
    findings = helm_python.lint(CHART, values)
    assert findings["errors"] == []
    assert [entry["error"] for entry in findings["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_objects_follow_the_schemas_of_kubernetes(values: dict[str, Any], version: str) -> None:
    objects = render(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its reading of schemas
        for kind in objects.keys() - NO_SCHEMA:
            kubernetes_validate.validate(objects[kind], version, strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**objects["Service"], "spec": {"prots": []}}, version, strict=True)


def test_which_objects_there_are() -> None:
    always = {"ConfigMap", "Deployment", "Service"}
    assert render({}).keys() == always | {"PersistentVolumeClaim"}
    assert render(CLUSTER).keys() == always | {"Ingress", "PodDisruptionBudget"}
    optional = {"Ingress", "PodDisruptionBudget", "HorizontalPodAutoscaler", "ServiceMonitor"}
    assert render(ALL).keys() == always | optional


def test_the_configuration_is_valid(
    values: dict[str, Any], configured: Callable[[dict[str, dict[str, Any]]], Config]
) -> None:
    objects = render(values)
    config, container = configured(objects), pod_of(objects)["containers"][0]
    assert config.auth.keys
    assert container["ports"][0]["containerPort"] == config.server.port
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    command = yaml.safe_load(re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[0])
    assert str(Path(build_parser().parse_args(command).config).parent) == mounts["config"]
    assert f"GATEWAY_DATA={mounts['data']}" in DOCKERFILE


def test_a_cluster_has_its_memory_in_postgresql_and_s3_and_no_volume(
    configured: Callable[[dict[str, dict[str, Any]]], Config],
) -> None:
    objects = render(CLUSTER)
    config = configured(objects)
    assert config.memory.uri == "s3://bucket/prefix"
    assert config.memory.database is not None
    assert objects["Deployment"]["spec"]["replicas"] == 3
    volumes = {volume["name"]: volume for volume in pod_of(objects)["volumes"]}
    assert volumes["data"]["emptyDir"] == {}
    assert len(pod_of(objects)["topologySpreadConstraints"]) == 2


def test_one_gateway_with_a_volume_is_replaced_and_never_doubled() -> None:
    objects = render({})
    assert objects["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    claim = {volume["name"]: volume for volume in pod_of(objects)["volumes"]}["data"]["persistentVolumeClaim"]
    assert claim["claimName"] == objects["PersistentVolumeClaim"]["metadata"]["name"]
    for changes in ({"replicas": 2}, {"autoscaling": {"enabled": True}}):
        with pytest.raises(helm_python.HelmError, match="a data folder has one gateway"):
            render(changes)


def test_a_gateway_has_time_to_end_its_answers(
    configured: Callable[[dict[str, dict[str, Any]]], Config], values: dict[str, Any]
) -> None:
    objects = render(values)
    pod = pod_of(objects)
    wait = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= wait + configured(objects).server.shutdown_timeout + 20
    with pytest.raises(helm_python.HelmError, match="at least 75"):
        render({**values, "config": {"server": {"shutdown_timeout": 50}}})


def test_probes_ask_the_routes_for_them(values: dict[str, Any]) -> None:
    container = pod_of(render(values))["containers"][0]
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"startupProbe": "/health", "readinessProbe": "/ready", "livenessProbe": "/health"}


def test_gateways_are_replaced_when_their_configuration_changes() -> None:
    def checksum(values: dict[str, Any]) -> str:
        template = render(values)["Deployment"]["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    assert checksum({}) == checksum({"replicas": 1})
    assert checksum({}) != checksum({"config": {"log": {"level": "debug"}}})


def test_the_annotations_of_ingress_nginx_are_those_of_the_guide() -> None:
    guide = next(text for text in blocks(ROOT / "docs" / "guides" / "scaling.md", "text") if "annotations:" in text)
    objects = render(CLUSTER)
    assert objects["Ingress"]["metadata"]["annotations"] == yaml.safe_load(guide)["metadata"]["annotations"]


def test_its_version_is_that_of_the_gateway() -> None:
    chart = yaml.safe_load(read(CHART / "Chart.yaml"))
    version = re.search(r'^version = "(.+)"', read(ROOT / "pyproject.toml"), re.MULTILINE)
    assert version is not None
    assert chart["appVersion"] == version[1]


def test_the_pods_are_those_that_the_service_selects(values: dict[str, Any]) -> None:
    objects = render(values)
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Service"]["spec"]["selector"].items() <= labels.items()
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    if "ServiceMonitor" in objects:
        monitor = objects["ServiceMonitor"]["spec"]
        assert monitor["selector"]["matchLabels"].items() <= objects["Service"]["metadata"]["labels"].items()
        assert monitor["endpoints"][0]["port"] == objects["Service"]["spec"]["ports"][0]["name"]
