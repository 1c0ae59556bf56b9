"""Tests of the folder of the sockets between workers."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.workers.socket_folder import SocketFolder

OLD = time.time() - 3600


def make_old(folder: Path) -> None:
    os.utime(folder, (OLD, OLD))


def test_only_its_user_can_enter_it_and_its_path_is_short() -> None:
    folder = SocketFolder()
    try:
        assert folder.path.stat().st_mode & 0o777 == 0o700
        assert len(str(folder.path / "owner")) < 104
    finally:
        folder.remove()
    assert not folder.path.exists()


def test_a_place_with_a_long_path_is_passed_over(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    folder = SocketFolder((long, Path("/tmp")))  # noqa: S108
    assert folder.path.parent == Path("/tmp")  # noqa: S108
    folder.remove()
    with pytest.raises(OSError, match="too long"):
        SocketFolder((long,))
    with pytest.raises(FileNotFoundError):
        SocketFolder((tmp_path / "gone",))


def test_what_a_killed_gateway_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    stale, other, young, foreign = (tmp_path / f"gateway-workers-{name}" for name in ("a", "b", "c", "d"))
    for folder in (stale, other, young):
        folder.mkdir(mode=0o700)
    (stale / "bus").touch()
    (other / "letter").touch()
    foreign.symlink_to(other)
    live = SocketFolder((tmp_path,))
    (live.path / "bus").touch()
    for folder in (stale, other, live.path):
        make_old(folder)
    later = SocketFolder((tmp_path,))
    remaining = {other, young, foreign, live.path, later.path}
    assert set(tmp_path.iterdir()) == remaining
    assert (other / "letter").exists()
    assert (live.path / "bus").exists()
    live.remove()
    later.remove()


def test_a_folder_is_in_use_while_a_process_that_inherited_its_lock_lives(tmp_path: Path) -> None:
    first = SocketFolder((tmp_path,))
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(first.lock,), stderr=subprocess.DEVNULL
    ) as worker:
        os.close(first.lock)  # as if the supervisor were killed
        make_old(first.path)
        SocketFolder((tmp_path,)).remove()
        assert first.path.exists()
        worker.kill()
    SocketFolder((tmp_path,)).remove()
    assert not first.path.exists()
