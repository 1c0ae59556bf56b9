"""Runs a script of `tests/clients/` in the environment of its client family, against a gateway under test."""

import asyncio
import atexit
import functools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def _environment(family: str, folder: Path, *, older: bool = False) -> dict[str, str]:
    environment = {**os.environ, "MEMOS_BASE_PATH": str(folder), "HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1"}
    if older:
        environment["PYTHONPATH"] = str(ROOT / ".venvs" / family / "old")
    return environment


async def run_client(family: str, script: str, *arguments: str, folder: Path, timeout: float = 90) -> str:
    """What the script printed. Fails if the environment is not there (`make test` makes it) or the script fails."""
    program = ROOT / ".venvs" / family / "bin" / ("node" if script.endswith(".mjs") else "python")
    assert program.exists(), f"`make test-clients` installs {program}"
    process = await asyncio.create_subprocess_exec(
        str(program),
        str(ROOT / "tests" / "clients" / script),
        *arguments,
        cwd=folder,
        env=_environment(family, folder),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(timeout):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]
    return output.decode()


async def call_memos(base_url: str, *calls: tuple[str, dict[str, Any]], older: bool = False) -> list[Any]:
    """The results of methods of the real MemOSClient. `older`: of its older generation, which is beside the newer."""

    def work() -> str:
        process = _memos_client(older=older)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([base_url, calls]) + "\n")
        process.stdin.flush()
        return next((line for line in iter(process.stdout.readline, "") if line.startswith("RESULTS ")), "")

    line = await asyncio.wait_for(asyncio.to_thread(work), 90)
    assert line, "the client failed; its error is above"
    results: list[Any] = json.loads(line.removeprefix("RESULTS "))
    return results


@functools.cache
def _memos_client(*, older: bool) -> "subprocess.Popen[str]":
    """A process of the client for all tests: its imports take three seconds."""
    folder = Path(tempfile.mkdtemp())
    process = subprocess.Popen(
        [str(ROOT / ".venvs" / "memos" / "bin" / "python"), str(ROOT / "tests" / "clients" / "memos_chat.py")],
        cwd=folder,
        env=_environment("memos", folder, older=older),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def close() -> None:
        process.kill()
        process.communicate()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(close)
    return process
