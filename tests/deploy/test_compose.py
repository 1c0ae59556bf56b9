"""`deploy/compose.cluster.yaml` and the image: they fit together, and to the gateway."""

import re
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from gateway.cli.main import build_parser
from gateway.config import load
from tests.docs.reference.tables import ROOT

DEPLOY = ROOT / "deploy"
COMPOSE = (DEPLOY / "compose.cluster.yaml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
GATEWAYS = ("gateway-1", "gateway-2", "gateway-3")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
GIVEN = {"POSTGRES_PASSWORD": "letters1", "S3_SECRET_KEY": "a secret", "GATEWAY_KEY": "a key of clients"}


def interpolated(text: str) -> str:
    """A text with the variables of GIVEN, as Compose replaces them."""

    def value(match: re.Match[str]) -> str:
        name, operator, rest = match["name"], match["operator"], match["rest"]
        assert operator != ":?" or name in GIVEN, name
        return GIVEN.get(name, rest)

    return re.sub(r"\$\{(?P<name>\w+)(?P<operator>:[?-])?(?P<rest>[^}]*)\}", value, text)


def test_it_follows_the_specification_of_compose() -> None:
    compose = compose_spec.PyCompose.from_yaml(COMPOSE)
    assert compose.service_names() == [*GATEWAYS, "balancer", "postgres", "s3"]
    with pytest.raises(ValueError, match="picture"):
        compose_spec.PyCompose.from_yaml(COMPOSE.replace("    image: nginx", "    picture: nginx"))


@pytest.mark.parametrize("name", GATEWAYS)
def test_the_configuration_of_each_gateway_is_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SERVICES[name]["environment"].items():
        monkeypatch.setenv(variable, interpolated(value))
    config = load(DEPLOY / "cluster.yaml")
    assert config.memory.database is not None
    assert config.memory.storage.endpoint == "http://s3:8333"
    assert config.auth.keys[0].key.get_secret_value() == "a key of clients"
    assert not isinstance(config.upstreams, str)
    assert [upstream.name for upstream in config.upstreams] == ["main"]
    grace = SERVICES[name]["stop_grace_period"]
    assert int(grace.removesuffix("s")) >= config.server.shutdown_timeout + 20


def test_no_secret_has_a_default() -> None:
    for name, variables in re.findall(r"(\w*(?:PASSWORD|SECRET|KEY)\w*): (.*)$", COMPOSE, re.MULTILINE):
        assert "${" in variables or name.endswith(("ACCESS_KEY", "ACCESS_KEY_ID")), name
        assert not re.search(r"\$\{\w+:-.+\}", variables), name


def test_images_are_pinned() -> None:
    images = [service["image"] for service in SERVICES.values()]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    for image in images:
        assert re.search(r":\d+\.\d+[\w.-]*$", image), image
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert version is not None
    assert SERVICES["gateway-1"]["image"] == f"memory-gateway:{version[1]}"


def test_every_service_says_whether_it_is_healthy_and_starts_after_those_that_it_needs() -> None:
    for name, service in SERVICES.items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        for needed, condition in service.get("depends_on", {}).items():
            assert needed in SERVICES
            assert condition == {"condition": "service_healthy"}
    assert set(SERVICES["balancer"]["depends_on"]) == set(GATEWAYS)


def test_names_and_ports_agree() -> None:
    config = yaml.safe_load((DEPLOY / "cluster.yaml").read_text(encoding="utf-8"))
    port = config["server"]["port"]
    for file in ("nginx.conf", "haproxy.cfg"):
        servers = re.findall(r" (gateway-\d:\d+)", (DEPLOY / file).read_text(encoding="utf-8"))
        assert servers == [f"{name}:{port}" for name in GATEWAYS]
    assert f"http://127.0.0.1:{port}/ready" in str(SERVICES["gateway-1"]["healthcheck"])
    assert f"http://127.0.0.1:{port}/ready" in DOCKERFILE
    assert "-s3.port=8333" in SERVICES["s3"]["entrypoint"]
    mounted = {config["target"] for config in SERVICES["gateway-1"]["configs"]}
    command = yaml.safe_load(re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[0])
    assert str(build_parser().parse_args(command).config) in mounted
    for source in yaml.safe_load(COMPOSE)["configs"].values():
        assert (DEPLOY / source["file"]).is_file()


def test_the_image_gets_files_that_exist_and_are_not_ignored() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [
        line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    for name in (name for names in copied for name in names):
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored, name
    assert not Path(ROOT / ".dockerignore").exists(), "the image has its own list"
    assert re.search(r"^USER [1-9]\d*$", DOCKERFILE, re.MULTILINE)
