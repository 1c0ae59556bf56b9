"""Clusters for the option `--cluster`: the engines of a test run, and gateways on them in place of a single one."""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import yaml

from gateway.config import Config, load
from gateway.storage.lance.object_place import ObjectStorage
from tests.cluster.gateways.balanced import Balanced
from tests.cluster.gateways.cluster import Cluster, running_gateways
from tests.cluster.postgres import PostgresServer
from tests.fakes.running import changed, cluster_count
from tests.fakes.s3 import S3Server, running_s3, storage_at

__all__ = ["Engines", "running_cluster", "running_engines"]


class Engines:
    """A PostgreSQL server and an S3 server. Each folder has a memory of its own, also when it is opened again."""

    def __init__(self, postgres: PostgresServer, s3: S3Server) -> None:
        self._postgres = postgres
        self._url = s3.url
        self._bucket = s3.create_bucket()
        self._memories: dict[Path, tuple[str, ObjectStorage]] = {}

    def cluster(self, folder: Path) -> Cluster:
        if folder not in self._memories:
            storage = storage_at(f"s3://{self._bucket}/{uuid.uuid4().hex}/memory", self._url)
            self._memories[folder] = self._postgres.create_database(), storage
        return Cluster(folder, *self._memories[folder], upstream_url="")


_engines: list[Engines] = []  # those of this process


@contextmanager
def running_engines(folder: Path) -> Iterator[None]:
    """Run the engines of this process; the files of the S3 server are in `folder`."""
    with PostgresServer() as postgres, running_s3(folder) as s3:
        _engines.append(Engines(postgres, s3))
        try:
            yield
        finally:
            _engines.clear()


@asynccontextmanager
async def running_cluster(config: Config, *, wait: bool = True) -> AsyncIterator[Balanced]:
    """Run gateways that have this configuration, but for their memory, which they share."""
    (engines,) = _engines
    folder = config.folder
    raw = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    file = folder / "cluster.yaml"
    file.write_text(yaml.safe_dump(changed(raw, engines.cluster(folder).settings())), encoding="utf-8")
    configs = [load(file, data=folder / f"gateway-{number}") for number in range(cluster_count())]
    async with running_gateways(configs, wait=wait) as gateways:
        yield Balanced(gateways)
