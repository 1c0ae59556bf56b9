"""Runs a script of `tests/clients/` in the environment of its client family, against a gateway under test."""

import asyncio
import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


async def run_client(
    family: str, script: str, *arguments: str, folder: Path, timeout: float = 90, older: bool = False
) -> str:
    """What the script printed. Fails if the environment is not there (`make test` makes it) or the script fails.

    `older` takes the family's older generation, which stands beside the newer one.
    """
    program = ROOT / ".venvs" / family / "bin" / ("node" if script.endswith(".mjs") else "python")
    assert program.exists(), f"`make test-clients` installs {program}"
    environment = {**os.environ, "MEMOS_BASE_PATH": str(folder), "HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1"}
    if older:
        environment["PYTHONPATH"] = str(ROOT / ".venvs" / family / "old")
    process = await asyncio.create_subprocess_exec(
        str(program),
        str(ROOT / "tests" / "clients" / script),
        *arguments,
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(timeout):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]
    return output.decode()
