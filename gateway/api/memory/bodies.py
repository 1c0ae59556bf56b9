"""The bodies of the memory API, with the limits of each field."""

from typing import Annotated, Any, Final, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway.memory.kinds import KINDS, kind_of

__all__ = ["AddBody", "DeletionBody", "DeletionFilter", "EraseBody", "ForgetRequest", "PatchBody"]

_MAX_METADATA: Final = 16_384  # bytes
_DERIVED_GROUPS: Final = ("tool", "profile")  # what a client cannot state as a memory of its own
_Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_Name = Annotated[str, Field(min_length=1, max_length=256)]
_Time = Annotated[str, Field(max_length=64)] | float
_Text = Annotated[str, Field(min_length=1, max_length=1_000_000)]
_Title = Annotated[str, Field(max_length=1000)]


class ForgetRequest(BaseModel):
    """What is to be forgotten: all conditions that are given must hold. `everything` is for when none is."""

    model_config = ConfigDict(extra="forbid")

    tenant: _Name | None = None
    user: _Name | None = None
    session: _Name | None = None
    ids: list[_Id] = Field([], max_length=10_000)
    everything: bool = False
    purge: bool = False


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AddBody(_Body):
    """A memory to store. `at`: when it was said, a date, a time or seconds since 1970; default: now."""

    user: _Name | None = None
    text: _Text
    kind: str = Field("turn", max_length=32, description="`turn`: words of the user, also read for preferences.")
    title: _Title | None = None
    session: _Name | None = None
    tags: list[_Name] = Field([], max_length=100)
    metadata: dict[str, Any] = Field({}, max_length=100)
    at: _Time | None = None

    @field_validator("kind")
    @classmethod
    def _check_kind(cls, value: str) -> str:
        addable = [name for name, kind in KINDS.items() if not kind.is_file_chunk and kind.group not in _DERIVED_GROUPS]
        if value not in addable or kind_of(value).is_file_chunk:
            raise ValueError(f"there are {', '.join(addable)}")
        return value

    @field_validator("metadata")
    @classmethod
    def _check_metadata(cls, value: dict[str, Any]) -> dict[str, Any]:
        if len(orjson.dumps(value)) > _MAX_METADATA:
            raise ValueError(f"has at most {_MAX_METADATA} bytes as JSON")
        return value


class PatchBody(_Body):
    """Changes of a memory. With `version` they are made only if the memory is still of that version."""

    text: _Text | None = None
    title: _Title | None = None
    status: Literal["activated", "archived"] | None = None
    version: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _check_change(self) -> Self:
        if self.text is None and self.title is None and self.status is None:
            raise ValueError("name a `text`, a `title` or a `status`")
        return self


class DeletionFilter(_Body):
    """Conditions of a deletion; all that are given must hold. `query` is contained in the text, in any case; `before`
    and `after` compare the time when a memory was said."""

    query: str | None = Field(None, min_length=1, max_length=1000)
    kind: str | None = Field(None, min_length=1, max_length=256, description="Several with commas.")
    session: _Name | None = None
    before: _Time | None = None
    after: _Time | None = None
    archived: bool | None = None


class DeletionBody(_Body):
    """The memories to delete, by their ids or by a filter."""

    user: _Name | None = None
    ids: list[_Id] = Field([], max_length=1000)
    filter: DeletionFilter | None = None
    preview: bool = Field(False, description="Only say what would be deleted.")


class EraseBody(_Body):
    """The confirmation of an erasure: the user's id."""

    confirm: str = Field(max_length=256)
