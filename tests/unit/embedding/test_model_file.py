import logging
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


def test_another_model_than_the_known_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEMORY_GATEWAY_CACHE", str(tmp_path))
    monkeypatch.setitem(model_file._HASHES, "sp.model", "0" * 64)
    with pytest.raises(RuntimeError, match=r"sp\.model"):
        load_model()
