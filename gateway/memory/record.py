"""The record of one memory: identity, content, validity, lineage, origin. Pure.

All values are frozen; a change is a new version (`dataclasses.replace`), and versions.py has the changes of a memory's
lifecycle. Everything that the gateway knows of a memory is a typed field; `metadata` belongs to the client alone.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.text.dates import Period

__all__ = [
    "NO_DETAILS",
    "Details",
    "Lineage",
    "Origin",
    "Record",
    "Validity",
    "derived_id",
    "id_prefix",
    "memory_id",
    "message_id",
    "with_lineage",
]


@dataclass(frozen=True, slots=True)
class Validity:
    """When a memory is valid, in seconds since 1970. `since`: None for the time of its message; `until`: None as long
    as it is active. `earlier`: previous intervals of a restored memory."""

    since: float | None = None
    until: float | None = None
    earlier: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Lineage:
    """The relations of a memory to others, by id, and how it was archived.

    `supersedes`, `superseded_by`: its predecessors and its successor. `ended_with`: the source whose change ended it.
    `edit_of`: the memory whose earlier text it holds; `edited_in`: the version in which its own text was last changed
    (0: never). `contributors`: messages that may have contributed words, beside its sources; `confirmations`: messages
    that repeat its sources. `archived_by`: `user` for a request, after which only a request restores it; `limit` to
    make room. `is_undone`: archived by an undo, or the text of an edit that was undone.
    """

    supersedes: tuple[str, ...] = ()
    superseded_by: str = ""
    ended_with: str = ""
    edit_of: str = ""
    edited_in: int = 0
    contributors: tuple[str, ...] = ()
    confirmations: tuple[str, ...] = ()
    archived_by: str = ""
    is_undone: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """The place that a memory comes from: a chunk of a file, or a message as its client identified it."""

    file_ids: tuple[str, ...] = ()
    file_name: str = ""
    chunk: int | None = None
    page: int | None = None
    heading: str = ""
    speaker: str = ""
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class Details:
    """Fields of single kinds. Preferences and profile: `topic`, `trait`, `is_standing` (applies to every request; None
    if not determined), `preference_type`, `reasoning`. Tools: `used_tool`, `worked`. Skills: `title`, `steps`."""

    title: str = ""
    topic: str = ""
    trait: str = ""
    is_standing: bool | None = None
    preference_type: str = ""
    reasoning: str = ""
    used_tool: str = ""
    worked: bool | None = None
    steps: tuple[str, ...] = ()


NO_DETAILS = Details()
_PREFIX_LENGTH = 4
_ALWAYS, _UNRELATED, _UNKNOWN_ORIGIN = Validity(), Lineage(), Origin()


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One memory as it is stored. Times are seconds since 1970 UTC; `id` is 32 hex characters, generated here.

    `kind`: one of `kinds.KINDS`. `source`: its author (user, assistant, document, tool). `message_id` and `part`
    identify the chunks of one long message: joined in order they are its text. `links`: the ids of the records that it
    is derived from, or corrects. `status`: activated, resolving, archived, deleted (a tombstone, without text).
    `version` grows with each change.

    `about`: the period that the text refers to, other than its own time; `utc_offset`: the time zone of its message,
    in seconds east. `suspicious`: kinds of instructions that the text resembles (see `text/injection.py`).
    `is_extracted`: stated by a model, not literally by its author; `is_summary`: of a whole conversation (written by
    earlier versions); `is_background`: extracted after its conversation, of which all earlier messages were processed.
    `is_correction`: feedback that outranks its `links`; `is_feedback`: stated by feedback; `is_partial`: the text of an
    answer that was cut. `metadata` belongs to the client: filters and the API read it, the gateway interprets no name
    in it.
    """

    id: str
    scope: str
    cube_id: str
    user_id: str
    session_id: str
    kind: str
    source: str
    text: str
    event_time: float
    created_at: float
    updated_at: float
    message_id: str = ""
    part: int = 0
    agent_id: str = ""
    app_id: str = ""
    status: str = "activated"
    confidence: float = 1.0
    tags: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    version: int = 1
    about: Period | None = None
    utc_offset: float = 0.0
    suspicious: tuple[str, ...] = ()
    is_extracted: bool = False
    is_summary: bool = False
    is_background: bool = False
    is_correction: bool = False
    is_feedback: bool = False
    is_partial: bool = False
    validity: Validity = _ALWAYS
    lineage: Lineage = _UNRELATED
    origin: Origin = _UNKNOWN_ORIGIN
    details: Details = NO_DETAILS
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_active(self) -> bool:
        return self.status == "activated"


def with_lineage(record: Record, **changes: Any) -> Record:
    """The record with these fields of its lineage changed."""
    return replace(record, lineage=replace(record.lineage, **changes))


def message_id(text: str) -> str:
    """The id of a message, derived from its text: 32 hex characters."""
    return derived_id(text)


def derived_id(*parts: str) -> str:
    """An id derived from other ids: equal parts give the same id. 32 hex characters."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def memory_id(scope: str, *parts: str) -> str:
    """The id of a memory, derived from its scope's value and other ids: equal ones give the same id. 32 hex characters,
    of which the first four are the scope's, so that an id shows which part of the memory it is in."""
    return id_prefix(scope) + derived_id(scope, *parts)[_PREFIX_LENGTH:]


def id_prefix(scope: str) -> str:
    """The first four digits of the ids that `memory_id` gives the memories of a scope, by its value."""
    return scope[_PREFIX_LENGTH : 2 * _PREFIX_LENGTH]
