"""Files of tables are copied to object storage and back; what is there already is not copied again."""

import asyncio
import shutil
from pathlib import Path

import pytest

from gateway.storage.errors import StorageError
from gateway.storage.lance.object_files import ObjectFiles, list_folder
from gateway.storage.lance.object_place import ObjectStorage
from tests.fakes.s3_proxy import FaultyS3

FIRST, SECOND = "memories_000_1_ab", "memories_001_1_cd"
FILES = {
    f"{FIRST}.lance/data/a.lance": b"a" * 100,
    f"{FIRST}.lance/_versions/1.manifest": b"first",
    f"{SECOND}.lance/data/b.lance": b"",
    f"{SECOND}.lance/_indices/x/page.lance": b"index",
}
OTHERS = ("probe", "other.lance/data/c.lance", "memories_002_1_ef.lance/data/d.lance")


def ignore(count: int) -> None:
    """Counts nothing."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two tables that are copied, and files that are not."""
    folder = tmp_path / "lance"
    for path, content in [*FILES.items(), *((path, b"other") for path in OTHERS)]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


async def read(folder: Path) -> dict[str, bytes]:
    return await asyncio.to_thread(lambda: {path: (folder / path).read_bytes() for path in list_folder(folder, None)})


async def write(path: Path, content: bytes) -> None:
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    await asyncio.to_thread(path.write_bytes, content)


async def test_tables_are_copied_to_object_storage_and_back(
    storage: ObjectStorage, folder: Path, tmp_path: Path
) -> None:
    files, totals, copied = ObjectFiles(storage), list[int](), list[int]()
    assert await files.list() == {}
    await files.upload(folder, {FIRST, SECOND}, totals.append, copied.append)
    assert await files.list() == {path: len(content) for path, content in FILES.items()}
    assert totals == [sum(copied)] == [sum(map(len, FILES.values()))]
    back = tmp_path / "back"
    await ObjectFiles(storage).download(back, {FIRST, SECOND}, ignore, ignore)
    assert await read(back) == FILES


async def test_an_interrupted_copy_goes_on_and_removes_what_is_no_more(
    storage: ObjectStorage, s3: FaultyS3, folder: Path, tmp_path: Path
) -> None:
    files = ObjectFiles(storage)
    await files.upload(folder, {FIRST, SECOND}, ignore, ignore)
    await write(folder / f"{FIRST}.lance" / "_versions" / "1.manifest", b"later")
    s3.forget()
    await files.upload(folder, {FIRST}, ignore, ignore)
    assert [path.rpartition("/")[2] for path in s3.paths if path.startswith("PUT")] == ["1.manifest"]
    assert {path.partition(".")[0] for path in await files.list()} == {FIRST}
    back = tmp_path / "back"
    for name in ("data/a.lance", "data/stale.lance", "_versions/2.manifest"):
        await write(back / f"{FIRST}.lance" / name, b"a" * 100)
    await files.download(back, {FIRST}, ignore, ignore)
    assert await read(back) == {
        f"{FIRST}.lance/data/a.lance": b"a" * 100,
        f"{FIRST}.lance/_versions/1.manifest": b"later",
    }


async def test_a_copy_that_fails_says_so(storage: ObjectStorage, s3: FaultyS3, folder: Path) -> None:
    s3.refused["PUT"] = 403
    with pytest.raises(StorageError, match="the access key has no right to it"):
        await ObjectFiles(storage).upload(folder, {FIRST}, ignore, ignore)


async def test_a_table_that_is_gone_at_the_source_is_no_file_here(storage: ObjectStorage, folder: Path) -> None:
    files = ObjectFiles(storage)
    await files.upload(folder, {FIRST}, ignore, ignore)
    await asyncio.to_thread(shutil.rmtree, folder / f"{FIRST}.lance")
    await files.upload(folder, {FIRST, SECOND}, ignore, ignore)
    assert {path.partition(".")[0] for path in await files.list()} == {SECOND}
