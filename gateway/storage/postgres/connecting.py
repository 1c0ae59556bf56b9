"""Connections to PostgreSQL, and the translation of statements to its dialect."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import psycopg

from gateway.storage.postgres.names import FUNCTION_NAMES, SCHEMA, TABLES

__all__ = ["Connection", "break_connection", "connect", "connected", "decode_rows", "encode_values", "translate"]

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"
_CONNECT_TIMEOUT = 3  # seconds
# for a gateway that stops in the middle of something; its own limits are shorter
_SESSION = "SET statement_timeout='10s'; SET lock_timeout='4s'; SET idle_in_transaction_session_timeout='10s'"
_TABLE = re.compile(rf"\b(FROM|INTO|UPDATE|JOIN)\s+({'|'.join(TABLES)})\b")
_FUNCTION = re.compile(rf"\b({'|'.join(FUNCTION_NAMES)})\(")


def connect(url: str) -> Connection:
    """A connection that commits each statement. Blocks. Raises psycopg.Error."""
    connection: Connection = psycopg.connect(
        url,
        autocommit=True,
        prepare_threshold=None,  # a pooler may give the next statement to another server process
        connect_timeout=_CONNECT_TIMEOUT,
        application_name="memory-gateway",
        client_encoding="utf8",
        keepalives_idle=15,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=10_000,
    )
    try:
        connection.execute(_SESSION)
    except BaseException:
        connection.close()
        raise
    return connection


def break_connection(connection: Connection) -> None:
    """Shut its socket down, from any thread: whatever waits for the server fails."""
    with contextlib.suppress(OSError, psycopg.Error):
        copy = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        with copy:
            copy.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def connected(url: str, seconds: float) -> Iterator[Connection]:
    """A connection for a block, which is broken if that takes longer: a server that is frozen never answers. Blocks.
    Raises psycopg.Error."""
    with connect(url) as connection:
        timer = threading.Timer(seconds, break_connection, [connection])
        timer.start()
        try:
            yield connection
        finally:
            timer.cancel()


@lru_cache(256)
def translate(statement: str) -> str:
    """A statement in the common dialect for PostgreSQL: with its placeholders and the gateway's schema."""
    qualified = _FUNCTION.sub(rf"{SCHEMA}.\1(", _TABLE.sub(rf"\1 {SCHEMA}.\2", statement))
    return qualified.replace("%", "%%").replace("?", "%s")


# PostgreSQL's texts take no NUL. It is written as two other characters; the first of them is, too, so that the way back
# is exact.
_ESCAPE = str.maketrans({"\0": "\x010", "\x01": "\x011"})
_ESCAPED = re.compile("\x01([01])")


def encode_values(values: Sequence[Any]) -> Sequence[Any]:
    """Values of a statement, also those in lists, without characters that PostgreSQL refuses."""
    if any(map(_needs_escape, values)):
        return [_encode(value) for value in values]
    return values


def _needs_escape(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value or "\x01" in value
    return isinstance(value, list) and any(map(_needs_escape, value))


def _encode(value: Any) -> Any:
    if isinstance(value, list):
        return [_encode(item) for item in value]
    return value.translate(_ESCAPE) if isinstance(value, str) else value


def decode_rows(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows as they were written."""
    return [
        tuple(map(_decode, row)) if any(isinstance(value, str) and "\x01" in value for value in row) else row
        for row in rows
    ]


def _decode(value: Any) -> Any:
    return _ESCAPED.sub(lambda match: "\0\x01"[int(match[1])], value) if isinstance(value, str) else value
