import json
import math
from pathlib import Path

import pytest

from gateway.storage.lance.catalog import TableEntry, bucket_of, decode, encode, new_name, number_of
from gateway.storage.lance.file_catalog import FileCatalog
from gateway.storage.rows import RowFormat

MADE = RowFormat("e", 4, 2)


def test_what_was_put_is_read_again(tmp_path: Path) -> None:
    catalog = FileCatalog(tmp_path / "tables.json")
    catalog.read([], MADE)
    assert catalog.tables(3) == ()
    entries = (TableEntry("memories_003_2", MADE, is_settled=True), TableEntry("memories_003_1_ab12cd34", MADE))
    catalog.put(3, entries)
    again = FileCatalog(tmp_path / "tables.json")
    again.read(["memories_009"], RowFormat("another", 8, 1))
    assert again.tables(3) == entries
    assert again.names == {"memories_003_2", "memories_003_1_ab12cd34"}


def test_no_name_is_used_twice() -> None:
    names = {new_name(3, [TableEntry("memories_003_2", MADE)]) for _ in range(100)}
    assert len(names) == 100
    assert {number_of(name) for name in names} == {3}
    assert {bucket_of(name) for name in names} == {3}


@pytest.mark.parametrize(
    "entry",
    [
        TableEntry("memories_003_2", MADE, is_settled=True, rows=7),
        TableEntry("memories_003_2", MADE, rows=7, version=3, oldest=1.5, changed_at=math.inf),
    ],
)
def test_an_entry_is_the_same_after_its_journey_as_json(entry: TableEntry) -> None:
    assert decode(json.loads(json.dumps(encode(entry)))) == entry


def test_without_a_catalog_each_table_is_a_bucket(tmp_path: Path) -> None:
    catalog = FileCatalog(tmp_path / "tables.json")
    catalog.read(["memories_000", "memories_012", "another"], MADE)
    assert catalog.names == {"memories_000", "memories_012"}
    assert catalog.tables(12) == (TableEntry("memories_012", MADE),)


def test_what_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    catalog = FileCatalog(tmp_path / "missing" / "tables.json")
    catalog.read([], MADE)
    with pytest.raises(OSError, match="missing"):
        catalog.put(0, [TableEntry("memories_000_1", MADE)])
    assert catalog.tables(0) == ()


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"buckets": {"0": [{}]}}', b'{"buckets"'])
def test_a_lost_or_damaged_catalog_is_reported_and_names_no_table(tmp_path: Path, content: bytes | None) -> None:
    catalog = FileCatalog(tmp_path / "tables.json")
    if content is not None:
        (tmp_path / "tables.json").write_bytes(content)
    assert not catalog.read(["memories_000_1"], MADE)
    assert catalog.tables(0) == ()
