"""The reference pages are compared with the code: what can be set, sent or counted is described, what is promised has
its tests."""

import inspect
import re
from pathlib import Path

import pytest

from gateway import errors
from gateway.hooks import HOOKS, Plugin
from gateway.telemetry import Telemetry
from tests.docs.reference import command_line, configuration, guarantees, headers
from tests.docs.reference import errors as error_codes
from tests.docs.reference.pages import PAGES, read, render
from tests.docs.reference.tables import ROOT
from tests.fakes.running import Running


@pytest.mark.parametrize("page", PAGES)
def test_a_generated_page_is_up_to_date(page: str) -> None:
    assert render(page) == read(page), "write it again with `python -m tests.docs.reference`"


@pytest.mark.parametrize("key", configuration.keys())
def test_every_key_is_described_and_in_the_shipped_file(key: str) -> None:
    assert f"| `{key}` |" in read("configuration")
    last = key.rpartition(".")[2]
    assert re.search(rf"\b{last}:", (ROOT / "config.yaml").read_text(encoding="utf-8")), key


def test_every_command_is_described() -> None:
    names = {name for name, _, _ in command_line.commands()}
    assert names >= {"serve", "check", "usage", "eval", "memory explain", "memory forget"}
    assert all(f"## `gateway {name}`" in read("cli") for name in names)
    assert str(Path.home()) not in read("cli")


def test_every_metric_is_described() -> None:
    for family in Telemetry().registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        assert f"| `{name}` |" in read("metrics")


def test_every_hook_is_described_with_its_arguments() -> None:
    for hook in HOOKS:
        arguments = [name for name in inspect.signature(getattr(Plugin, hook)).parameters if name != "self"]
        assert f"| `{hook}({', '.join(arguments)})` |" in read("hooks")


def test_every_error_code_is_described() -> None:
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.GatewayError) and kind.code:
            assert f"| {kind.status} | `{kind.code}` |" in read("errors") or f"`{kind.code}`" in read("errors")
    for folder in ("gateway", "plugins"):
        for file in (ROOT / folder).rglob("*.py"):
            for code in re.findall(r'(?:\bcode=|\.code = )"([a-z_]+)"', file.read_text(encoding="utf-8")):
                assert f"| `{code}` |" in read("errors"), code
    assert error_codes.codes()["model_not_found"] == {400, 404}


def test_every_header_of_the_gateway_is_described_and_used() -> None:
    assert headers.used() == headers.described() - {"idempotency-key"}
    assert all(f"| `{name}` |" in read("headers") for name in headers.described())


async def test_every_route_is_described(gateway: Running) -> None:
    app = gateway.gateway._runner.app
    page = read("http-api")
    for resource in app.router.resources():
        path = re.sub(r"\{(\w+)[^}]*\}", r"{\1}", resource.canonical)
        if path.endswith("{tail}"):  # passed through, or refused
            continue
        if path in ("/v1/memory/{tail}", "/v1/me/{tail}"):  # refused
            continue
        path = path.removeprefix("/product").removeprefix("/api/openmem/v1")
        assert re.search(rf"(?:GET|POST) (?:/v1)?{re.escape(path)}`", page) or path.removeprefix("/") in page, path


def test_every_promise_has_its_tests() -> None:
    promised = guarantees.promised_tests()
    assert len(promised) > 100
    assert promised <= guarantees.defined_tests().keys()
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", read("guarantees") + read("clients")))
    assert promised < named
    assert named <= guarantees.defined_tests().keys()


def test_the_clients_were_run_in_the_versions_that_are_told() -> None:
    rows = re.findall(r"^\| `([^`]+)`(?: \((?:Python|JavaScript)\))? \| (\d[\w.]+) \|", read("clients"), re.MULTILINE)
    assert len(rows) == 24
    locks = "\n".join(
        file.read_text(encoding="utf-8")
        for file in (ROOT / "tests" / "clients").rglob("*lock*")
        if "node_modules" not in file.parts and file.is_file()
    )
    for client, version in rows:
        assert f"{client.lower()}=={version}" in locks.lower() or f'"version": "{version}"' in locks, client
