import asyncio
import gc
import subprocess
import sys

import pytest

from gateway import process


async def _current_loop() -> str:
    await asyncio.sleep(0)
    return type(asyncio.get_running_loop()).__module__


def test_a_program_runs_on_uvloop_where_it_is_installed() -> None:
    pytest.importorskip("uvloop")
    assert process.run(_current_loop()) == "uvloop"


def test_a_program_runs_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert process.run(_current_loop()).startswith("asyncio.")


def test_what_is_loaded_is_not_collected_again() -> None:
    before = gc.get_threshold()
    try:
        process.settle()
        assert gc.get_freeze_count() > 1_000
        assert gc.get_threshold()[0] == 50_000
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def test_memory_can_be_given_back_and_pools_be_shared() -> None:
    script = "from gateway import process; process.limit_arenas(); "
    script += "held = [bytes(1000) for _ in range(10**5)]; del held; process.trim()"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
