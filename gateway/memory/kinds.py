"""The kinds of memories. Pure."""

__all__ = ["group_of"]

_GROUPS = {"preference": "preference", "tool": "tool", "skill": "skill", "profile": "profile"}


def group_of(kind: str) -> str:
    """The search group of a record's kind: text, preference, tool or skill; or profile, which is not searched."""
    return _GROUPS.get(kind, "text")
