"""The tables and functions in PostgreSQL, and their versions.

`meta.format` is the version of the schema. Later versions only add to it, so that gateways of both versions work beside
each other while a cluster is upgraded, one gateway after the other. A gateway creates or upgrades the schema under a
lock; one that finds a later version than its own does not start.

Times are seconds since 1970, by the server's clock where they decide who owns something. Texts are compared by their
bytes (`COLLATE "C"`), as SQLite does.
"""

import time
from typing import Any, Final

import psycopg

from gateway.storage.errors import StorageError
from gateway.storage.postgres.functions import FUNCTIONS
from gateway.storage.postgres.names import FORMAT, SCHEMA

__all__ = ["prepare_schema", "read_format"]

_FIRST: Final = """
CREATE TABLE {s}.meta (name TEXT PRIMARY KEY, value BIGINT NOT NULL);

CREATE TABLE {s}.scopes (
    value TEXT COLLATE "C" PRIMARY KEY, tenant TEXT COLLATE "C" NOT NULL, cube_id TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL, owner TEXT COLLATE "C" NOT NULL
);
CREATE INDEX scopes_by_cube ON {s}.scopes (tenant, cube_id);
CREATE INDEX scopes_by_owner ON {s}.scopes (tenant, owner);
CREATE TABLE {s}.items (
    tenant TEXT COLLATE "C" NOT NULL, kind TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL,
    at DOUBLE PRECISION NOT NULL, value BYTEA NOT NULL, PRIMARY KEY (tenant, kind, id)
);
CREATE TABLE {s}.files (
    tenant TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL, cube_id TEXT COLLATE "C" NOT NULL,
    name TEXT NOT NULL, size BIGINT NOT NULL, kind TEXT NOT NULL, status TEXT NOT NULL, error TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL, content BYTEA, rowid BIGINT GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX files_by_cube ON {s}.files (tenant, cube_id, at);
CREATE TABLE {s}.tasks (
    tenant TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL, "user" TEXT COLLATE "C" NOT NULL,
    cube_id TEXT NOT NULL, status TEXT NOT NULL, seq BIGINT NOT NULL, at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (tenant, "user", id)
);
CREATE INDEX tasks_by_age ON {s}.tasks (at);

CREATE TABLE {s}.blocks (
    scope TEXT COLLATE "C" NOT NULL, session TEXT COLLATE "C" NOT NULL, turn TEXT COLLATE "C" NOT NULL,
    at DOUBLE PRECISION NOT NULL, memories BYTEA NOT NULL, tokens BIGINT NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (scope, session, turn)
);
CREATE INDEX blocks_by_age ON {s}.blocks (at);

CREATE TABLE {s}.used (
    hour BIGINT NOT NULL, tenant TEXT COLLATE "C" NOT NULL, "key" TEXT COLLATE "C" NOT NULL,
    "user" TEXT COLLATE "C" NOT NULL, model TEXT COLLATE "C" NOT NULL, upstream TEXT COLLATE "C" NOT NULL,
    requests BIGINT NOT NULL, prompt_tokens BIGINT NOT NULL, cached_tokens BIGINT NOT NULL,
    completion_tokens BIGINT NOT NULL, estimated_tokens BIGINT NOT NULL, cost DOUBLE PRECISION NOT NULL,
    priced BIGINT NOT NULL, PRIMARY KEY (hour, tenant, "key", "user", model, upstream)
);

CREATE TABLE {s}.owners (
    id TEXT COLLATE "C" PRIMARY KEY, tenant TEXT COLLATE "C" NOT NULL, "user" TEXT COLLATE "C", upstream TEXT NOT NULL,
    session TEXT, at DOUBLE PRECISION NOT NULL
);
CREATE INDEX owners_by_age ON {s}.owners (at);

CREATE TABLE {s}.messages (
    seq BIGINT PRIMARY KEY, scope TEXT COLLATE "C" NOT NULL, session TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL, tokens BIGINT NOT NULL, aside INTEGER NOT NULL
);
CREATE INDEX messages_by_conversation ON {s}.messages (scope, session, aside, seq);
CREATE TABLE {s}.conversations (
    scope TEXT COLLATE "C" NOT NULL, session TEXT COLLATE "C" NOT NULL, due DOUBLE PRECISION NOT NULL,
    tries BIGINT NOT NULL, reason TEXT NOT NULL, before TEXT NOT NULL, PRIMARY KEY (scope, session)
);
CREATE INDEX conversations_by_due ON {s}.conversations (due);
CREATE TABLE {s}.spent (
    scope TEXT COLLATE "C" NOT NULL, day BIGINT NOT NULL, tokens BIGINT NOT NULL, cost DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (scope, day)
);
CREATE TABLE {s}.places (name TEXT PRIMARY KEY, value DOUBLE PRECISION NOT NULL);

CREATE TABLE {s}.entries (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id TEXT COLLATE "C" NOT NULL UNIQUE, bucket INTEGER NOT NULL,
    scope TEXT COLLATE "C" NOT NULL, state SMALLINT NOT NULL DEFAULT 0, tries SMALLINT NOT NULL DEFAULT 0,
    due DOUBLE PRECISION NOT NULL DEFAULT 0, at DOUBLE PRECISION NOT NULL, is_tombstone BOOLEAN NOT NULL,
    payload BYTEA, embedder TEXT, vector BYTEA
);
CREATE INDEX entries_to_store ON {s}.entries (bucket, seq) WHERE state<>1;
CREATE INDEX entries_of_scope ON {s}.entries (scope, seq) WHERE state<>1;
CREATE INDEX entries_with_text ON {s}.entries (seq) WHERE state=1 AND payload IS NOT NULL;
CREATE INDEX entries_done ON {s}.entries (at) WHERE state=1;
CREATE TABLE {s}.claims (
    fingerprint BYTEA PRIMARY KEY, turn TEXT COLLATE "C" NOT NULL, scope TEXT COLLATE "C" NOT NULL,
    at DOUBLE PRECISION NOT NULL, until DOUBLE PRECISION NOT NULL
);
CREATE INDEX claims_by_scope ON {s}.claims (scope);
CREATE INDEX claims_by_age ON {s}.claims (until);

CREATE TABLE {s}.leases (
    bucket INTEGER PRIMARY KEY, epoch BIGINT NOT NULL, owner TEXT NOT NULL, until DOUBLE PRECISION NOT NULL,
    since BIGINT NOT NULL, UNIQUE (bucket, epoch)
);
CREATE TABLE {s}.counters (
    name TEXT COLLATE "C" PRIMARY KEY, n DOUBLE PRECISION NOT NULL, until DOUBLE PRECISION NOT NULL
);
CREATE INDEX counters_by_age ON {s}.counters (until);
CREATE TABLE {s}.documents (name TEXT PRIMARY KEY, content BYTEA NOT NULL);

CREATE TABLE {s}.mail (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, recipient TEXT NOT NULL, kind TEXT NOT NULL,
    value BYTEA NOT NULL, at DOUBLE PRECISION NOT NULL
);
CREATE INDEX mail_by_recipient ON {s}.mail (recipient, id);
CREATE TABLE {s}.openings (
    scope TEXT COLLATE "C" NOT NULL, opening TEXT COLLATE "C" NOT NULL, session TEXT COLLATE "C" NOT NULL,
    at DOUBLE PRECISION NOT NULL, answer TEXT NOT NULL, is_continued BOOLEAN NOT NULL,
    PRIMARY KEY (scope, opening, session)
);
CREATE INDEX openings_by_age ON {s}.openings (at);
CREATE TABLE {s}.replays (
    fingerprint TEXT COLLATE "C" PRIMARY KEY, conversation TEXT COLLATE "C" NOT NULL,
    at DOUBLE PRECISION NOT NULL, answer BYTEA NOT NULL
);
CREATE INDEX replays_by_conversation ON {s}.replays (conversation);
CREATE INDEX replays_by_age ON {s}.replays (at);

CREATE TABLE {s}.catalog (bucket INTEGER PRIMARY KEY, tables BYTEA NOT NULL);
"""
_RUNNING_CHATS: Final = """
CREATE TABLE {s}.running_chats (
    fingerprint TEXT COLLATE "C" PRIMARY KEY, claim TEXT NOT NULL, until DOUBLE PRECISION NOT NULL,
    is_awaited BOOLEAN NOT NULL
);
CREATE INDEX running_chats_by_age ON {s}.running_chats (until);
ALTER TABLE {s}.replays ADD COLUMN is_awaited BOOLEAN NOT NULL DEFAULT FALSE;
"""
_VERSIONS: Final = (_FIRST, _RUNNING_CHATS)
_LOCK: Final = 7_460_231_001  # of this schema, among the advisory locks of the database
_SET_FORMAT: Final = (
    f"INSERT INTO {SCHEMA}.meta VALUES ('format', {FORMAT}) "  # noqa: S608 — names and numbers of our own
    "ON CONFLICT (name) DO UPDATE SET value=excluded.value"
)
_POLL: Final = 0.25  # seconds


