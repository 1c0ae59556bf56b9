"""The check of a bucket, against a real server and what a bad one does."""

import pytest

from gateway.config.storage import StorageConfig
from gateway.storage.lance.object_place import ObjectStorage
from gateway.storage.lance.object_probe import probe
from tests.fakes.s3 import SECRET_KEY
from tests.fakes.s3_proxy import FaultyS3

pytest.importorskip("obstore", reason="the extra `cluster` is not installed")


def configuration(storage: ObjectStorage, **changes: object) -> StorageConfig:
    fields = {
        "endpoint": storage.endpoint,
        "region": storage.region,
        "access_key": storage.access_key,
        "secret_key": storage.secret_key,
        "allow_http": True,
    }
    return StorageConfig.model_validate(fields | changes)


async def test_a_good_bucket_has_no_problem_and_is_left_empty(storage: ObjectStorage, s3: FaultyS3) -> None:
    assert await probe(storage.uri, configuration(storage)) == []
    assert s3.counts["DELETE"] + s3.counts["POST"] == 1


async def test_wrong_credentials_are_told_without_repeating_them(storage: ObjectStorage) -> None:
    problems = await probe(storage.uri, configuration(storage, secret_key="wrong-secret-key"))
    assert len(problems) == 1
    assert "access key" in problems[0]
    assert "wrong-secret-key" not in problems[0]
    assert SECRET_KEY not in problems[0]


async def test_a_missing_bucket_is_told(storage: ObjectStorage) -> None:
    problems = await probe("s3://no-such-bucket-here/memory", configuration(storage, endpoint="http://127.0.0.1:9"))
    assert problems == [
        "s3://no-such-bucket-here/memory cannot be written: the storage cannot be reached, or answers with an error"
    ]


async def test_a_storage_that_ignores_the_condition_is_told(storage: ObjectStorage, s3: FaultyS3) -> None:
    s3.hides_conflicts = True
    problems = await probe(storage.uri, configuration(storage))
    assert len(problems) == 1
    assert "If-None-Match" in problems[0]


async def test_a_storage_that_refuses_reads_and_deletions_is_told(storage: ObjectStorage, s3: FaultyS3) -> None:
    for kind in ("GET", "DELETE", "POST", "LIST"):
        s3.refused[kind] = 403
    problems = await probe(storage.uri, configuration(storage))
    assert [problem.partition(": the access")[0].removeprefix(storage.uri) for problem in problems] == [
        " cannot be read",
        " cannot be listed",
        ": objects cannot be deleted",
    ]
