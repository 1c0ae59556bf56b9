"""Checks that a bucket on object storage can hold a memory, before anything is written there."""

import asyncio
import secrets
from typing import Any

from gateway.config.storage import StorageConfig
from gateway.storage.lance.object_client import describe_error, open_store
from gateway.storage.lance.object_place import object_storage

__all__ = ["probe"]

_TIMEOUT = 20.0  # seconds
_FIRST, _SECOND = b"first", b"second"
_NO_LIBRARY = "the extra `cluster` is not installed: pip install 'memory-gateway[cluster]'"


async def probe(uri: str, storage: StorageConfig) -> list[str]:
    """What hinders a memory at an address on S3, in words: empty if its objects can be written, read, listed and
    deleted, and a key is written once only if that is asked for."""
    try:
        # the first write to a new bucket can take long
        store = await asyncio.to_thread(open_store, object_storage(uri, storage), timeout="15s", retries=2)
    except ImportError:
        return [_NO_LIBRARY]
    except Exception as error:  # noqa: BLE001 — the library raises many kinds for an invalid address or credentials
        return [f"{uri} cannot be opened: {describe_error(error)}"]
    try:
        async with asyncio.timeout(_TIMEOUT):
            return await _try_all(store, uri)
    except TimeoutError:
        return [f"{uri} does not answer within {_TIMEOUT:g} seconds"]


async def _try_all(store: Any, uri: str) -> list[str]:
    from obstore.exceptions import AlreadyExistsError, BaseError  # noqa: PLC0415 — an extra

    problems: list[str] = []
    key = f"probe/{secrets.token_hex(8)}"
    try:
        await store.put_async(key, _FIRST, mode="create")
    except BaseError as error:
        return [f"{uri} cannot be written: {describe_error(error)}"]
    try:
        await store.put_async(key, _SECOND, mode="create")
        problems.append(
            f"{uri} does not honour `If-None-Match: *`: two gateways could overwrite each other's writes; "
            "use a storage that does"
        )
    except AlreadyExistsError:
        pass
    except BaseError as error:
        problems.append(f"{uri} refuses a write with `If-None-Match: *`: {describe_error(error)}")
    try:
        content = bytes(await (await store.get_async(key)).bytes_async())
        if content not in (_FIRST, _SECOND):
            problems.append(f"{uri} gives another content than was written")
    except BaseError as error:
        problems.append(f"{uri} cannot be read: {describe_error(error)}")
    try:
        listed = [entry["path"] async for page in store.list(prefix="probe") for entry in page]
        if key not in listed:
            problems.append(f"{uri} does not list an object that was just written")
    except BaseError as error:
        problems.append(f"{uri} cannot be listed: {describe_error(error)}")
    try:
        await store.delete_async(key)
    except BaseError as error:
        problems.append(f"{uri}: objects cannot be deleted: {describe_error(error)}")
    return problems
