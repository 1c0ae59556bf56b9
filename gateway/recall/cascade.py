"""What becomes of what was made of memories, when those are deleted or changed. Pure: of the records of one scope.

A preference goes with its message, an earlier text with its memory. What a model made has words of each message that it
names: it goes, or ends, with any of them. What it had replaced holds again then, and what else it rests on is to be
looked at again.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.store.lineage import (
    CONDENSED,
    CORRECTS,
    EDIT_OF,
    EDITED,
    LEARNT,
    archived,
    ended,
    has_words_of,
    held_again,
    held_since,
    held_until,
    is_ended_with,
    replaced_by,
    replaced_ids,
    revived,
    said_again,
)
from gateway.turn import Record

__all__ = ["Fallen", "fallen", "followed", "next_version", "to_be_learnt_from"]


@dataclass(frozen=True, slots=True)
class Fallen:
    """What a deletion does: new versions of what stays, and all that goes, what was made before what it was made of."""

    changed: tuple[Record, ...]
    gone: tuple[Record, ...]


def fallen(deleted: Iterable[Record], records: Sequence[Record], now: float) -> Fallen:
    """What the deletion of some memories of a scope does. `records`: all of that scope."""
    doomed = {record.id: record for record in deleted}
    lessons = [record for record in doomed.values() if LEARNT in record.info]
    made = {one.id: one for one in lessons if not doomed.keys().isdisjoint(has_words_of(one))}
    said = [record for record in doomed.values() if record.id not in made]
    newest = set(doomed)
    while newest:
        found = {one.id: one for one in _made_of(newest, doomed, records)}
        made, doomed, newest = {**made, **found}, {**doomed, **found}, set(found)
    again = {one.id: next_version(one, now) for one in held_again(made, doomed, records, now)}
    told = {id_ for one in again.values() if one.status == "activated" for id_ in one.links}
    heard = _to_be_heard_again(made.values(), {*doomed, *again, *told}, records, now)
    went_along = [replace(one, links=()) for one in made.values()]  # nobody deleted these: they may be learnt again
    return Fallen((*again.values(), *heard), (*went_along, *said))


def followed(
    before: Record, after: Record, records: Sequence[Record], now: float, edited_at: float | None = None
) -> list[Record]:
    """New versions of what was made of a memory, when that is changed: it holds as long as the memory does, and what it
    had replaced holds when it does not. `records`: all of the scope, with the memory as it was. `edited_at`: when the
    edit was made that is taken back."""
    if before.text == after.text and before.status == after.status:
        return []
    made = [one for one in _made_of({before.id}, {before.id: before}, records) if one.id != replaced_by(after)]
    holds, was_held = after.status == "activated", before.status == "activated"
    is_back = holds and not was_held and before.text == after.text
    moment = held_until(before) if is_back and held_since(before) <= (held_until(before) or 0.0) else edited_at
    known = {(one.kind, one.text) for one in records if LEARNT in one.info and one.status == "activated"}
    back = [one for one in made if holds and is_ended_with(one, before.id, moment)]
    back = [_back(one, records, now) for one in back if (one.kind, one.text) not in known]
    over = {one.id: one for one in made if one.status == "activated" and (was_held or not holds)}
    changed = [*back, *_replaced_again(back, records, now), *(ended(one, now, before.id) for one in over.values())]
    done = {before.id, *(one.id for one in changed)}
    gone = {one.id: one for one in made if one.id not in done or one.id in over}  # of those, none says so any more
    again = held_again(gone, done | gone.keys(), records, now) if over else []
    done |= {one.id for one in again}
    heard = _to_be_heard_again(over.values(), done, records, now)
    return [*(next_version(one, now) for one in (*changed, *again)), *heard]


def to_be_learnt_from(record: Record) -> Record:
    """A memory that a model is to look at, as it is in this version; earlier texts are not."""
    return record if EDIT_OF in record.info else replace(record, info={**record.info, EDITED: record.version})


def next_version(record: Record, now: float) -> Record:
    return replace(record, version=record.version + 1, updated_at=now)


def _made_of(gone: Collection[str], known: Mapping[str, Record], records: Sequence[Record]) -> list[Record]:
    """What was made of these, and of nothing else that is still there; what a model made, of any of them."""
    left = {record.id for record in records}.difference(gone)
    return [
        record
        for record in records
        if record.id not in known
        and record.links
        and not record.info.get(CORRECTS)  # feedback stands by itself
        and any(id_ in gone for id_ in has_words_of(record))
        and (LEARNT in record.info or left.isdisjoint(record.links))
    ]


def _back(record: Record, records: Sequence[Record], now: float) -> Record:
    """What holds again; but if something else took the place of what it had replaced, that took its place, too."""
    by_id = {one.id: one for one in records}
    others = (by_id.get(replaced_by(by_id[id_])) for id_ in replaced_ids(record.info) if id_ in by_id)
    holder = next(
        (one for one in others if one is not None and one.id != record.id and one.status == "activated"), None
    )
    return revived(record, now) if holder is None else archived(record, held_until(record) or now, holder.id)


def _replaced_again(back: Sequence[Record], records: Sequence[Record], now: float) -> list[Record]:
    """What these had taken the place of, and holds: it does no more."""
    by = {id_: one.id for one in back if one.status == "activated" for id_ in replaced_ids(one.info)}
    return [archived(one, now, by[one.id]) for one in records if one.id in by and one.status == "activated"]


def _to_be_heard_again(
    over: Iterable[Record], without: Collection[str], records: Sequence[Record], now: float
) -> list[Record]:
    """The messages that lessons rest on which are over: they may still say so."""
    lessons = [one for one in over if LEARNT in one.info and CONDENSED not in one.info]
    ids = {id_ for one in lessons for id_ in (*has_words_of(one), *said_again(one))}.difference(without)
    return [
        to_be_learnt_from(next_version(one, now))
        for one in records
        if one.id in ids and one.kind in ("turn", "tool") and one.status == "activated" and LEARNT not in one.info
    ]
