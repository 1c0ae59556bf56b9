"""`gateway.storage.bucket_numbers`."""

import pytest

from gateway.storage.bucket_numbers import (
    FIRST_PRESENCE,
    FIRST_SCOPE_LOCK,
    LEADER,
    MOVE,
    SCOPE_LOCKS,
    SETTINGS_LOCK,
    bucket_of,
)


@pytest.mark.parametrize(
    ("scope", "buckets", "bucket"),
    [
        ("0000000fffffffffffffffffffffffff", 16, 15),
        ("0000004000000000ffffffffffffffff", 64, 0),
        ("89abcdef000000000000000000000000", 4096, 0xDEF),
        ("89abcdef000000000000000000000000", 100, 0x89ABCDEF % 100),
    ],
)
def test_a_memory_finds_its_scopes_where_an_earlier_version_put_them(scope: str, buckets: int, bucket: int) -> None:
    assert bucket_of(scope, buckets) == bucket


def test_no_two_leases_share_a_number() -> None:
    scope_locks = range(FIRST_SCOPE_LOCK, FIRST_SCOPE_LOCK - SCOPE_LOCKS, -1)
    single = [LEADER, SETTINGS_LOCK, MOVE]
    assert len(set(single)) == len(single)
    assert all(FIRST_SCOPE_LOCK < number < 0 for number in single)
    assert min(scope_locks) > FIRST_PRESENCE
