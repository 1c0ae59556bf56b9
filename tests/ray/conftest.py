"""The engines of a cluster for jobs on Ray."""

from tests.cluster.conftest import database_url, server
from tests.cluster.gateways.conftest import cluster, s3, s3_bucket, s3_server, storage

__all__ = ["cluster", "database_url", "s3", "s3_bucket", "s3_server", "server", "storage"]
