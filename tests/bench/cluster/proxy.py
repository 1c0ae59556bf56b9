"""The proxy before the S3 server, as a process of its own: it counts requests, and delays them as S3 would.

`python -m tests.bench.cluster.proxy TARGET` prints its address. Then it reads delays by kind (JSON) from each line of
its standard input, and answers with the requests by kind since the line before.
"""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from tests.bench.processes import ROOT
from tests.fakes.s3_proxy import FaultyS3, running_faulty_s3

__all__ = ["DELAYS", "Proxy", "running_proxy"]

DELAYS: Final = {"GET": 0.025, "HEAD": 0.025, "PUT": 0.05, "LIST": 0.04, "DELETE": 0.025}
"""Seconds that object storage takes for a request, by kind."""


class Proxy:
    """A running proxy."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.url = url
        self._process = process
        self._delays: Mapping[str, float] = {}

    async def delay(self, delays: Mapping[str, float]) -> None:
        """Delay requests of each kind by so many seconds from now on, and count from zero."""
        self._delays = delays
        await self.take()

    async def take(self) -> Counter[str]:
        """The requests by kind since the last call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(self._delays).encode() + b"\n")
        return Counter(json.loads(await self._process.stdout.readline()))


@asynccontextmanager
async def running_proxy(target: str) -> AsyncIterator[Proxy]:
    """Start a proxy before the server at `target`."""
    command = (sys.executable, "-m", "tests.bench.cluster.proxy", target)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE)
    try:
        assert process.stdout is not None
        yield Proxy(process, (await process.stdout.readline()).decode().strip())
    finally:
        process.terminate()
        await process.wait()


async def serve(target: str) -> None:
    async with running_faulty_s3(target) as proxy:
        sys.stdout.write(proxy.url + "\n")
        sys.stdout.flush()
        while line := await asyncio.to_thread(sys.stdin.readline):
            proxy.delays = json.loads(line)
            sys.stdout.write(json.dumps(_take(proxy)) + "\n")
            sys.stdout.flush()


def _take(proxy: FaultyS3) -> Mapping[str, int]:
    counts = dict(proxy.counts)
    proxy.forget()
    return counts


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
