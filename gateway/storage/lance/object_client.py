"""A client of object storage for what LanceDB does not do: single objects, and files of tables as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gateway.storage.errors import StorageError
from gateway.storage.lance.object_place import ObjectStorage

__all__ = ["describe_error", "open_store", "storage_errors"]


def open_store(storage: ObjectStorage, *, timeout: str, connect_timeout: str = "3s", retries: int | None = None) -> Any:
    """The store of obstore at an address. `timeout`: of one request; `retries` of one that failed (None: the library's
    default). Blocks. Raises ImportError, and errors of the library."""
    from obstore.store import S3Store  # noqa: PLC0415 — an extra

    return S3Store.from_url(
        storage.uri,
        config=dict(storage.credentials),
        client_options={"timeout": timeout, "connect_timeout": connect_timeout, "allow_http": storage.allow_http},
        retry_config=None if retries is None else {"max_retries": retries},
    )


@contextmanager
def storage_errors(storage: ObjectStorage) -> Iterator[None]:
    """Raise StorageError in words for an error of the library."""
    from obstore.exceptions import BaseError  # noqa: PLC0415 — an extra

    try:
        yield
    except BaseError as error:
        raise StorageError("store", f"{storage.uri}: {describe_error(error)}", is_outage=True) from error


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
