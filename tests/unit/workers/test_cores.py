"""Tests of the number of usable cores, with control groups in files."""

import os
from pathlib import Path

import pytest

from gateway.workers.cores import usable_cores

AFFINITY = len(os.sched_getaffinity(0))


def groups(folder: Path, own: str, **files: str) -> tuple[Path, Path]:
    """The folder of control groups and the file with the own ones. The keys of `files` are paths with `__` for `/`."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="ascii")
    (folder / "own").write_text(own, encoding="ascii")
    return folder, folder / "own"


def test_without_a_quota_it_is_the_affinity(tmp_path: Path) -> None:
    assert usable_cores(tmp_path, tmp_path / "gone") == AFFINITY
    assert usable_cores(*groups(tmp_path, "0::/a\n", a__cpu_max="max 100000\n")) == AFFINITY


@pytest.mark.parametrize("quota", ["100000 100000", "150000 100000", "20000 100000"])
def test_a_quota_below_two_cores_is_one(tmp_path: Path, quota: str) -> None:
    assert usable_cores(*groups(tmp_path, "0::/a/b\n", a__b__cpu_max=quota)) == 1


def test_the_quota_of_an_outer_group_and_of_a_container_counts(tmp_path: Path) -> None:
    outer = groups(tmp_path / "outer", "0::/a/b\n", a__cpu_max="100000 100000", a__b__cpu_max="max 100000")
    assert usable_cores(*outer) == 1
    container = groups(tmp_path / "container", "0::/docker/0123\n", cpu_max="100000 100000")
    assert usable_cores(*container) == 1


def test_a_quota_of_the_first_version_counts(tmp_path: Path) -> None:
    files = {"cpu__a__cpu_cfs_quota_us": "100000\n", "cpu__a__cpu_cfs_period_us": "100000\n"}
    assert usable_cores(*groups(tmp_path / "limited", "4:cpu,cpuacct:/a\n1:name=systemd:/a\n", **files)) == 1
    files["cpu__a__cpu_cfs_quota_us"] = "-1\n"
    assert usable_cores(*groups(tmp_path / "free", "4:cpu,cpuacct:/a\n", **files)) == AFFINITY


def test_a_quota_of_more_cores_than_there_are_changes_nothing(tmp_path: Path) -> None:
    assert usable_cores(*groups(tmp_path, "0::/\n", cpu_max="99900000 100000")) == AFFINITY
