"""The wheel has the compiled library where there is a compiler, and is pure where there is none."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gateway.native import library_name
from tests.fakes.native import PATHS

ROOT = Path(__file__).parents[3]


def build(folder: Path, **environment: str) -> tuple[str, list[str]]:
    """Build the wheel; its name, and the names of its files."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel.name, zipfile.ZipFile(wheel).namelist()


def test_without_a_compiler_the_wheel_is_pure(tmp_path: Path) -> None:
    name, files = build(tmp_path, CC="/bin/false")
    assert name.endswith("-py3-none-any.whl")
    assert f"gateway/native/{library_name()}" not in files
    assert "gateway/native/kernels.c" in files


@pytest.mark.skipif(not PATHS, reason="the library was not built here")
def test_with_a_compiler_the_wheel_names_its_platform(tmp_path: Path) -> None:
    name, files = build(tmp_path, WHEEL_PLATFORM="manylinux_2_28_x86_64")
    assert name.endswith("-py3-none-manylinux_2_28_x86_64.whl")
    assert f"gateway/native/{library_name()}" in files
