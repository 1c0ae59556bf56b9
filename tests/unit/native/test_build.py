import ctypes
import shutil
from pathlib import Path

import pytest

from gateway.native import build as module
from gateway.native import library_name
from gateway.native.build import build, main

_COMPILER = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)


@pytest.mark.skipif(_COMPILER is None, reason="there is no C compiler")
def test_the_library_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    target = tmp_path / library_name()
    assert build(target) is None
    assert ctypes.CDLL(str(target)).kernels_version() == 1
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("compiler", ["/bin/false", "/not/there/cc", "   ", "gcc 'x"])
def test_without_a_compiler_there_is_a_reason_and_no_library(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", compiler)
    assert build(tmp_path / library_name())
    assert list(tmp_path.iterdir()) == []
    assert main() == 0
    assert "numpy does its work" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "true")
    assert build(tmp_path / "not there" / library_name())


def test_it_needs_no_installed_package() -> None:
    text = Path(module.__file__).read_text(encoding="utf-8")
    assert "import numpy" not in text
    assert "from gateway" not in text
