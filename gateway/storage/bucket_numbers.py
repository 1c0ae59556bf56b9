"""The bucket of a scope, and the numbers of leases that are not on a bucket. Pure.

Leases on buckets have the number of the bucket; all others are negative. They are stored data: a number keeps its
meaning.
"""

from typing import Final

__all__ = ["FIRST_PRESENCE", "FIRST_SCOPE_LOCK", "LEADER", "MOVE", "SCOPE_LOCKS", "SETTINGS_LOCK", "bucket_of"]

LEADER: Final = -1
"""The lease of the replica that does what belongs to no bucket."""
SETTINGS_LOCK: Final = -2
"""The lock of values in the registry."""
MOVE: Final = -4
"""The lease of a move from a cluster."""
FIRST_SCOPE_LOCK: Final = -16
"""The first lock of scopes; the others have the numbers below."""
SCOPE_LOCKS: Final = 1_024
"""The number of locks of scopes."""
FIRST_PRESENCE: Final = -(2**20)
"""The highest number of a replica's lease on its own presence."""
_DIGITS: Final = 8  # of a scope's hash, which its bucket is derived from


def bucket_of(scope: str, buckets: int) -> int:
    """The bucket of a scope in a memory with so many buckets."""
    return int(scope[:_DIGITS], 16) % buckets
