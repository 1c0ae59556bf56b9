import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.storage.folder import ARRIVING_FILE, MOVED_FILE, DataFolder, FolderRefused, fsync, read_move_mark
from gateway.storage.move_mark import MoveMark, MoveState, encode_mark


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from gateway.storage.folder import DataFolder, FolderRefused\n"
        "try: DataFolder(Path(sys.argv[1])).open(2, 'e', 4)\n"
        "except FolderRefused as error: print(error)\n"
    )
    folder = DataFolder(tmp_path)
    folder.open(2, "e", 4)
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert "another process" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    folder.close()
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


def test_what_was_fixed_at_the_beginning_stays(tmp_path: Path) -> None:
    first = DataFolder(tmp_path)
    first.open(2, "e", 4)
    first.close()
    again = DataFolder(tmp_path)
    again.open(16, "e", 4)
    assert again.buckets == 2
    again.close()
    other = DataFolder(tmp_path)
    other.open(2, "other", 8)
    assert (other.embedder, other.dimensions) == ("e", 4)
    other.close()
    meta = json.loads((tmp_path / "meta.json").read_text())
    (tmp_path / "meta.json").write_text(json.dumps({**meta, "format": 99}))
    with pytest.raises(FolderRefused, match="format 99"):
        DataFolder(tmp_path).open(2, "e", 4)


def test_syncing_what_is_gone_is_no_error(tmp_path: Path) -> None:
    fsync(tmp_path / "gone")
    fsync(tmp_path)


@pytest.mark.parametrize("content", ["[]", "null", "{}", '{"format": 1}', '{"format": 1, "embedder": 3}', "{", ""])
def test_a_description_that_is_none_is_refused_in_words(tmp_path: Path, content: str) -> None:
    (tmp_path / "meta.json").write_text(content)
    with pytest.raises(FolderRefused, match=r"meta\.json|format"):
        DataFolder(tmp_path).open(4, "e", 8)


@pytest.mark.parametrize(
    ("name", "state", "text"),
    [
        (MOVED_FILE, MoveState.MOVED, "was moved to s3://b/p"),
        (ARRIVING_FILE, MoveState.ARRIVING, "has not arrived completely from s3://b/p"),
    ],
)
def test_a_folder_that_a_memory_was_moved_from_or_to_is_refused(
    tmp_path: Path, name: str, state: MoveState, text: str
) -> None:
    first = DataFolder(tmp_path)
    first.open(2, "e", 4)
    first.close()
    mark = MoveMark(id="a", state=state, place="s3://b/p", at=0.0)
    (tmp_path / name).write_bytes(encode_mark(mark))
    assert read_move_mark(tmp_path) == mark
    for folder in (DataFolder(tmp_path), DataFolder(tmp_path)):  # the lock is released each time
        with pytest.raises(FolderRefused, match=text):
            folder.open(2, "e", 4)
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(FolderRefused, match="cannot be read"):
        DataFolder(tmp_path).open(2, "e", 4)
    (tmp_path / name).unlink()
    first.open(2, "e", 4)
    first.close()
