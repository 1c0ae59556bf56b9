"""The object that says which memory a place on object storage has."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import orjson

from gateway.storage.errors import StorageError
from gateway.storage.lance.object_client import open_store, storage_errors
from gateway.storage.lance.object_place import ObjectStorage
from gateway.storage.place_mark import MARK_NAME

__all__ = ["ObjectMark"]

_T = TypeVar("_T")
_TIMEOUT: Final = 20.0  # seconds


class ObjectMark:
    """The object. Every method raises StorageError."""

    def __init__(self, storage: ObjectStorage) -> None:
        self._storage = storage

    async def read(self) -> str | None:
        """The id of the memory at the place; None if it has no mark."""

        async def work(store: Any) -> bytes | None:
            try:
                return bytes(await (await store.get_async(MARK_NAME)).bytes_async())
            except FileNotFoundError:
                return None

        content = await self._run(work)
        if content is None:
            return None
        try:
            return str(orjson.loads(content)["id"])
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError("store", f"the object {MARK_NAME} at {self._storage.uri} cannot be read") from error

    async def create(self, memory_id: str) -> None:
        """Mark the place, unless it has a mark."""
        content = orjson.dumps({"id": memory_id})

        async def work(store: Any) -> None:
            from obstore.exceptions import AlreadyExistsError  # noqa: PLC0415 — an extra

            with contextlib.suppress(AlreadyExistsError):  # by another gateway at the same moment
                await store.put_async(MARK_NAME, content, mode="create")

        await self._run(work)

    async def _run(self, work: Callable[[Any], Awaitable[_T]]) -> _T:
        try:
            with storage_errors(self._storage):
                async with asyncio.timeout(_TIMEOUT):
                    # the first write to a bucket can take long
                    return await work(await asyncio.to_thread(open_store, self._storage, timeout="15s", retries=2))
        except TimeoutError as error:
            raise StorageError("store", f"{self._storage.uri} does not answer", is_outage=True) from error
