"""The tables and functions in PostgreSQL, and their versions.

`meta.format` is the version of the schema. Later versions only add to it, so that gateways of both versions work beside
each other while a cluster is upgraded, one gateway after the other. The first gateway of a new version upgrades the
schema under a lock, and the others wait for it. `meta.oldest` is the oldest version whose gateways may still be
started: an older one does not start, and those that run go on until they are restarted.

Times are seconds since 1970, by the server's clock where they decide who owns something. Texts are compared by their
bytes (`COLLATE "C"`), as SQLite does.
"""

import time
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from gateway.storage.postgres.functions import FUNCTIONS
from gateway.storage.postgres.names import SCHEMA

__all__ = [
    "MIGRATIONS",
    "SchemaMigration",
    "SchemaVersion",
    "explain_refusal",
    "newest_format",
    "prepare_schema",
    "read_version",
]

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
    at DOUBLE PRECISION NOT NULL, answer BYTEA NOT NULL, is_awaited BOOLEAN NOT NULL
);
CREATE INDEX replays_by_conversation ON {s}.replays (conversation);
CREATE INDEX replays_by_age ON {s}.replays (at);
CREATE TABLE {s}.running_chats (
    fingerprint TEXT COLLATE "C" PRIMARY KEY, claim TEXT NOT NULL, until DOUBLE PRECISION NOT NULL,
    is_awaited BOOLEAN NOT NULL
);
CREATE INDEX running_chats_by_age ON {s}.running_chats (until);

CREATE TABLE {s}.catalog (bucket INTEGER PRIMARY KEY, tables BYTEA NOT NULL);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaMigration:
    """A step from one version of the schema to the next. `oldest`: the oldest version whose gateways may still be
    started; those that run go on in any case, so the script only adds."""

    script: str
    oldest: int


MIGRATIONS: tuple[SchemaMigration, ...] = (SchemaMigration(script=_FIRST, oldest=1),)
"""All migrations in order; the first one creates version 1. New ones are put at the end."""
_LOCK: Final = 7_460_231_001  # of this schema, among the advisory locks of the database
_SET: Final = (
    f"INSERT INTO {SCHEMA}.meta VALUES (%s, %s) "  # noqa: S608 — names of our own
    "ON CONFLICT (name) DO UPDATE SET value=greatest(meta.value, excluded.value)"
)
_POLL: Final = 0.25  # seconds


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """The version of the schema in a database (0: there is none), and the oldest one whose gateways may be started."""

    format: int
    oldest: int


def newest_format() -> int:
    """The version of the schema that this gateway creates."""
    return len(MIGRATIONS)


def read_version(connection: psycopg.Connection[Any]) -> SchemaVersion:
    """The version of the schema. Raises psycopg.Error."""
    if not _value(connection, f"SELECT to_regclass('{SCHEMA}.meta') IS NOT NULL"):
        return SchemaVersion(0, 0)
    rows = connection.execute(f"SELECT name, value FROM {SCHEMA}.meta WHERE name IN ('format', 'oldest')".encode())  # noqa: S608 — ours
    values = dict(rows.fetchall())
    version = int(values.get("format", 0))
    return SchemaVersion(version, int(values.get("oldest", version)))


def prepare_schema(connection: psycopg.Connection[Any], *, wait: float = 45.0) -> None:
    """Create or upgrade the schema, if it is not of this version or a later one. While gateways run, their transactions
    can be in the way for `wait` seconds. Blocks. Raises psycopg.Error."""
    limit = time.monotonic() + wait
    while read_version(connection).format < newest_format():
        try:
            _upgrade(connection)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if time.monotonic() > limit:
                raise
            time.sleep(_POLL)  # in the thread of the database


def _upgrade(connection: psycopg.Connection[Any]) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout='40s'; SET LOCAL statement_timeout='50s'")
        connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        connection.execute("SET LOCAL lock_timeout='1s'")  # statements of other gateways queue behind this one
        if not _value(connection, f"SELECT to_regnamespace('{SCHEMA}') IS NOT NULL"):
            connection.execute(f"CREATE SCHEMA {SCHEMA}".encode())
        version = read_version(connection).format
        missing = MIGRATIONS[version:]  # none, if another gateway has upgraded it, perhaps to a later version
        for script in (*(migration.script for migration in missing), FUNCTIONS) if missing else ():
            connection.execute(script.replace("{s}", SCHEMA).encode())
        if missing:
            connection.execute(_SET.encode(), ("format", newest_format()))
            connection.execute(_SET.encode(), ("oldest", max(migration.oldest for migration in missing)))


def explain_refusal(version: SchemaVersion) -> str:
    """Why this gateway cannot use a schema of a later version; empty if it can."""
    own = newest_format()
    if version.format <= own or version.oldest <= own:
        return ""
    return (
        f"the database has version {version.format} of the tables, which need a gateway of version {version.oldest} or "
        f"later; this gateway has version {own}: use a newer gateway"
    )


def _value(connection: psycopg.Connection[Any], statement: str) -> Any:
    row = connection.execute(statement.encode()).fetchone()
    return None if row is None else row[0]