def read_format(connection: psycopg.Connection[Any]) -> int:
    """The version of the schema; 0 if there is none. Raises psycopg.Error."""
    if _value(connection, f"SELECT to_regclass('{SCHEMA}.meta') IS NOT NULL"):
        return int(_value(connection, f"SELECT coalesce(max(value), 0) FROM {SCHEMA}.meta WHERE name='format'"))  # noqa: S608 — ours
    return 0


def prepare_schema(
    connection: psycopg.Connection[Any], part: str, *, may_upgrade: bool = True, wait: float = 50.0
) -> None:
    """Create or upgrade the schema; without `may_upgrade`, wait until another gateway has done so. Blocks. Raises
    StorageError if its version is a later one, or if nobody upgrades it; psycopg.Error."""
    limit = time.monotonic() + wait
    while (version := read_format(connection)) < FORMAT:
        if may_upgrade:
            _upgrade(connection, part)
        elif time.monotonic() > limit:
            raise StorageError(part, f"the database has version {version}, and no gateway upgrades it to {FORMAT}")
        else:
            time.sleep(_POLL)  # in the thread of the database
    _check(version, part)


def _upgrade(connection: psycopg.Connection[Any], part: str) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout='40s'; SET LOCAL statement_timeout='50s'")
        connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        if not _value(connection, f"SELECT to_regnamespace('{SCHEMA}') IS NOT NULL"):
            connection.execute(f"CREATE SCHEMA {SCHEMA}".encode())
        version = read_format(connection)
        _check(version, part)
        for script in (*_VERSIONS[version:], FUNCTIONS) if version < FORMAT else ():
            connection.execute(script.replace("{s}", SCHEMA).encode())
        connection.execute(_SET_FORMAT.encode())


def _check(version: int, part: str) -> None:
    if version > FORMAT:
        raise StorageError(
            part, f"the database has version {version}; this version of the gateway reads {FORMAT}: use a newer one"
        )


def _value(connection: psycopg.Connection[Any], statement: str) -> Any:
    row = connection.execute(statement.encode()).fetchone()
    return None if row is None else row[0]
