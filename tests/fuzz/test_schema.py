"""The published schema and what answers: cases made from it by Schemathesis, over a real socket."""

import asyncio
import subprocess

from tests.conftest import Scale
from tests.fakes.clients import ROOT
from tests.fakes.running import Running

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


async def test_every_route_keeps_to_its_schema_whatever_it_is_sent(gateway: Running, scale: Scale) -> None:
    command = [
        str(ROOT / ".venvs" / "schemathesis" / "bin" / "schemathesis"),
        *("run", f"{gateway.url}/openapi.json", "--checks", CHECKS, "--seed", str(scale.seed), "--no-color"),
        *("--max-examples", str(scale(3, 30)), "--phases", "coverage,fuzzing", "--request-timeout", "40"),
        *("--exclude-path-regex", "/wait"),  # waits for as long as it is asked to
    ]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, cwd=ROOT, timeout=3_000)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    assert "No issues found" in done.stdout or "passed" in done.stdout, done.stdout[-2_000:]
