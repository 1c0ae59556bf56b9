"""Full scan of a data folder for texts: proves that a purge has left none."""

import asyncio
import json
import mmap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from gateway.storage.lance.scan import tables_with

__all__ = ["find_texts"]

_SKIPPED_FOLDERS = ("tokenizers",)


def find_texts(
    folder: Path, texts: Sequence[str], progress: Callable[[Sequence[Path]], Iterable[Path]] = iter
) -> dict[str, list[str]]:
    """Search a folder for texts: maps each file that contains one, plain or JSON-escaped, and each table that contains
    one in any version, to the texts in it. `progress` is given the files and yields them. Blocks for minutes; call it
    outside an event loop."""
    lance = folder / "lance"
    matches = asyncio.run(tables_with(lance, texts)) if lance.is_dir() else {}
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and not set(path.relative_to(folder).parts).intersection(_SKIPPED_FOLDERS)
    ]
    encodings = {
        text: {text.encode(), json.dumps(text)[1:-1].encode(), json.dumps(text, ensure_ascii=False)[1:-1].encode()}
        for text in texts
    }
    for path in progress(files):
        try:
            with path.open("rb") as file:
                if not path.stat().st_size:
                    continue
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    contained = [
                        text for text, forms in encodings.items() if any(content.find(form) >= 0 for form in forms)
                    ]
        except FileNotFoundError:
            continue
        if contained:
            matches[str(path.relative_to(folder))] = contained
    return matches
