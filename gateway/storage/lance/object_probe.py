"""Checks that a bucket on object storage can hold a memory, before anything is written there."""

import asyncio
import secrets
from typing import Any

from gateway.config.storage import StorageConfig
from gateway.storage.lance.object_place import ObjectStorage, object_storage

__all__ = ["describe_error", "probe"]

_TIMEOUT = 20.0  # seconds
_FIRST, _SECOND = b"first", b"second"
_NO_LIBRARY = "the extra `cluster` is not installed: pip install 'memory-gateway[cluster]'"


async def probe(uri: str, storage: StorageConfig) -> list[str]:
    """What hinders a memory at an address on S3, in words: empty if its objects can be written, read, listed and
    deleted, and a key is written once only if that is asked for."""
    try:
        store = await asyncio.to_thread(_open, object_storage(uri, storage))
    except ImportError:
        return [_NO_LIBRARY]
    except Exception as error:  # noqa: BLE001 — the library raises many kinds for an invalid address or credentials
        return [f"{uri} cannot be opened: {describe_error(error)}"]
    try:
        async with asyncio.timeout(_TIMEOUT):
            return await _try_all(store, uri)
    except TimeoutError:
        return [f"{uri} does not answer within {_TIMEOUT:g} seconds"]


def _open(storage: ObjectStorage) -> Any:
    from obstore.store import S3Store  # noqa: PLC0415 — an extra

    return S3Store.from_url(
        storage.uri,
        config=dict(storage.credentials),
        # the first write to a new bucket can take long
        client_options={"timeout": "15s", "connect_timeout": "3s", "allow_http": storage.allow_http},
        retry_config={"max_retries": 2},
    )


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


def describe_error(error: Exception) -> str:
    """An error of the library in words, without what a server may have repeated of the request."""
    reasons = {
        "PermissionDeniedError": "the access key has no right to it",
        "UnauthenticatedError": "the access key or its secret is wrong",
        "NotFoundError": "the bucket does not exist",
        "NotSupportedError": "the storage cannot do that",
    }
    reason = reasons.get(type(error).__name__)
    if reason is None:
        text = str(error)
        statuses = {" 403": "PermissionDeniedError", " 401": "UnauthenticatedError", "NoSuchBucket": "NotFoundError"}
        name = next((name for sign, name in statuses.items() if sign in text), "")
        reason = reasons.get(name, "the storage cannot be reached, or answers with an error")
    return reason
