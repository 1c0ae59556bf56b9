"""Conversion of a record's typed fields to and from the flat JSON object in which they are stored. Pure.

The object is named `info` in tables, journal entries, exports and MemOS' responses. Its names are stored data and part
of that API, so they stay when fields are renamed. Unknown names in it are metadata of the client: earlier versions
stored both in one object.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import IntFlag
from typing import Any, Final, NamedTuple

from gateway.memory.record import Details, Lineage, Origin, Record, Validity
from gateway.text.dates import Period

__all__ = [
    "ANNOTATED",
    "DEFAULTS",
    "FLAGGED",
    "RowFlag",
    "annotation",
    "annotations",
    "build_record",
    "flags_of",
    "parse_annotations",
    "period_in",
    "plain_fields",
    "stored_flags",
    "superseded_in",
]

ANNOTATED: Final = (
    *("about", "utc_offset", "suspicious", "validity", "lineage", "origin", "details"),
    *("is_extracted", "is_summary", "is_background", "is_correction", "is_feedback", "is_partial"),
)
"""The fields of a record that the object holds."""
DEFAULTS: Final[Mapping[str, Any]] = {item.name: item.default for item in fields(Record) if item.name in ANNOTATED}
"""The values of these fields in a record about which nothing is known."""
_PLAIN: Final = tuple(item.name for item in fields(Record) if item.name not in (*ANNOTATED, "metadata"))

_MAX_MOMENT: Final = 2.0**37  # seconds since 1970: the year 6325
_MAX_OFFSET: Final = 86_400  # seconds


FLAGGED: Final = '"(?:learnt|corrects|suspicious|about_time|replaces)":'
"""Pattern of the stored objects that may give their records flags: the names that `stored_flags` reads."""


class RowFlag(IntFlag):
    """Properties of a record that search needs for all rows: a stored column, so that loading builds no records."""

    EXTRACTED = 1
    CORRECTION = 2
    SUSPICIOUS = 4
    DATED = 8
    SUPERSEDES = 16


def flags_of(record: Record) -> RowFlag:
    """The flags of a record."""
    return _combine_flags(
        is_extracted=record.is_extracted,
        is_correction=record.is_correction,
        is_suspicious=bool(record.suspicious),
        is_dated=record.about is not None,
        supersedes=bool(record.lineage.supersedes),
    )


def stored_flags(info: Mapping[str, Any]) -> RowFlag:
    """The flags of the record that has this object, without building it: equal to `flags_of`."""
    return _combine_flags(
        is_extracted=bool(info.get("learnt")),
        is_correction=bool(info.get("corrects")),
        is_suspicious="suspicious" in info,
        is_dated=period_in(info) is not None,
        supersedes=bool(superseded_in(info)),
    )


def _combine_flags(
    *, is_extracted: bool, is_correction: bool, is_suspicious: bool, is_dated: bool, supersedes: bool
) -> RowFlag:
    return RowFlag(
        RowFlag.EXTRACTED * is_extracted
        | RowFlag.CORRECTION * is_correction
        | RowFlag.SUSPICIOUS * is_suspicious
        | RowFlag.DATED * is_dated
        | RowFlag.SUPERSEDES * supersedes
    )


def period_in(info: Mapping[str, Any]) -> Period | None:
    """`Record.about` of the record that has this object."""
    return _period(info.get("about_time"))


def superseded_in(info: Mapping[str, Any]) -> tuple[str, ...]:
    """`Lineage.supersedes` of the record that has this object."""
    return _texts(info.get("replaces")) or ()


def annotations(record: Record) -> dict[str, Any]:
    """The flat JSON object of a record: only fields that differ from their defaults."""
    values: dict[str, Any] = {}
    for group, attributes in _BY_GROUP.items():
        fields_of_group: Any = record
        if group:
            fields_of_group = getattr(record, group)
            if fields_of_group is DEFAULTS[group]:
                continue
        for name, field, default in attributes:
            value = getattr(fields_of_group, field)
            if value != default:
                values[name] = _to_json(value) if isinstance(value, tuple) else value
    archived_by = record.lineage.archived_by
    return values | {_ARCHIVED_NAMES[archived_by]: True} if archived_by else values


def annotation(record: Record, name: str) -> Any:
    """The value of one name of the object; None if it is unknown, or has its default."""
    if name in _ARCHIVED_BY:
        return True if record.lineage.archived_by == _ARCHIVED_BY[name] else None
    attribute = _ATTRIBUTES.get(name)
    if attribute is None:
        return None
    value = getattr(getattr(record, attribute.group) if attribute.group else record, attribute.field)
    if value == attribute.default:
        return None
    return _to_json(value) if isinstance(value, tuple) else value


def parse_annotations(info: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a record, and the remaining entries, which are metadata: unknown names, and known ones with a value
    of another type, which a client must have given. An imported file may contain anything."""
    plain: dict[str, Any] = {}
    grouped: dict[str, dict[str, Any]] = {}
    metadata: dict[str, Any] = {}
    for name, value in info.items():
        if name in _ATTRIBUTES:
            group, field, parse, _ = _ATTRIBUTES[name]
            if (parsed := parse(value)) is not None:
                (grouped.setdefault(group, {}) if group else plain)[field] = parsed
            elif value is not None and parse is not _flag:
                metadata[name] = value
        elif name not in _ARCHIVED_BY:
            metadata[name] = value
        elif value:
            author = "user" if info.get("taken_out") else _ARCHIVED_BY[name]
            grouped.setdefault("lineage", {})["archived_by"] = author
    return plain | {name: _GROUPS[name](**values) for name, values in grouped.items()}, metadata


