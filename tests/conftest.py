"""Fixtures for all tests: a scripted upstream, a real gateway before it, and a guard against blocking the loop."""

import functools
import os
import random
import re
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# the unpacked model: one for all runs and processes, and never the user's own
os.environ.setdefault("MEMORY_GATEWAY_CACHE", str(Path(tempfile.gettempdir()) / "memory-gateway-tests"))

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from gateway.api.memos.defaults import ENVIRONMENT
from gateway.embedding import embedders
from tests.fakes.running import CLUSTER, WORKERS, Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream, running_upstream

settings.register_profile("shared", deadline=None)  # a machine that does other work, too, is no fault
settings.load_profile("shared")


class Scale:
    """How much a test does: the first number in `make test`, the second in `make test-long`. `seed` is printed."""

    def __init__(self, *, is_long: bool, seed: int) -> None:
        self.is_long = is_long
        self.seed = seed

    def __call__(self, fast: int, long: int) -> int:
        return long if self.is_long else fast


# one process imports the real MemOS client, and one installs the wheel in each way
_GROUPS = {
    "memos": re.compile(r"test_memos_client\.py|test_the_real_client"),
    "install": re.compile(r"test_install\.py"),
}
_CASES_OF_SEVERAL = 2  # of each test, with the options `--workers` and `--cluster`, and without `--long`
# in the environment, so that the parallel processes of a run have one seed
_SEED = int(os.environ.setdefault("SEED", str(random.randrange(10**6))))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="the long form of the crash, fault and fuzz tests")
    parser.addoption(
        "--workers", type=int, default=1, metavar="N", help="run the gateways under test with so many workers"
    )
    parser.addoption(
        "--cluster", type=int, default=1, metavar="N", help="run a cluster of so many gateways for each under test"
    )


def pytest_configure(config: pytest.Config) -> None:
    os.environ[WORKERS] = str(config.getoption("--workers"))
    os.environ[CLUSTER] = str(config.getoption("--cluster"))
    config.addinivalue_line("markers", "one_process(reason): reaches into a gateway; not run with --workers")
    config.addinivalue_line("markers", "several_workers: run only with --workers")
    config.addinivalue_line("markers", "one_gateway(reason): not run with --cluster")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    has_workers, is_cluster = config.getoption("--workers") > 1, config.getoption("--cluster") > 1
    if (has_workers or is_cluster) and not config.getoption("--long"):
        _choose_cases(config, items)
    for item in items:
        mark = item.get_closest_marker("one_process")
        if (has_workers or is_cluster) and mark is not None:
            item.add_marker(pytest.mark.skip(reason=f"one process: {mark.args[0]}"))
        mark = item.get_closest_marker("one_gateway")
        if is_cluster and mark is not None:
            item.add_marker(pytest.mark.skip(reason=f"one gateway: {mark.args[0]}"))
        if not has_workers and item.get_closest_marker("several_workers"):
            item.add_marker(pytest.mark.skip(reason="needs the option --workers"))


def _choose_cases(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep some cases of each test, others for each seed: several processes or gateways take seconds to start."""
    by_test = defaultdict[str, list[pytest.Item]](list)
    for item in items:
        by_test[item.nodeid.partition("[")[0]].append(item)
    chance = random.Random(_SEED)
    chosen = {item for cases in by_test.values() for item in chance.sample(cases, min(_CASES_OF_SEVERAL, len(cases)))}
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = [item for item in items if item in chosen]


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed {_SEED} (SEED={_SEED} runs the same again)"


class Grouped(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Gives each parallel process one test at a time; those that share something expensive go to one process.

    pytest-xdist 3.8 has marks for groups, which do nothing with pytest 9.2 and later.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((name for name, pattern in _GROUPS.items() if pattern.search(nodeid)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return Grouped(config, log)


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> Scale:
    return Scale(is_long=request.config.getoption("--long"), seed=_SEED)


@pytest.fixture(autouse=True, scope="session")
def _one_embedder_for_all() -> None:
    """The real model, loaded once for the whole run: a gateway's start would else cost 1.5 s in each test."""
    embedders.load_local = functools.cache(embedders.load_local)


@pytest.fixture(autouse=True, scope="session")
def _engines_of_clusters(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """PostgreSQL and S3 servers for the option `--cluster`."""
    if request.config.getoption("--cluster") <= 1:
        yield
        return
    from tests.cluster.gateways.clustered import running_engines  # needs the environment of clusters

    with running_engines(tmp_path_factory.mktemp("s3")):
        yield


@pytest.fixture(autouse=True)
def _no_blocking_call_on_the_loop() -> Iterator[None]:
    # configuration and plugins are read before the loop serves anybody; `gateway.testing` runs conditions of tests
    with blockbuster_ctx("gateway", excluded_modules=["gateway.config", "gateway.plugin_host", "gateway.testing"]):
        yield


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_API_BASE",
        "GATEWAY_KEY",
        "GATEWAY_DATA",
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
