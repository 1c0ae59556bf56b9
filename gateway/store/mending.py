"""Tables that a power cut or a full disk has damaged: the newest version that can be read counts again.

Whole files of Lance end in a mark of their own; a file whose bytes never came to the disk does not. What is taken out
is moved aside, never thrown away. What is lost by going back to an earlier version the journal still has.
"""

import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from gateway.store.folder import fsync

__all__ = ["drop_torn_indexes", "has_torn_index", "is_torn", "mark_whole", "marked_rows", "mended"]

_log = logging.getLogger("gateway.store")
_MARK = b"LANC"
_WHOLE = "whole.txt"
_MANIFESTS_LOOKED_AT = 32  # newest ones
_VERSIONS_TRIED = 500


def is_torn(table: Path) -> bool:
    """True if a table's newest manifests or any of its data files were not written to their end. Files: call it in a
    thread."""
    manifests = _manifests(table)[:_MANIFESTS_LOOKED_AT]
    return any(not _is_whole(path) for path in (*manifests, *(table / "data").glob("*.lance")))


def has_torn_index(table: Path) -> bool:
    """True if a file of a table's indexes was not written to its end. Files: call it in a thread."""
    return bool(_torn_indexes(table))


def drop_torn_indexes(table: Path) -> None:
    """Take away the index files that were not written to their end; they hold nothing of their own."""
    for path in _torn_indexes(table):
        path.unlink(missing_ok=True)


def _torn_indexes(table: Path) -> list[Path]:
    return [path for path in (table / "_indices").rglob("*.lance") if path.is_file() and not _is_whole(path)]


def mark_whole(table: Path, rows: int) -> None:
    """Note in a table's folder that it holds all that it should: so many rows. Files: call it in a thread."""
    mark = table / _WHOLE
    mark.write_text(str(rows))
    fsync(mark)


def marked_rows(table: Path) -> int:
    """The rows that a table should hold; -1 if nobody noted that it is whole. Files: call it in a thread."""
    try:
        return int((table / _WHOLE).read_text())
    except (OSError, ValueError):
        return -1


async def mended(
    open_table: Callable[[], Awaitable[Any]], table: Path, aside: Path, run: Callable[..., Awaitable[Any]]
) -> Any | None:
    """The table in its newest version that can be read; None if there is none, and its folder is moved aside then.
    `run` calls a function in a thread."""
    await run(_set_aside_torn_manifests, table, aside)
    for _ in range(_MANIFESTS_LOOKED_AT):
        try:
            found = await open_table()
        except Exception as error:  # noqa: BLE001 — LanceDB raises many kinds; each means that it cannot be opened
            if not await run(_set_aside_newest_manifest, table, aside):
                _log.error("table_lost", extra={"table": table.name, "cause": type(error).__name__})
                break
            continue
        version = await _gone_back(found)
        if version is not None:
            await run(_set_aside_torn_data, table, aside)
            _log.error(
                "table_mended", extra={"table": table.name, "version": version, "rows": await found.count_rows()}
            )
            return found
        found.close()
        break
    await run(_set_aside, table, aside)
    return None


async def _gone_back(table: Any) -> int | None:
    """Go back to the newest version that can be read, and make it the newest. None if there is none."""
    if await _can_be_read(table):
        return int(await table.version())
    versions = sorted((int(one["version"]) for one in await table.list_versions()), reverse=True)
    for version in versions[1:_VERSIONS_TRIED]:
        await table.checkout(version)
        if await _can_be_read(table):
            await table.restore()
            return version
    return None


async def _can_be_read(table: Any) -> bool:
    try:
        await table.query().select(["id", "version"]).to_arrow()
    except Exception:  # noqa: BLE001 — as above
        return False
    return True


def _manifests(table: Path) -> list[Path]:
    """Newest first: they are named by what is left to the largest number."""
    return sorted((table / "_versions").glob("*.manifest"))


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            if file.tell() < len(_MARK):
                return False
            file.seek(-len(_MARK), 2)
            return file.read() == _MARK
    except FileNotFoundError:
        return True  # taken away by a clean-up meanwhile


def _set_aside_torn_manifests(table: Path, aside: Path) -> None:
    for path in _manifests(table):
        if not _is_whole(path):
            _set_aside(path, aside / "_versions")


def _set_aside_torn_data(table: Path, aside: Path) -> None:
    """No version that counts has a part in them."""
    for path in (table / "data").glob("*.lance"):
        if not _is_whole(path):
            _set_aside(path, aside / "data")


def _set_aside_newest_manifest(table: Path, aside: Path) -> bool:
    found = _manifests(table)
    if not found:
        return False
    _set_aside(found[0], aside / "_versions")
    return True


def _set_aside(path: Path, aside: Path) -> None:
    if path.exists():
        aside.mkdir(parents=True, exist_ok=True)
        shutil.move(path, aside / path.name)
