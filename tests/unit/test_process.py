import gc
import subprocess
import sys

from gateway import process


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
