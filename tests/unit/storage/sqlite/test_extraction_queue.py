"""What the extraction queue's file keeps of what was forgotten."""

from pathlib import Path

from gateway.storage.sqlite.extraction_queue import SqliteExtractionQueue
from tests.unit.storage.sql.test_extraction_queue import NOW, SCOPE, noted, said


async def test_what_is_forgotten_leaves_no_name_on_the_disk(tmp_path: Path) -> None:
    agenda = SqliteExtractionQueue(tmp_path / "learning.sqlite")
    await agenda.open(NOW)
    await noted(agenda, said(1, "a very private title"), said(2, "another title"))
    await agenda.forget([SCOPE], "a very private title")
    assert await agenda.counts() == (1, 0)
    assert b"very private" not in b"".join(path.read_bytes() for path in tmp_path.glob("learning.sqlite*"))
    await agenda.forget([SCOPE])
    assert await agenda.counts() == (0, 0)
    await agenda.close()
