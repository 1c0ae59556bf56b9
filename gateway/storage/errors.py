"""The errors of all parts of the storage."""

__all__ = ["LeaseLost", "StorageError", "failure_name"]


class StorageError(Exception):
    """A part of the storage could not be read or written: the disk is full, the data is damaged, or it is not open.

    `part`: journal, store, registry, blocks, learning, responses or usage. `is_outage`: the whole part is unavailable,
    so that any other operation would have failed too. Rows that could not be written to the store stay in the journal.
    """

    def __init__(self, part: str, message: str, *, is_outage: bool = False) -> None:
        super().__init__(message)
        self.part = part
        self.is_outage = is_outage


class LeaseLost(StorageError):
    """Another process owns these memories now, since this one did not renew its lease in time. Nothing was changed."""


def failure_name(error: BaseException) -> str:
    """The name of an error in logs and metrics, which tells the parts of the storage apart: `StoreFailed`."""
    return f"{error.part.capitalize()}Failed" if isinstance(error, StorageError) else type(error).__name__
