"""The engines of a cluster for tests of whole gateways."""

from pathlib import Path

import pytest

from gateway.storage.lance.object_place import ObjectStorage
from tests.cluster.gateways.cluster import Cluster
from tests.cluster.gateways.load import ROUTES
from tests.cluster.s3.conftest import s3, s3_bucket, s3_server, storage
from tests.fakes.upstream import FakeUpstream

__all__ = ["s3", "s3_bucket", "s3_server", "storage"]


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, storage: ObjectStorage, upstream: FakeUpstream) -> Cluster:
    """The address of a cluster: an empty database, and an empty place on S3."""
    return Cluster(tmp_path, database_url, storage, upstream.url)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the tests that route a load all routes in the long form, and one of them in the short form."""
    if "route" in metafunc.fixturenames:
        names = sorted(ROUTES)
        if not metafunc.config.getoption("--long"):
            names = [names[len(metafunc.function.__name__) % len(names)]]
        metafunc.parametrize("route", [ROUTES[name] for name in names], ids=names)
