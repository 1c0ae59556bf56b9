"""Marks of a move between a data folder and a cluster, at both places, so that no gateway starts on a memory that is
elsewhere now, or that has not arrived completely. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson

__all__ = ["MoveMark", "MoveState", "decode_mark", "describe_mark", "encode_mark"]


class MoveState(StrEnum):
    """How far a move has come, at the place with the mark."""

    ARRIVING = "arriving"
    """The target: something may be missing."""
    ARRIVED = "arrived"
    """The target: it is complete, and the source may still be in use."""
    MOVED = "moved"
    """The source: the target is the memory now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveMark:
    """A mark. `id` is the same at both places; `place`: the other one; `at`: seconds since 1970; `counts`: rows by
    part."""

    id: str
    state: MoveState
    place: str
    at: float
    counts: Mapping[str, int] = field(default_factory=dict)


def encode_mark(mark: MoveMark) -> bytes:
    """A mark as JSON, with the time in words for people."""
    when = datetime.fromtimestamp(mark.at, UTC).isoformat(timespec="seconds")
    return orjson.dumps({**asdict(mark), "counts": dict(mark.counts), "when": when}, option=orjson.OPT_INDENT_2)


def decode_mark(content: bytes) -> MoveMark:
    """Parse a mark. Raises ValueError."""
    try:
        fields: Any = orjson.loads(content)
        counts = {str(part): int(count) for part, count in fields["counts"].items()}
        state, at = MoveState(fields["state"]), float(fields["at"])
        return MoveMark(id=str(fields["id"]), state=state, place=str(fields["place"]), at=at, counts=counts)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError("the mark of a move cannot be read") from error


def describe_mark(mark: MoveMark, remains: str) -> str:
    """Why no gateway starts at the place of a mark. `remains`: what to delete to use the memory all the same."""
    if mark.state is MoveState.MOVED:
        day = datetime.fromtimestamp(mark.at, UTC).date().isoformat()
        return (
            f"the memory was moved to {mark.place} on {day}: start gateways there. To use it here all the same, "
            f"without what was added there since, delete {remains}"
        )
    return (
        f"the memory has not arrived completely from {mark.place}: run `gateway memory move` there again, which "
        "completes it"
    )
