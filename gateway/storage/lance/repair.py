"""Repair of tables that a power cut or a full disk has damaged, by rollback to the newest readable version.

Complete Lance files end in a magic number; a file whose bytes never reached the disk does not. Damaged files are moved
aside, never deleted. The journal still has the rows that a rollback loses.
"""

import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from gateway.storage.folder import fsync

__all__ = ["drop_torn_indexes", "has_torn_index", "is_torn", "mark_whole", "marked_rows", "mended"]

_log = logging.getLogger("gateway.store")
_MAGIC = b"LANC"
_ROWS_FILE = "whole.txt"
_MAX_MANIFESTS = 32  # newest ones that are checked
_MAX_VERSIONS = 500


def is_torn(table: Path) -> bool:
    """True if any of a table's newest manifests or data files is torn (incomplete). Blocks on files: call it in a
    thread."""
    manifests = _manifests(table)[:_MAX_MANIFESTS]
    return any(not _is_complete(path) for path in (*manifests, *(table / "data").glob("*.lance")))


def has_torn_index(table: Path) -> bool:
    """True if an index file of a table is torn. Blocks on files: call it in a thread."""
    return bool(_torn_indexes(table))


def drop_torn_indexes(table: Path) -> None:
    """Delete torn index files; indexes can be rebuilt from the rows."""
    for path in _torn_indexes(table):
        path.unlink(missing_ok=True)


def _torn_indexes(table: Path) -> list[Path]:
    return [path for path in (table / "_indices").rglob("*.lance") if path.is_file() and not _is_complete(path)]


def mark_whole(table: Path, rows: int) -> None:
    """Write a marker file into a table's folder: it is complete with `rows` rows. Blocks on files: use a thread."""
    mark = table / _ROWS_FILE
    mark.write_text(str(rows))
    fsync(mark)


def marked_rows(table: Path) -> int:
    """The number of rows in a table's marker file; -1 without one. Blocks on files: call it in a thread."""
    try:
        return int((table / _ROWS_FILE).read_text())
    except (OSError, ValueError):
        return -1


async def mended(
    open_table: Callable[[], Awaitable[Any]], table: Path, aside: Path, run: Callable[..., Awaitable[Any]]
) -> Any | None:
    """Repair a table: roll back to its newest readable version. None if there is none; its folder is moved aside then.
    `run` calls a function in a thread."""
    await run(_set_aside_torn_manifests, table, aside)
    for _ in range(_MAX_MANIFESTS):
        try:
            opened = await open_table()
        except Exception as error:  # noqa: BLE001 — LanceDB raises many kinds; each means that it cannot be opened
            if not await run(_set_aside_newest_manifest, table, aside):
                _log.error("table_lost", extra={"table": table.name, "cause": type(error).__name__})
                break
            continue
        version = await _roll_back(opened)
        if version is not None:
            await run(_set_aside_torn_data, table, aside)
            _log.error(
                "table_mended", extra={"table": table.name, "version": version, "rows": await opened.count_rows()}
            )
            return opened
        opened.close()
        break
    await run(_set_aside, table, aside)
    return None


async def _roll_back(table: Any) -> int | None:
    """Make the newest readable version the current one, and return it. None if there is none."""
    if await _is_readable(table):
        return int(await table.version())
    versions = sorted((int(version["version"]) for version in await table.list_versions()), reverse=True)
    for version in versions[1:_MAX_VERSIONS]:
        await table.checkout(version)
        if await _is_readable(table):
            await table.restore()
            return version
    return None


async def _is_readable(table: Any) -> bool:
    try:
        await table.query().select(["id", "version"]).to_arrow()
    except Exception:  # noqa: BLE001 — as above
        return False
    return True


def _manifests(table: Path) -> list[Path]:
    """Manifest files, newest first: their names count down from the largest number."""
    return sorted((table / "_versions").glob("*.manifest"))


def _is_complete(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            if file.tell() < len(_MAGIC):
                return False
            file.seek(-len(_MAGIC), 2)
            return file.read() == _MAGIC
    except FileNotFoundError:
        return True  # removed by a concurrent clean-up


def _set_aside_torn_manifests(table: Path, aside: Path) -> None:
    for path in _manifests(table):
        if not _is_complete(path):
            _set_aside(path, aside / "_versions")


def _set_aside_torn_data(table: Path, aside: Path) -> None:
    """Move torn data files aside; no readable version refers to them."""
    for path in (table / "data").glob("*.lance"):
        if not _is_complete(path):
            _set_aside(path, aside / "data")


def _set_aside_newest_manifest(table: Path, aside: Path) -> bool:
    manifests = _manifests(table)
    if not manifests:
        return False
    _set_aside(manifests[0], aside / "_versions")
    return True


def _set_aside(path: Path, aside: Path) -> None:
    if path.exists():
        aside.mkdir(parents=True, exist_ok=True)
        shutil.move(path, aside / path.name)
