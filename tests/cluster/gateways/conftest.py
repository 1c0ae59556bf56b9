"""The engines of a cluster for tests of whole gateways."""

from pathlib import Path

import pytest

from gateway.storage.lance.object_place import ObjectStorage
from tests.cluster.gateways.cluster import Cluster
from tests.cluster.s3.conftest import s3, s3_bucket, s3_server, storage
from tests.fakes.upstream import FakeUpstream

__all__ = ["s3", "s3_bucket", "s3_server", "storage"]


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, storage: ObjectStorage, upstream: FakeUpstream) -> Cluster:
    """The address of a cluster: an empty database, and an empty place on S3."""
    return Cluster(tmp_path, database_url, storage, upstream.url)
