"""The engines of a cluster for tests of its replicas: those of `tests/cluster/s3`, too."""

from tests.cluster.s3.conftest import s3, s3_bucket, s3_server, storage

__all__ = ["s3", "s3_bucket", "s3_server", "storage"]
