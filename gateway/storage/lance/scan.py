"""Full scan for texts in every version of every table; the files are compressed, so that grep does not find them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from gateway.storage.lance.connection import connecting

__all__ = ["tables_with"]


async def tables_with(lance: Path, texts: Sequence[str]) -> dict[str, list[str]]:
    """The tables in LanceDB's folder that hold any of the texts in any version, with the texts in each. Raises what
    LanceDB raises on a table that cannot be read."""
    connect = await asyncio.to_thread(connecting, lance)
    database = await connect()
    matches: dict[str, list[str]] = {}
    try:
        for name in (await database.list_tables()).tables:
            table = await database.open_table(name)
            present: set[str] = set()
            for version in await table.list_versions():
                await table.checkout(int(version["version"]))
                rows = await table.query().select(["text"]).to_arrow()
                everything = "\n".join(rows.column("text").to_pylist())
                present.update(text for text in texts if text in everything)
            table.close()
            if present:
                matches[f"lance/{name}"] = sorted(present)
    finally:
        database.close()
    return matches