def plain_fields(record: Record) -> dict[str, Any]:
    """The fields of a record as JSON, with the annotated ones as `info`: the form of journal entries and exports."""
    values = {name: getattr(record, name) for name in _PLAIN}
    return values | {"info": annotations(record), "metadata": dict(record.metadata)}


def build_record(fields: Mapping[str, Any], info: Mapping[str, Any], metadata: Mapping[str, Any]) -> Record:
    """A record from its plain fields and its two JSON objects. Raises TypeError for unknown or missing fields."""
    if not info:
        return Record(**fields, metadata=metadata)
    annotated, client_fields = parse_annotations(info)
    return Record(**fields, **annotated, metadata={**client_fields, **metadata} if client_fields else metadata)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _flag(value: Any) -> bool | None:
    return True if value else None


def _switch(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _number(value: Any) -> int | None:
    return value if type(value) is int else None


def _moment(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and -_MAX_MOMENT < value < _MAX_MOMENT else None


def _offset(value: Any) -> float | None:
    return value if type(value) in (int, float) and abs(value) < _MAX_OFFSET else None


def _texts(value: Any) -> tuple[str, ...] | None:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else None


def _suspicions(value: Any) -> tuple[str, ...]:
    """The kinds of a suspicion; a value of another form still marks the text."""
    return _texts(value) or ("unknown",)


def _pair(value: Any) -> tuple[float, float] | None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    begin, end = map(_moment, value)
    return None if begin is None or end is None else (begin, end)


def _pairs(value: Any) -> tuple[tuple[float, float], ...] | None:
    pairs = map(_pair, value) if isinstance(value, list | tuple) else ()
    return tuple(pair for pair in pairs if pair is not None)


def _period(value: Any) -> Period | None:
    pair = _pair(value)
    return Period(*pair) if pair is not None and pair[0] < pair[1] else None


class _Attribute(NamedTuple):
    """A name of the object: the field of a record, or of a group of its fields, and the parser of its value."""

    group: str
    field: str
    parse: Callable[[Any], Any]
    default: Any


def _to_json(value: tuple[Any, ...]) -> list[Any]:
    return [list(item) if isinstance(item, tuple) else item for item in value]


_GROUPS: Final[Mapping[str, Callable[..., Any]]] = {
    "validity": Validity,
    "lineage": Lineage,
    "origin": Origin,
    "details": Details,
}
_ARCHIVED_BY: Final = {"taken_out": "user", "set_aside": "limit"}
_ARCHIVED_NAMES: Final = {author: name for name, author in _ARCHIVED_BY.items()}
_NAMES: Final = (
    ("learnt", "", "is_extracted", _flag),
    ("condensed", "", "is_summary", _flag),
    ("written_down", "", "is_background", _flag),
    ("corrects", "", "is_correction", _flag),
    ("feedback", "", "is_feedback", _flag),
    ("partial", "", "is_partial", _flag),
    ("about_time", "", "about", _period),
    ("utc_offset", "", "utc_offset", _offset),
    ("suspicious", "", "suspicious", _suspicions),
    ("held_since", "validity", "since", _moment),
    ("held_until", "validity", "until", _moment),
    ("held_before", "validity", "earlier", _pairs),
    ("replaces", "lineage", "supersedes", _texts),
    ("replaced_by", "lineage", "superseded_by", _text),
    ("ended_with", "lineage", "ended_with", _text),
    ("edit_of", "lineage", "edit_of", _text),
    ("edited_in", "lineage", "edited_in", _number),
    ("gave", "lineage", "contributors", _texts),
    ("said_again", "lineage", "confirmations", _texts),
    ("undone", "lineage", "is_undone", _flag),
    ("file_ids", "origin", "file_ids", _texts),
    ("file_name", "origin", "file_name", _text),
    ("chunk", "origin", "chunk", _number),
    ("page", "origin", "page", _number),
    ("heading", "origin", "heading", _text),
    ("speaker", "origin", "speaker", _text),
    ("message_id", "origin", "message_id", _text),
    ("title", "details", "title", _text),
    ("topic", "details", "topic", _text),
    ("trait", "details", "trait", _text),
    ("standing", "details", "is_standing", _switch),
    ("preference_type", "details", "preference_type", _text),
    ("reasoning", "details", "reasoning", _text),
    ("used_tool", "details", "used_tool", _text),
    ("worked", "details", "worked", _switch),
    ("steps", "details", "steps", _texts),
)

STORED_NAMES: Final = (*(name for name, *_ in _NAMES), *_ARCHIVED_BY)
"""All names of the object."""


def _default_of(group: str, name: str) -> Any:
    """The default of a field."""
    kind: Any = _GROUPS[group] if group else Record
    return next(item.default for item in fields(kind) if item.name == name)


_ATTRIBUTES: Final = {
    name: _Attribute(group, field, parse, _default_of(group, field)) for name, group, field, parse in _NAMES
}
_BY_GROUP: Final = {
    group: tuple((name, item.field, item.default) for name, item in _ATTRIBUTES.items() if item.group == group)
    for group in ("", *_GROUPS)
}
