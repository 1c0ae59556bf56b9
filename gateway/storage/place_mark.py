"""Whether a database and a place on object storage belong together. Pure.

The id of a memory is in its database, and in an object beside its tables. Two memories at one place would delete each
other's tables, since tables that no catalog names are dropped; one memory at two places would be torn in two.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["MARK_NAME", "MemoryId", "explain_mismatch"]

MARK_NAME: Final = "gateway.json"
"""The object that has the id."""


@dataclass(frozen=True, slots=True)
class MemoryId:
    """The id of the memory in a database; None if it has none yet. `has_tables`: tables on object storage are named
    there."""

    value: str | None = None
    has_tables: bool = False


def explain_mismatch(uri: str, memory: MemoryId, mark: str | None) -> str:
    """Why a memory cannot be at a place with this mark (None: it has none), in words; empty if it can. A memory of an
    earlier version has tables, and no id: it takes that of the place, or gets one."""
    if mark is None:
        if memory.value is None or not memory.has_tables:
            return ""
        return (
            f"{uri} is not the place of the memory in `memory.database`: its object {MARK_NAME} is missing. All "
            "gateways of a cluster need the same `memory.uri`; after a restore, copy that object, too"
        )
    if memory.value == mark or (memory.value is None and memory.has_tables):
        return ""
    return (
        f"{uri} has the memory of another database: the two would delete each other's tables. Name another prefix; or, "
        f"if that memory is not needed any more, delete its tables and the object {MARK_NAME} there"
    )
