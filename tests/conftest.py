"""Fixtures for all tests: a scripted upstream, a real gateway before it, and a guard against blocking the loop."""

import functools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from blockbuster import blockbuster_ctx

from gateway.store import embed
from gateway.wire.memos.defaults import ENVIRONMENT
from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream, running_upstream


@pytest.fixture(autouse=True, scope="session")
def _one_embedder_for_all() -> None:
    """The real model, loaded once for the whole run: a gateway's start would else cost 1.5 s in each test."""
    embed._load_local = functools.cache(embed._load_local)


@pytest.fixture(autouse=True)
def _no_blocking_call_on_the_loop() -> Iterator[None]:
    # reading the configuration and the plugins happens before the loop serves anybody
    with blockbuster_ctx("gateway", excluded_modules=["gateway.config", "gateway.plugin_host"]):
        yield


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_API_BASE",
        "GATEWAY_KEY",
        "MEMRADER_MODEL",
        "CHAT_MODEL_LIST",
        "BUSINESS_CHAT_KEYS",
        *ENVIRONMENT,
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with running_upstream() as fake:
        yield fake


@pytest.fixture
def changes() -> dict[str, Any]:
    """What a test changes in the configuration: parametrise it, or override it in a module."""
    return {}


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream, changes: dict[str, Any]) -> AsyncIterator[Running]:
    async with running_gateway(configuration(tmp_path, upstream.url, **changes)) as running:
        yield running
