"""Changes of a single memory on request, as new versions: edits and tombstones. Pure."""

from dataclasses import dataclass, replace

from gateway.memory.annotations import DEFAULTS
from gateway.memory.cascade import mark_for_extraction, next_version
from gateway.memory.record import Record, with_lineage
from gateway.memory.versions import archive_on_request, restore, valid_from, valid_to

__all__ = ["Edit", "apply_edit", "tombstone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """The requested changes of a memory; None: unchanged. `version`: the version that the edit rests on, if that
    matters."""

    text: str | None = None
    title: str | None = None
    status: str | None = None
    successor_id: str = ""
    version: int | None = None


def apply_edit(record: Record, edit: Edit, now: float) -> Record:
    """The next version of an edited memory."""
    changed = replace(
        record,
        text=record.text if edit.text is None else edit.text,
        details=record.details if edit.title is None else replace(record.details, title=edit.title),
    )
    if edit.status == "archived":
        changed = archive_on_request(changed, now, edit.successor_id)
    elif edit.status == "activated" and not record.is_active:
        changed = restore(changed, now)
    elif edit.status is not None:
        changed = replace(changed, status=edit.status)
    changed = next_version(changed, now)
    was_archived = valid_from(record) > (valid_to(record) or 0.0) > 0
    if was_archived and changed.is_active:
        changed = mark_for_extraction(changed)  # its text was changed while it was archived
    if changed.text != record.text:
        validity = replace(changed.validity, since=now, earlier=())
        changed = with_lineage(replace(changed, validity=validity), edited_in=changed.version)
    return changed


def tombstone(record: Record, now: float) -> Record:
    """The tombstone of a deleted memory: its ids without contents."""
    return replace(
        record,
        status="deleted",
        text="",
        message_id="",
        tags=(),
        metadata={},
        updated_at=now,
        version=record.version + 1,
        **DEFAULTS,
    )
