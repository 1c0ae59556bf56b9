"""The kinds of memories: one table of their properties, which search, storage, extraction and the APIs read. Pure."""

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["GROUPS", "KINDS", "MemoryKind", "group_of", "kind_of", "register"]

GROUPS: Final = ("text", "preference", "tool", "skill", "profile")
"""The groups of kinds that are searched together, each with its own limit; `profile` is not searched."""
_NAME: Final = re.compile(r"[a-z]{1,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryKind:
    """A kind of memories.

    `memos_type` is MemOS' name for it (empty: `UserMemory` for the user's own words, else `LongTermMemory`).
    `has_neighbours`: those of a conversation follow each other, as messages do. `is_of_profile`: it can be a standing
    preference or a fact about the user. `is_extraction_source`: facts are extracted from it. `extracted_as` is the name
    of its list in the answers of the extraction model (empty: it is not extracted). `is_from_file`: its text is that of
    a file; `is_file_chunk`: it is changed and deleted with its file only.
    """

    name: str
    group: str = "text"
    memos_type: str = ""
    has_neighbours: bool = False
    is_of_profile: bool = False
    is_extraction_source: bool = False
    extracted_as: str = ""
    is_from_file: bool = False
    is_file_chunk: bool = False


KINDS: Final[dict[str, MemoryKind]] = {
    kind.name: kind
    for kind in (
        MemoryKind(name="turn", has_neighbours=True, is_extraction_source=True),
        MemoryKind(name="fact", extracted_as="facts"),
        MemoryKind(
            name="preference",
            group="preference",
            memos_type="PreferenceMemory",
            is_of_profile=True,
            extracted_as="preferences",
        ),
        MemoryKind(name="profile", group="profile", is_of_profile=True),
        MemoryKind(
            name="tool",
            group="tool",
            memos_type="ToolTrajectoryMemory",
            is_extraction_source=True,
            extracted_as="tools",
        ),
        MemoryKind(name="skill", group="skill", memos_type="SkillMemory", extracted_as="skills", is_from_file=True),
        MemoryKind(
            name="document", memos_type="RawFileMemory", has_neighbours=True, is_from_file=True, is_file_chunk=True
        ),
    )
}
"""All kinds by name, in the order in which they are listed for users."""
_UNKNOWN: Final = MemoryKind(name="unknown")


def register(kind: MemoryKind) -> None:
    """Add a kind, before the configuration is read. Raises ValueError if its name or group cannot be used."""
    if not _NAME.fullmatch(kind.name):
        raise ValueError(f"the name of a kind is 1 to 32 lower-case letters, not {kind.name!r}")
    if kind.name in KINDS or kind.name == "task":
        raise ValueError(f"there is a kind {kind.name!r} already")
    if kind.group not in GROUPS:
        raise ValueError(f"the group of a kind is one of {', '.join(GROUPS)}, not {kind.group!r}")
    KINDS[kind.name] = kind


def kind_of(name: str) -> MemoryKind:
    """The kind of this name. A name that is not registered, as of memories that another process stored, is a text."""
    return KINDS.get(name, _UNKNOWN)


def group_of(kind: str) -> str:
    """The search group of a record's kind, one of `GROUPS`."""
    return KINDS.get(kind, _UNKNOWN).group
