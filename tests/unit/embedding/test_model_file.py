import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gateway.embedding import model_file
from gateway.embedding.arrays import ModelArrays
from gateway.embedding.model_file import load_model

_BIG = np.arange(6 * 2**20, dtype=np.uint8).reshape(-1, 512)
_SMALL = np.array([1.5, 2.5], np.float32)


@pytest.fixture
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects a line for each time the package is unpacked."""
    calls: list[str] = []

    def unpack() -> ModelArrays:
        calls.append("unpacked")
        return {"big": _BIG, "small": _SMALL}

    monkeypatch.setattr(model_file, "_unpack", unpack)
    monkeypatch.setenv("MEMORY_GATEWAY_CACHE", str(tmp_path / "cache"))
    return calls


def check() -> None:
    arrays = load_model()
    assert np.array_equal(arrays["big"], _BIG)
    assert np.array_equal(arrays["small"], _SMALL)


def test_the_model_is_unpacked_once(unpacked: list[str], tmp_path: Path) -> None:
    check()
    check()
    assert unpacked == ["unpacked"]
    assert len(list((tmp_path / "cache").iterdir())) == 1
    with pytest.raises(ValueError, match="read-only"):
        load_model()["small"][0] = 1


@pytest.mark.parametrize("damage", ["empty", "short", "long", "head", "length", "header", "small", "big"])
def test_a_damaged_file_is_written_again(damage: str, unpacked: list[str], tmp_path: Path) -> None:
    check()
    (file,) = (tmp_path / "cache").iterdir()
    content = file.read_bytes()
    changed = bytearray(content)
    place = {
        "head": 3,
        "length": 26,
        "header": 60,
        "small": len(content) - 2,
        "big": len(content) - _SMALL.nbytes - _BIG.nbytes,
    }
    if damage in place:
        changed[place[damage]] ^= 255
    sizes = {"empty": b"", "short": content[:-1], "long": content + b"x"}
    file.write_bytes(sizes.get(damage, bytes(changed)))
    check()
    assert unpacked == ["unpacked"] * 2
    assert file.read_bytes() == content


def test_it_works_without_a_folder(
    unpacked: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEMORY_GATEWAY_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.INFO, "gateway.embed"):
        check()
    assert [record.message for record in caplog.records] == ["model_not_cached"]


def _raise_runtime_error(_name: str) -> Path:
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize("find", [_raise_runtime_error, lambda name: Path("~/.cache", name)])
def test_it_works_without_a_home_folder(
    find: Callable[[str], Path],
    unpacked: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("MEMORY_GATEWAY_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_path", find)
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO, "gateway.embed"):
        check()
    assert [record.message for record in caplog.records] == ["model_not_cached"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="files of Windows have no such owner")
def test_a_file_of_another_user_is_not_mapped(
    unpacked: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    check()
    status, stranger = os.fstat, os.geteuid() + 1
    monkeypatch.setattr(os, "fstat", lambda file: os.stat_result([*status(file)[:4], stranger, *status(file)[5:]]))
    with caplog.at_level(logging.INFO, "gateway.embed"):
        check()
    assert unpacked == ["unpacked"] * 2
    assert [record.message for record in caplog.records] == ["model_not_cached"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_pipe_is_replaced(unpacked: list[str], tmp_path: Path) -> None:
    check()
    (file,) = (tmp_path / "cache").iterdir()
    file.unlink()
    os.mkfifo(file)
    check()
    assert file.is_file()
    assert unpacked == ["unpacked"] * 2


def test_what_killed_processes_left_is_removed(unpacked: list[str], tmp_path: Path) -> None:
    check()
    (file,) = (tmp_path / "cache").iterdir()
    for name, age in (("old", 4000), ("new", 10)):
        part = Path(f"{file}{name}")
        part.write_bytes(b"part")
        os.utime(part, (part.stat().st_mtime - age,) * 2)
    file.unlink()
    check()
    assert sorted((tmp_path / "cache").iterdir()) == [file, Path(f"{file}new")]


def test_another_model_than_the_known_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEMORY_GATEWAY_CACHE", str(tmp_path))
    monkeypatch.setitem(model_file._HASHES, "sp.model", "0" * 64)
    with pytest.raises(RuntimeError, match=r"sp\.model"):
        load_model()
