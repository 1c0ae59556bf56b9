"""Small documents in the database."""

import pytest

from gateway.storage.postgres.documents import SharedDocument
from gateway.storage.protocols import SmallFile
from tests.cluster.tables import PostgresTables


async def test_a_document_is_replaced_as_a_whole_and_read_by_others(database_url: str) -> None:
    blocks = PostgresTables(database_url).blocks()
    await blocks.open()  # with the tables
    first: SmallFile = SharedDocument(database_url, "scales.json")
    other = SharedDocument(database_url, "scales.json")
    with pytest.raises(FileNotFoundError, match=r"scales\.json in the database was never written"):
        first.read()
    first.write(b"one\0")
    assert other.read() == b"one\0"
    other.write(b"")
    assert first.read() == b""
    with pytest.raises(FileNotFoundError):
        SharedDocument(database_url, "other.json").read()
    await blocks.close()


def test_a_database_that_is_away_is_an_error_of_a_file(database_url: str) -> None:
    with pytest.raises(OSError, match="cannot be reached") as caught:
        SharedDocument(database_url.replace("@127.0.0.1:", "@127.0.0.1:1"), "scales.json").read()
    assert not isinstance(caught.value, FileNotFoundError)
    assert "a-password-of-tests" not in str(caught.value)
