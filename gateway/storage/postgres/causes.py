"""The causes of PostgreSQL's errors in words. The messages of the server and the driver are not used: they may contain
an address with its password, or values of a row."""

import psycopg

from gateway.storage.errors import LeaseLost, StorageError
from gateway.storage.postgres.names import LEASE_LOST

__all__ = ["is_conflict", "to_storage_error"]

# serialization failure, deadlock, unique violation (two wrote the same new row, which ON CONFLICT sees for one key
# only): nothing was changed, and a repetition may succeed
_CONFLICTS = ("40001", "40P01", "23505")
_WORDS = {
    "28000": "the database does not admit this user",
    "28P01": "the database does not accept the user's password",
    "3D000": "there is no such database",
    "42501": "the database's user lacks a right",
    "53100": "the database's disk is full",
    "53300": "the database has too many connections",
    "55P03": "the database was locked for too long",
    "57014": "the database took too long",
    "57P01": "the database is shutting down",
    "57P02": "the database has crashed",
    "57P03": "the database is starting",
    "25006": "the database can only be read: it is a standby",
}
_OUTAGES = ("08", "53", "57", "58", "28", "3D")  # classes of SQLSTATE that concern all statements
_UNREACHABLE = "the database cannot be reached"
# a refused connection has no SQLSTATE: its English message is looked at, and not shown
_REFUSALS = {
    "password authentication failed": "28P01",
    "no password supplied": "28P01",
    "no pg_hba.conf entry": "28000",
    "is not permitted to log in": "28000",
    "too many": "53300",
    "starting up": "57P03",
    "shutting down": "57P01",
    "recovery mode": "57P03",
    'FATAL:  database "': "3D000",
    'FATAL:  role "': "28000",
}


def is_conflict(error: psycopg.Error) -> bool:
    """True if a transaction met another one, and can be repeated."""
    return error.sqlstate in _CONFLICTS


def to_storage_error(part: str, error: psycopg.Error) -> StorageError:
    """The error of the storage for an error of the driver."""
    state = error.sqlstate
    if state == LEASE_LOST:
        return LeaseLost(part, "another gateway owns these memories now")
    if state is None:
        if isinstance(error, psycopg.OperationalError):
            return StorageError(part, _explain_refusal(str(error)), is_outage=True)
        if isinstance(error, psycopg.ProgrammingError):
            return StorageError(part, "the address of the database cannot be read", is_outage=True)
        return StorageError(part, f"the database refused a value ({type(error).__name__})")
    words = _WORDS.get(state, f"the database refused a statement ({type(error).__name__})")
    return StorageError(part, f"{words} [{state}]", is_outage=state.startswith(_OUTAGES))


def _explain_refusal(message: str) -> str:
    state = next((state for phrase, state in _REFUSALS.items() if phrase in message), None)
    return _UNREACHABLE if state is None else f"{_WORDS[state]} [{state}]"
