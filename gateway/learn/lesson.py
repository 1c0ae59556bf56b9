"""From decisions to memories: what is added, and what changes of what is there. Pure.

Ids follow from the scope, the conversation, the text and what it rests on: the same lesson learnt twice makes nothing
twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.learn.items import Item
from gateway.learn.reconcile import Decision
from gateway.store.lineage import (
    GAVE,
    HELD_UNTIL,
    LEARNT,
    REPLACED_BY,
    REPLACES,
    SAID_AGAIN,
    archived,
    has_words_of,
    revived,
    said_again,
)
from gateway.turn import Record, Scope, derived_id, message_id

__all__ = ["Lesson", "learnt_again", "lesson_of"]

_MOST_LINKS = 500  # messages of several windows
_MOST_TIMES = 32  # that something was said again
_MOST_TAGS = 10
_SURER = 0.3  # of what is missing to certainty, each time that something is said again
_SUREST = 0.99


@dataclass(frozen=True, slots=True)
class Lesson:
    """New memories, and new versions of known ones."""

    added: tuple[Record, ...]
    changed: tuple[Record, ...]


def lesson_of(scope: Scope, session_id: str, decisions: Sequence[Decision], now: float) -> Lesson:
    """What is learnt from some decisions, in their order."""
    added: dict[str, Record] = {}
    changed: dict[str, Record] = {}
    for decision in decisions:
        old = tuple(changed.get(one.id, one) for one in decision.old)
        if decision.relation == "same":
            stronger = {one.id: _strengthened(one, decision.item) for one in old}
            changed |= {one.id: stronger[one.id] for one in old if stronger[one.id] is not one}
        elif decision.relation != "outranked":
            new = _record(scope, session_id, decision.item, now)
            later = [one for one in old if _said(one) > _said(new) and decision.relation == "contradicts"]
            if later:  # what was said before is learnt after: it was true until then
                known = archived(new, _said(later[0]), later[0].id)
                added.setdefault(new.id, known)
                continue
            held = [one for one in old if one.status == "activated"]
            is_merged = decision.relation == "more_precise"  # has the words of all, whatever took their place meanwhile
            if sum(len(has_words_of(one)) for one in (old if is_merged else held)) > _MOST_LINKS:
                continue  # each message must be named, or its deletion would leave its words
            new = _in_place_of(new, held, old if is_merged else ()) if held or is_merged else new
            added.setdefault(new.id, new)
            changed |= {one.id: archived(one, _said(new), new.id) for one in held}
    return Lesson(tuple(added.values()), tuple(changed.values()))


def learnt_again(record: Record, known: Record) -> Record:
    """A memory that is known, as it is when it is learnt once more; what it rests on is the same."""
    again = revived(known, record.created_at)
    told = {name: record.info[name] for name in (REPLACES, GAVE, REPLACED_BY, HELD_UNTIL) if name in record.info}
    return replace(again, status=record.status, links=record.links, info={**again.info, **told})


def _said(record: Record) -> float:
    """When it was said, as far as that can be: nobody speaks of tomorrow's words."""
    return min(record.event_time, record.created_at)


def _record(scope: Scope, session_id: str, item: Item, now: float) -> Record:
    last = item.sources[-1]
    sources = tuple(dict.fromkeys(source.id for source in item.sources))
    name = derived_id(scope.value, session_id, item.kind, item.text, *sorted(sources))
    return Record(
        id=name,
        scope=scope.value,
        cube_id=scope.cube_id,
        user_id=last.user_id,
        session_id=session_id,
        kind=item.kind,
        source=item.source,
        text=item.text,
        event_time=item.event_time,
        created_at=now,
        updated_at=now,
        message_id=message_id(item.text),
        agent_id=last.agent_id,
        app_id=last.app_id,
        confidence=item.confidence,
        tags=tuple(dict.fromkeys(tag for source in item.sources for tag in source.tags))[:_MOST_TAGS],
        links=sources[:_MOST_LINKS],
        info={**item.info, LEARNT: True, **({GAVE: [*item.also][:_MOST_LINKS]} if item.also else {})},
    )


def _in_place_of(new: Record, held: Sequence[Record], old: Sequence[Record]) -> Record:
    """It takes their place. A text that has their words rests on what they rest on."""
    links = (*new.links, *(link for one in old for link in one.links))
    given = [id_ for one in (new, *old) for id_ in has_words_of(one) if id_ not in links] if old else []
    gave = {GAVE: list(dict.fromkeys(given))} if given else {}
    replaced = [one.id for one in held if one.id != new.id]
    return replace(new, links=tuple(dict.fromkeys(links))[:_MOST_LINKS], info={**new.info, **gave, REPLACES: replaced})


def _strengthened(old: Record, item: Item) -> Record:
    """The same memory, said once more; its text is as it was."""
    before = said_again(old)
    new = [source.id for source in item.sources if source.id not in (*old.links, *before)]
    if not new:
        return old
    return replace(
        old,
        confidence=min(_SUREST, old.confidence + (1 - old.confidence) * _SURER),
        info={**old.info, SAID_AGAIN: [*before, *new][-_MOST_TIMES:]},
    )
