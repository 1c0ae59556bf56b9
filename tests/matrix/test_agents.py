"""Real coding agents: what their user says is remembered, nothing that they write themselves, and it comes back."""

import asyncio
import json
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.matrix.agents import AGENTS, ASKED, MODULES, TOLD

pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="the agents are installed for Linux x86-64"
)
ROOT = Path(__file__).parents[2]


async def _alone(*words: str) -> tuple[int | None, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 300)
    return process.returncode, out, err


async def _namespace() -> tuple[str, ...]:
    """The command that gives a process a network and processes of its own, where this machine can: what an agent leaves
    in the background ends with it."""
    command = ("unshare", "--net", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")
    if shutil.which("unshare") is None or (await _alone(*command, "true"))[0] != 0:
        return ()
    return command


@pytest.mark.parametrize("name", AGENTS)
async def test_an_agent_is_remembered_by_its_users_words_only(name: str, tmp_path: Path) -> None:
    assert MODULES.is_dir(), "`make test-clients` installs them"
    words = (*await _namespace(), sys.executable, "-m", "tests.matrix.agents", name, str(tmp_path))
    code, out, err = await _alone(*words)
    assert code == 0, err.decode(errors="replace")[-3000:]
    result: dict[str, Any] = json.loads(out)
    assert [end["code"] for end in result["ends"]] == [0, 0], result["ends"]
    turns = [record for record in result["records"] if record["kind"] == "turn"]
    assert sorted(record["text"] for record in turns if record["source"] == "user") == sorted((TOLD, ASKED))
    assert {record["text"] for record in turns if record["source"] == "assistant"} == {"Understood."}
    assert len({record["session_id"] for record in turns}) == 2
    assert any("cormorant" in json.dumps(body) for body in result["called"]), "the tool was called"
    with_memory = [body for body in result["bodies"] if "</user_memory>" in json.dumps(body)]
    assert len(with_memory) == 1, "the question, and none of the agent's own requests"
    assert "Miso" in json.dumps(with_memory[0])
