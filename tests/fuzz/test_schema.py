"""The published schema and what answers: cases made from it by Schemathesis, over a real socket."""

import asyncio
import re
import subprocess

from tests.conftest import Scale
from tests.fakes.clients import ROOT
from tests.fakes.running import Running

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


async def test_every_route_keeps_to_its_schema_whatever_it_is_sent(gateway: Running, scale: Scale) -> None:
    command = [
        str(ROOT / ".venvs" / "schemathesis" / "bin" / "schemathesis"),
        *("run", f"{gateway.url}/openapi.json", "--checks", CHECKS, "--seed", str(scale.seed), "--no-color"),
        *("--max-examples", str(scale(6, 30)), "--phases", "coverage,fuzzing" if scale.is_long else "fuzzing"),
        # these wait for as long as they are asked to, or have no end; takes what Schemathesis cannot write
        *("--request-timeout", "40", "--exclude-path-regex", "/wait|/memory/import|/turns/stream"),
    ]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, cwd=ROOT, timeout=3_000)
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    cases = re.search(r"(\d+) generated", done.stdout)
    assert cases is not None
    assert int(cases.group(1)) >= scale(300, 2_000)
