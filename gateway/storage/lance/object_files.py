"""Copies the files of LanceDB's tables between a folder and object storage, as they are.

Data files are never rewritten under their names: what an interrupted copy has of them stays. Manifests are copied
again, since a table that was repaired may have another one of the same name.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.storage.errors import StorageError
from gateway.storage.lance.catalog import bucket_of
from gateway.storage.lance.object_client import open_store, storage_errors
from gateway.storage.lance.object_place import ObjectStorage

__all__ = ["ObjectFiles", "list_folder"]

_T = TypeVar("_T")
_Count = Callable[[int], None]
_MAX_FILES_AT_ONCE: Final = 8  # files
_TIMEOUT: Final = "120s"  # of one request, which has 10 MiB at most
_SUFFIX: Final = ".lance"  # of the folder of a table
_IMMUTABLE: Final = "data"  # folder of a table


class ObjectFiles:
    """The files of tables at an address, by their paths relative to it. Every method raises StorageError."""

    def __init__(self, storage: ObjectStorage) -> None:
        self._storage = storage
        self._store: Any = None

    async def list(self) -> dict[str, int]:
        """The sizes of all files of tables of memories."""

        async def work(store: Any) -> dict[str, int]:
            listed: dict[str, int] = {}
            async for page in store.list():
                listed |= {entry["path"]: entry["size"] for entry in page if _table_of(entry["path"])}
            return listed

        return await self._run(work)

    async def upload(self, folder: Path, names: Collection[str], on_total: _Count, on_copy: _Count) -> None:
        """Copy these tables of a folder, and delete the others here. `on_total` is called with the bytes of all files,
        `on_copy` with those of each one that is here."""
        sizes = await asyncio.to_thread(list_folder, folder, names)
        on_total(sum(sizes.values()))
        present = await self.list()
        await self._run(lambda store: _for_each(store.delete_async, present.keys() - sizes.keys()))

        async def copy(path: str) -> None:
            if not _is_there(path, sizes[path], present):
                await self._store.put_async(path, folder / path)
            on_copy(sizes[path])

        await self._run(lambda _: _for_each(copy, sizes))

    async def download(self, folder: Path, names: Collection[str], on_total: _Count, on_copy: _Count) -> None:
        """Copy these tables into a folder, and delete the others there; as `upload`."""
        listed = await self.list()
        sizes = {path: size for path, size in listed.items() if _table_of(path) in names}
        on_total(sum(sizes.values()))
        present = await asyncio.to_thread(list_folder, folder, None)
        for path in present.keys() - sizes.keys():
            await asyncio.to_thread((folder / path).unlink, missing_ok=True)

        async def copy(path: str) -> None:
            if not _is_there(path, sizes[path], present):
                await self._fetch(path, folder / path)
            on_copy(sizes[path])

        await self._run(lambda _: _for_each(copy, sizes))

    async def _fetch(self, path: str, target: Path) -> None:
        """Write an object to a file, which has its name when it is complete."""
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        unfinished = target.with_name(target.name + ".part")
        answer = await self._store.get_async(path)
        with await asyncio.to_thread(unfinished.open, "wb") as file:
            async for block in answer.stream():
                await asyncio.to_thread(file.write, block)
        await asyncio.to_thread(unfinished.replace, target)

    async def _run(self, work: Callable[[Any], Awaitable[_T]]) -> _T:
        try:
            with storage_errors(self._storage):
                if self._store is None:
                    open_files = partial(open_store, self._storage, timeout=_TIMEOUT, connect_timeout="5s")
                    self._store = await asyncio.to_thread(open_files)
                return await work(self._store)
        except OSError as error:
            raise StorageError("store", f"a file cannot be copied: {error.strerror or error}") from error


def list_folder(folder: Path, names: Collection[str] | None) -> dict[str, int]:
    """The sizes of the files of these tables (None: of all) in a folder, by relative path. Blocks. Raises OSError."""
    sizes: dict[str, int] = {}
    for root, _, files in os.walk(folder):
        for name in files:
            path = Path(root) / name
            relative = path.relative_to(folder).as_posix()
            if (table := _table_of(relative)) and (names is None or table in names):
                sizes[relative] = path.stat().st_size
    return sizes


def _table_of(path: str) -> str:
    """The table that a file belongs to; empty if it belongs to none of memories."""
    first, separator, _ = path.partition("/")
    name = first.removesuffix(_SUFFIX)
    return name if separator and first.endswith(_SUFFIX) and bucket_of(name) >= 0 else ""


def _is_there(path: str, size: int, present: Mapping[str, int]) -> bool:
    """True if a file need not be copied again."""
    return path.split("/")[1] == _IMMUTABLE and present.get(path) == size


async def _for_each(work: Callable[[str], Any], paths: Collection[str]) -> None:
    """Work on paths, some of them at once; those that run have ended when one fails."""
    rest = iter(sorted(paths))

    async def work_on_some() -> None:
        for path in rest:
            await work(path)

    workers = [asyncio.ensure_future(work_on_some()) for _ in range(_MAX_FILES_AT_ONCE)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
