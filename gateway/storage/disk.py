"""Syncing files to the disk, and probing whether the disk accepts writes."""

import os
from pathlib import Path

from gateway.storage.folder import fsync

__all__ = ["probe_disk", "sync_tree"]

_PROBE_BYTES = 2**20


def probe_disk(path: Path) -> None:
    """Write a file, sync it and delete it. Raises OSError."""
    path.write_bytes(bytes(_PROBE_BYTES))
    fsync(path)
    path.unlink()


def sync_tree(root: Path, since: float) -> None:
    """fsync files changed since a moment (seconds since 1970), and their parent folders up to the root."""
    folders: set[Path] = set()
    for folder, _, files in os.walk(root):
        paths = [os.path.join(folder, name) for name in files]
        changed = [path for path in paths if _modified(path) >= since]
        for path in changed:
            fsync(Path(path))
        if changed:
            here = Path(folder)
            folders |= {here, *(parent for parent in here.parents if parent.is_relative_to(root))}
    for parent in folders:
        fsync(parent)


def _modified(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0
