"""The local implementations satisfy the interfaces of the storage: mypy checks the assignments below."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from gateway.storage import protocols
from gateway.storage.folder import DataFolder
from gateway.storage.lance.store import MemoryStore
from gateway.storage.local_file import LocalFile
from gateway.storage.rows import RowFormat
from gateway.storage.sqlite.blocks import SqliteBlocks
from gateway.storage.sqlite.extraction_queue import SqliteExtractionQueue
from gateway.storage.sqlite.journal import Journal
from gateway.storage.sqlite.ledger import SqliteLedger
from gateway.storage.sqlite.owners import SqliteOwners
from gateway.storage.sqlite.registry import SqliteRegistry


def parts(folder: Path) -> dict[type[Any], Any]:
    log: protocols.RecordLog = Journal(folder / "journal.sqlite", 1, lambda: None)
    table: protocols.MemoryTable = MemoryStore(DataFolder(folder), RowFormat("e", 4, 2))
    registry: protocols.Registry = SqliteRegistry(folder / "registry.sqlite")
    blocks: protocols.Blocks = SqliteBlocks(folder / "blocks.sqlite")
    queue: protocols.ExtractionQueue = SqliteExtractionQueue(folder / "learning.sqlite")
    owners: protocols.Owners = SqliteOwners(folder / "responses.sqlite")
    ledger: protocols.Ledger = SqliteLedger(folder / "usage.sqlite")
    file: protocols.SmallFile = LocalFile(folder / "small.json")
    return {
        protocols.RecordLog: log,
        protocols.MemoryTable: table,
        protocols.Registry: registry,
        protocols.Blocks: blocks,
        protocols.ExtractionQueue: queue,
        protocols.Owners: owners,
        protocols.Ledger: ledger,
        protocols.SmallFile: file,
    }


@pytest.mark.parametrize(
    "name", ["RecordLog", "MemoryTable", "Registry", "Blocks", "ExtractionQueue", "Owners", "Ledger", "SmallFile"]
)
def test_the_methods_of_an_interface_have_the_parameters_of_its_implementation(name: str, tmp_path: Path) -> None:
    interface = getattr(protocols, name)
    implementation = parts(tmp_path)[interface]
    for method, function in inspect.getmembers(interface, inspect.isfunction):
        if not method.startswith("_"):
            expected = list(inspect.signature(function).parameters)[1:]
            assert list(inspect.signature(getattr(implementation, method)).parameters) == expected, method
