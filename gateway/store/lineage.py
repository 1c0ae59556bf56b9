"""How memories follow one another: what replaced what, until when it held, and how to take that back. Pure.

Nothing is overwritten. What is replaced is archived, with the id of what took its place and the time until which it
held; the earlier text of a memory that was edited becomes an archived memory of its own, which goes when its memory is
deleted.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from gateway.turn import Record, derived_id

__all__ = [
    "CORRECTS",
    "EDITED",
    "EDIT_OF",
    "HELD_UNTIL",
    "LEARNT",
    "REPLACED_BY",
    "REPLACES",
    "archived",
    "chain",
    "edited",
    "held_at",
    "held_until",
    "replaced_by",
    "replaced_ids",
    "revived",
    "undone",
]

LEARNT: Final = "learnt"
"""The name in a record's `info` that marks what a model made of messages; `links` are those its words come from."""

CORRECTS: Final = "corrects"
"""The name in a record's `info` that marks feedback: `links` are the memories that it outranks."""
REPLACES: Final = "replaces"
"""The name in a record's `info` for the ids of what it took the place of."""
REPLACED_BY: Final = "replaced_by"
"""The name for the id of what took its place."""
HELD_UNTIL: Final = "held_until"
"""The name for the moment until which it held, in seconds since 1970."""
EDIT_OF: Final = "edit_of"
"""The name for the id of the memory whose earlier text it is."""
_LAST: Final = 2.0**37  # the year 6325
EDITED: Final = "edited"
"""The name for the version in which a memory's text was changed."""
_TAKEN_BACK: Final = "undone"


def archived(record: Record, until: float, by: str = "") -> Record:
    """A memory that held until then, and was replaced by another one ("": by none)."""
    info = {**record.info, HELD_UNTIL: until, **({REPLACED_BY: by} if by else {})}
    return replace(record, status="archived", info=info)


def edited(record: Record, now: float) -> Record:
    """A memory's text as it was before it is changed now."""
    id_ = derived_id(record.id, "edit", str(record.version))
    info = {name: value for name, value in record.info.items() if name != CORRECTS}  # it goes with its memory
    info |= {EDIT_OF: record.id, HELD_UNTIL: now}
    return replace(record, id=id_, status="archived", links=(record.id,), info=info, version=1)


def held_until(record: Record) -> float | None:
    """Until when a memory held, in seconds since 1970; None for one that holds."""
    return None if record.status == "activated" else _until(record)


def held_at(record: Record, moment: float) -> bool:
    """True if a memory was known and held then."""
    if record.event_time > moment:
        return False
    return record.status == "activated" or _until(record) > moment


def chain(memory_id: str, records: Iterable[Record]) -> list[Record]:
    """A memory with all that it replaced and that replaced it, the first one first; empty if it is not there."""
    by_id = {record.id: record for record in records}
    if memory_id not in by_id:
        return []
    beside: dict[str, set[str]] = {}
    for record in by_id.values():
        for other in _tied(record):
            beside.setdefault(record.id, set()).add(other)
            beside.setdefault(other, set()).add(record.id)
    found, waiting = {memory_id}, [memory_id]
    while waiting:
        for other in beside.get(waiting.pop(), ()):
            if other in by_id and other not in found:
                found.add(other)
                waiting.append(other)
    return sorted((by_id[one] for one in found), key=lambda record: (_until(record), record.event_time))


def replaced_by(record: Record) -> str:
    """The id of what took a memory's place; "" if nothing did."""
    found = record.info.get(REPLACED_BY)
    return found if isinstance(found, str) else ""


def replaced_ids(info: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids of what the memory with this `info` took the place of."""
    found = info.get(REPLACES)
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list | tuple) else ()


def undone(record: Record, line: Sequence[Record], now: float) -> list[Record]:
    """What must change so that the last thing that happened to a memory is taken back; nothing if nothing did. `line`
    is its chain. What was taken back may be so again."""
    by_id = {one.id: one for one in line}
    edits = [one for one in line if one.info.get(EDIT_OF) == record.id and not one.info.get(_TAKEN_BACK)]
    if edits and record.status == "activated":
        last = max(edits, key=_until)
        earlier = {name: value for name, value in last.info.items() if name not in (EDIT_OF, HELD_UNTIL)}
        kept = {**_plain(record.info), EDIT_OF: record.id, HELD_UNTIL: now, _TAKEN_BACK: True}
        return [replace(record, text=last.text, info=earlier), replace(last, text=record.text, info=kept)]
    if record.status == "activated":
        held = [one for one in line if replaced_by(one) == record.id and one.status == "archived"]
        return [_taken_back(record, now), *map(revived, held)] if held else []
    successor = by_id.get(replaced_by(record))
    if successor is not None and successor.status == "activated" and successor.id != record.id:
        return undone(successor, line, now) if record.id in replaced_ids(successor.info) else [revived(record)]
    before = [by_id[one] for one in replaced_ids(record.info) if one in by_id]
    again = [archived(one, record.event_time, record.id) for one in before if one.status == "activated"]
    return [revived(record), *again] if not record.info.get(EDIT_OF) else []


def _taken_back(record: Record, now: float) -> Record:
    return replace(record, status="archived", info={**record.info, HELD_UNTIL: now, _TAKEN_BACK: True})


def revived(record: Record) -> Record:
    """A memory that holds again."""
    return replace(record, status="activated", info=_plain(record.info))


def _plain(info: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is said of memories that hold no more."""
    return {name: value for name, value in info.items() if name not in (REPLACED_BY, HELD_UNTIL, _TAKEN_BACK)}


def _until(record: Record) -> float:
    """Until when a memory held; for one that holds, for ever."""
    if record.status == "activated":
        return float("inf")
    until = record.info.get(HELD_UNTIL)
    if isinstance(until, int | float) and not isinstance(until, bool) and 0 <= until < _LAST:
        return float(until)
    return record.updated_at


def _tied(record: Record) -> list[str]:
    named = [record.info.get(REPLACED_BY), record.info.get(EDIT_OF)]
    return [*replaced_ids(record.info), *(one for one in named if isinstance(one, str))]
