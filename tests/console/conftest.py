"""Fixtures: a browser, a scripted upstream, and gateways with data."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.console.browser import running_browser
from tests.console.console import Console, open_console
from tests.console.filling import correct_memory, fill_with_hostile_data, fill_with_people
from tests.console.gateway import GatewayProcess, running_gateway, running_upstream

OpenConsole = Callable[..., Console]
expect.set_options(timeout=15_000)  # a machine that does other work is no fault


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def upstream_url() -> Iterator[str]:
    with running_upstream() as url:
        yield url


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream_url: str) -> Iterator[GatewayProcess]:
    """A gateway without keys, with people who have memories and turns."""
    with running_gateway(tmp_path_factory.mktemp("open"), upstream_url) as gateway:
        fill_with_people(gateway)
        correct_memory(gateway, "anna", "Graça", "I moved to Lisbon in September; the bakery in Graça is good.")
        yield gateway


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory, upstream_url: str) -> Iterator[GatewayProcess]:
    """A gateway without keys, with data that would do harm as markup."""
    with running_gateway(tmp_path_factory.mktemp("hostile"), upstream_url) as gateway:
        fill_with_hostile_data(gateway)
        yield gateway


KEYS = [
    {"key": "key-of-the-operator", "rights": ["chat", "memory", "admin"], "name": "operator"},
    {"key": "key-of-ada-lovelace", "user": "ada", "rights": ["chat", "memory"], "name": "ada"},
    {"key": "key-of-an-app-with-memory", "rights": ["chat", "memory"], "name": "app"},
    {"key": "key-for-chat-alone", "rights": ["chat"], "name": "chat"},
]


@pytest.fixture(scope="session")
def keyed(tmp_path_factory: pytest.TempPathFactory, upstream_url: str) -> Iterator[GatewayProcess]:
    """A gateway with keys; ada and bob have memories and turns. Its sessions are short."""
    folder = tmp_path_factory.mktemp("keyed")
    sections: dict[str, Any] = {"auth": {"keys": KEYS}, "log": {"level": "debug"}, "console": {"content": True}}
    with running_gateway(folder, upstream_url, key="key-of-the-operator", **sections) as gateway:
        gateway.chat("Ada's engine is called Difference.", "ada", session="engines")
        gateway.chat("Bob's secret is marzipan.", "bob", session="secrets")
        gateway.settle()
        yield gateway


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenConsole]:
    """Opens consoles of a gateway, each in a context of its own; they are checked at the end."""
    with ExitStack() as stack:

        def open_one(gateway: GatewayProcess, path: str = "/turns", **options: Any) -> Console:
            console = stack.enter_context(open_console(browser, gateway.url, **options))
            console.open(path)
            return console

        yield open_one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder, for a gateway of a single test."""
    return tmp_path
