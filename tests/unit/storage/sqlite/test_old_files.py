"""Files written before schemas had versions are adopted as they are: one of each database, by its statements then."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.storage.sqlite.blocks import SqliteBlocks
from gateway.storage.sqlite.extraction_queue import SqliteExtractionQueue
from gateway.storage.sqlite.journal import Journal
from gateway.storage.sqlite.ledger import SqliteLedger
from gateway.storage.sqlite.owners import SqliteOwners
from gateway.storage.sqlite.registry import SqliteRegistry
from gateway.storage.values import DIMENSIONS, DueConversation, KeptBlock, Owner

OLD = {
    "journal": [
        "CREATE TABLE entries (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, state INTEGER NOT NULL, "
        "tries INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0, at REAL NOT NULL, payload BLOB)",
        "INSERT INTO entries (id, state, at, payload) VALUES ('x', 1, 0, NULL)",
    ],
    "registry": [
        "CREATE TABLE scopes (value TEXT PRIMARY KEY, tenant TEXT NOT NULL, cube_id TEXT NOT NULL, kind TEXT NOT NULL, "
        "owner TEXT NOT NULL) WITHOUT ROWID",
        "INSERT INTO scopes VALUES ('s', 't', 'c', 'user', 'ada')",
    ],
    "blocks": [
        "CREATE TABLE blocks (scope TEXT NOT NULL, session TEXT NOT NULL, turn TEXT NOT NULL, at REAL NOT NULL, "
        "memories BLOB NOT NULL, tokens INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (scope, session, turn)) "
        "WITHOUT ROWID",
        "INSERT INTO blocks VALUES ('s', 'c', 'turn', 9e9, '{\"m\": 1}', 3, 'text')",
    ],
    "responses": [
        "CREATE TABLE owners (id TEXT PRIMARY KEY, tenant TEXT NOT NULL, user TEXT, upstream TEXT NOT NULL, "
        "session TEXT, at REAL NOT NULL) WITHOUT ROWID",
        "INSERT INTO owners VALUES ('resp_1', 't', 'ada', 'u', NULL, 9e9)",
    ],
    "learning": [
        "CREATE TABLE messages (seq INTEGER PRIMARY KEY, scope TEXT NOT NULL, session TEXT NOT NULL, id TEXT NOT NULL, "
        "tokens INTEGER NOT NULL, aside INTEGER NOT NULL)",
        "INSERT INTO messages VALUES (7, 's', 'c', 'm', 5, 0)",
    ],
    "usage": [  # the oldest files have no columns for the cost
        "CREATE TABLE used (hour INTEGER NOT NULL, tenant TEXT NOT NULL, key TEXT NOT NULL, user TEXT NOT NULL, "
        "model TEXT NOT NULL, upstream TEXT NOT NULL, requests INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, "
        "cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, estimated_tokens INTEGER NOT NULL, "
        "PRIMARY KEY (hour, tenant, key, user, model, upstream)) WITHOUT ROWID",
        "INSERT INTO used VALUES (3600, 't', 'k', 'ada', 'm', 'u', 1, 10, 0, 5, 0)",
    ],
}


@pytest.fixture
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"{request.param}.sqlite"
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in OLD[request.param]:
        connection.execute(statement)
    assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    connection.close()
    return path


def version_of(path: Path) -> Any:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("PRAGMA user_version").fetchone()[0]
    finally:
        connection.close()


@pytest.mark.parametrize("old", ["journal"], indirect=True)
async def test_the_journal(old: Path) -> None:
    journal = Journal(old, 10**9, lambda: None)
    await journal.open()
    assert await journal.position() == (1, 2)
    await journal.close()
    assert version_of(old) == 2


@pytest.mark.parametrize("old", ["registry"], indirect=True)
async def test_the_registry(old: Path) -> None:
    registry = SqliteRegistry(old)
    await registry.open()
    assert [scope.owner for scope in await registry.scopes()] == ["ada"]
    assert await registry.tasks("t") == [], "missing tables are created"
    await registry.close()
    assert version_of(old) == 1


@pytest.mark.parametrize("old", ["blocks"], indirect=True)
async def test_the_blocks(old: Path) -> None:
    blocks = SqliteBlocks(old)
    await blocks.open()
    assert await blocks.of("s", "c") == {"turn": KeptBlock("text", 3, {"m": 1})}
    await blocks.close()
    assert version_of(old) == 1


@pytest.mark.parametrize("old", ["responses"], indirect=True)
async def test_the_owners_of_responses(old: Path) -> None:
    owners = SqliteOwners(old)
    await owners.open()
    assert await owners.get("resp_1") == Owner("t", "ada", "u", None)
    await owners.close()
    assert version_of(old) == 1


@pytest.mark.parametrize("old", ["learning"], indirect=True)
async def test_the_extraction_queue(old: Path) -> None:
    queue = SqliteExtractionQueue(old)
    await queue.open(1.0)
    assert await queue.waiting(DueConversation("s", "c", 0, ""), 9) == [(7, "m")]
    await queue.close()
    assert version_of(old) == 1


@pytest.mark.parametrize("old", ["usage"], indirect=True)
async def test_the_usage(old: Path) -> None:
    ledger = SqliteLedger(old)
    await ledger.open()
    (row,) = await ledger.read(DIMENSIONS, tenant="t", since=0, until=7200, only={})
    assert (row["prompt_tokens"], row["cost"], row["priced"]) == (10, 0, 0)
    await ledger.close()
    assert version_of(old) == 1
