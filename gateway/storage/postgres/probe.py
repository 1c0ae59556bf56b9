"""The check of a database before it is used: what is wrong with it, in words."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from gateway.storage.bucket_numbers import MOVE
from gateway.storage.errors import StorageError
from gateway.storage.move_mark import decode_mark, describe_mark
from gateway.storage.postgres.causes import to_storage_error
from gateway.storage.postgres.connecting import Connection, connect, connected
from gateway.storage.postgres.names import SCHEMA
from gateway.storage.postgres.schema import explain_refusal, newest_format, read_version

__all__ = ["MARK_PLACE", "Findings", "find_move", "find_obstacles", "has_tables", "probe"]

MARK_PLACE: Final = f"the row 'move' of the table {SCHEMA}.documents"
"""Where the mark of a move is."""
_MIN_VERSION: Final = 13
_PATIENCE: Final = 15.0  # seconds
_SOCKETS: Final = 3  # connections that are opened to see whether a pooler is between
_RIGHTS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
_MIN_CONNECTIONS: Final = 50
_GATEWAY_CONNECTIONS: Final = 15  # of one gateway: one for each part of the storage, and one for documents
_SHOWN: Final = ("synchronous_commit", "fsync", "max_connections")


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check has found, in words: `obstacles` keep a gateway from using the database; `advice` does not."""

    obstacles: Sequence[str] = ()
    advice: Sequence[str] = ()


def find_obstacles(database_url: str) -> list[str]:
    """What keeps a gateway from using a database; empty if nothing does. Blocks for seconds."""
    return list(_examine(database_url, lambda connection: Findings(_check_use(connection))).obstacles)


def find_move(database_url: str) -> list[str]:
    """What a move has to do with it that the memory cannot be used; empty if nothing has. Blocks for seconds."""
    return list(_examine(database_url, lambda connection: Findings(_check_move(connection))).obstacles)


def has_tables(database_url: str) -> bool:
    """True if a database has the gateway's tables. Blocks. Raises StorageError."""
    try:
        with connected(database_url, _PATIENCE) as connection:
            return read_version(connection).format > 0
    except psycopg.Error as error:
        raise to_storage_error("database", error) from None


def probe(database_url: str) -> Findings:
    """What keeps a gateway from using a database, and what else should be known of it. Blocks for seconds."""
    return _examine(
        database_url,
        lambda connection: Findings(
            _check_use(connection), [*_check_settings(connection), *_check_pooler(connection, database_url)]
        ),
    )


def _examine(database_url: str, check: Callable[[Connection], Findings]) -> Findings:
    """The findings of a check, or why it could not be made."""
    try:
        with connected(database_url, _PATIENCE) as connection:
            return check(connection)
    except psycopg.Error as error:
        return Findings([str(to_storage_error("journal", error))])
    except StorageError as error:
        return Findings([str(error)])


def _check_use(connection: Connection) -> list[str]:
    return [*_check_server(connection), *_check_schema(connection)]


def _check_server(connection: Connection) -> list[str]:
    problems = []
    if (version := int(_value(connection, "SHOW server_version_num"))) < _MIN_VERSION * 10_000:
        problems.append(f"PostgreSQL {version // 10_000} is too old: version {_MIN_VERSION} or newer is needed")
    if (encoding := _value(connection, "SHOW server_encoding")) != "UTF8":
        problems.append(f"the database's encoding is {encoding}: create it with UTF8")
    if _value(connection, "SELECT pg_is_in_recovery()"):
        problems.append("the database is a standby, which can only be read: name the primary server")
    return problems


def _check_settings(connection: Connection) -> list[str]:
    settings = {name: str(_value(connection, f"SHOW {name}")) for name in _SHOWN}
    problems = []
    if settings["synchronous_commit"] == "off":
        problems.append(
            "synchronous_commit is off: new memories are durable all the same, but a crash of the database can lose "
            "the last changes of other data; turn it on"
        )
    if settings["fsync"] == "off":
        problems.append("fsync is off: a power cut can lose or damage everything; turn it on")
    if int(settings["max_connections"]) < _MIN_CONNECTIONS:
        problems.append(
            f"max_connections is {settings['max_connections']}: each gateway needs up to {_GATEWAY_CONNECTIONS}; "
            f"allow {_MIN_CONNECTIONS} or more"
        )
    return problems


def _check_schema(connection: Connection) -> list[str]:
    if not _value(connection, f"SELECT to_regnamespace('{SCHEMA}') IS NOT NULL"):
        if _value(connection, "SELECT has_database_privilege(current_database(), 'CREATE')"):
            return []
        return [f"the user may not create the schema {SCHEMA}: grant CREATE on the database"]
    if not _value(connection, f"SELECT has_schema_privilege('{SCHEMA}', 'USAGE')"):
        return [f"the user may not use the schema {SCHEMA}: grant it, or name the user that created it"]
    version = read_version(connection)
    if refusal := explain_refusal(version):
        return [refusal]
    rights = (f"has_table_privilege('{SCHEMA}.entries', '{right}')" for right in _RIGHTS)
    if version.format and not _value(connection, f"SELECT {' AND '.join(rights)}"):
        return [f"the user may not read and write the tables of the schema {SCHEMA}"]
    own = newest_format()
    if version.format < own and not _value(connection, f"SELECT has_schema_privilege('{SCHEMA}', 'CREATE')"):
        return [f"the tables have version {version.format}, and the user may not upgrade them to {own}"]
    return []


def _check_move(connection: Connection) -> list[str]:
    if not read_version(connection).format:
        return []
    content = _value(connection, f"SELECT content FROM {SCHEMA}.documents WHERE name='move'")  # noqa: S608 — ours
    if content is not None:
        try:
            return [describe_mark(decode_mark(content), MARK_PLACE)]
        except ValueError as error:
            return [f"{error}: it is {MARK_PLACE}"]
    lease = f"SELECT EXISTS (SELECT 1 FROM {SCHEMA}.leases WHERE bucket={MOVE} AND until>={SCHEMA}.now_seconds())"  # noqa: S608 — ours
    if _value(connection, lease):
        return ["the memory is being moved: wait until `gateway memory move` has ended"]
    return []


def _check_pooler(connection: Connection, url: str) -> list[str]:
    """Whether a pooler gives each transaction another connection: a setting of the session is then seen by others, or
    lost."""
    mark = secrets.token_hex(4)
    connection.execute(f"SET application_name='{mark}'".encode())
    others = [connect(url) for _ in range(_SOCKETS)]
    try:
        other_names = {_value(other, "SHOW application_name") for other in others}
        own_names = {_value(connection, "SHOW application_name") for _ in range(_SOCKETS)}
    finally:
        for other in others:
            other.close()
    if mark in other_names or own_names != {mark} or _hears_nothing(connection):
        return [
            "a pooler in transaction mode seems to be between: it works, but new memories are seen by other gateways "
            "half a second later, and time limits of the session do not apply; connect to the server itself"
        ]
    return []


def _hears_nothing(connection: Connection) -> bool:
    channel = f"probe_{secrets.token_hex(4)}"
    connection.execute(f"LISTEN {channel}".encode())
    connection.execute(f"NOTIFY {channel}".encode())
    notifications = list(connection.notifies(timeout=1.0, stop_after=1))
    connection.execute(f"UNLISTEN {channel}".encode())
    return not notifications


def _value(connection: Connection, statement: str) -> Any:
    row = connection.execute(statement.encode()).fetchone()
    return None if row is None else row[0]
