"""Half an hour of mixed load with faults: what grows, and what fails? `make soak`, or `make soak MINUTES=5 SERVERS=3`.

Sixteen clients chat, stream, add and search for many users; one in twenty hangs up, and the upstream fails one request
in sixteen, each time in another way. A row a minute; the end says whether memory, descriptors, files and latency stayed
flat. Linux only: it reads /proc.
"""

import asyncio
import json
import logging
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from rich.console import Console
from rich.table import Table

from tests.fakes.process import Process, running_process
from tests.fakes.running import WORKERS, worker_count
from tests.fakes.upstream import FakeUpstream, cuts_after, deltas, hangs, running_upstream, says

_CLIENTS = 16
_USERS = 200
_HANG_UPS = 0.05
_FAULTS = 0.06
_PAUSE = 0.6  # seconds between two requests of a client: load, but no queue before the gateway
_BEFORE = 150  # memories of each user at the beginning
_WORKING_SETS = 32  # MiB: reached in minutes, so that sets come and go as they do in a long life
_REMEMBERED = 0.1  # of the chats
_GROWTH = 3.0  # MiB a minute, in the second half
_TOPICS = "garden train violin recipe invoice holiday doctor football novel bicycle 猫 生日 红酒".split()


@dataclass
class Minute:
    requests: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    resident: float = 0.0
    sets: float = 0.0
    descriptors: int = 0
    files: int = 0
    health: float = 0.0


class Soak:
    def __init__(self, gateway: Process, upstream: FakeUpstream, folder: Path) -> None:
        self._gateway = gateway
        self._upstream = upstream
        self._lance = folder / "data" / "lance"
        self._chance = random.Random(7)
        self._now = Minute()
        self.unexplained: list[str] = []
        upstream.script = self._answer

    async def fill(self) -> None:
        """What the users said before."""
        for number in range(_USERS):
            messages = [{"role": "user", "content": self._note()} for _ in range(_BEFORE)]
            body = {"user_id": f"user{number}", "session_id": "before", "messages": messages, "async_mode": "async"}
            status, answer = await self._gateway.post("/product/add", body)
            assert status == 200, answer
        await self._gateway.settled(300)

    def _note(self) -> str:
        return f"About the {self._chance.choice(_TOPICS)}: note {self._chance.randrange(10**6)}."

    async def minute(self, seconds: float) -> Minute:
        self._now = Minute()
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._work(until) for _ in range(_CLIENTS)))
        now = self._now
        began = time.monotonic()
        await self._gateway.state()
        now.health = time.monotonic() - began
        now.resident = self._gateway.resident_mib()
        now.sets = await self._gateway.metric("gateway_working_set_bytes") / 2**20
        now.descriptors = self._gateway.descriptors()
        now.files = await asyncio.to_thread(lambda: sum(path.is_file() for path in self._lance.rglob("*")))
        self._upstream.received.clear()
        return now

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self._chance.random() >= _FAULTS:
            return await self._upstream.default(request)
        faults = [
            says(500, {"error": {"message": "a fault that is meant"}}),
            says(503, b"<html>not now", "text/html"),
            cuts_after(deltas("It began well")[:2]),
            hangs(seconds=0.5),
        ]
        return await self._chance.choice(faults)(request)

    async def _work(self, until: float) -> None:
        while time.monotonic() < until:
            self._now.requests += 1
            began = time.monotonic()
            try:
                async with asyncio.timeout(0.01 if self._chance.random() < _HANG_UPS else 30):
                    outcome = await self._one()
            except TimeoutError:
                outcome = "hung up"
            except aiohttp.ClientPayloadError:
                outcome = "cut"
            except aiohttp.ClientError as error:
                outcome = "failed"
                self.unexplained.append(repr(error))
            if outcome == "ok":
                self._now.latencies.append(time.monotonic() - began)
            self._now.outcomes[outcome] += 1
            await asyncio.sleep(_PAUSE)

    async def _one(self) -> str:
        chance = self._chance
        # some users speak much more often than others
        user, topic, text = f"user{int(_USERS * chance.random() ** 2)}", chance.choice(_TOPICS), self._note()
        kind = chance.random()
        if kind < 0.7:
            body: dict[str, Any] = {"model": "m", "user": user, "messages": [{"role": "user", "content": text}]}
            # so often that nobody says as much in a life as in this half hour: most only read, and sets keep their size
            headers = {"x-memory-mode": "on" if chance.random() < _REMEMBERED else "read"}
            status, answer = await self._gateway.post("/v1/chat/completions", {**body, "stream": kind < 0.35}, headers)
            if b"a fault that is meant" in answer or b"stream_interrupted" in answer or status in (502, 503):
                return "fault"
        elif kind < 0.72:
            message = {"role": "user", "content": text}
            status, answer = await self._gateway.post(
                "/product/add", {"user_id": user, "session_id": topic, "messages": [message], "async_mode": "async"}
            )
        else:
            status, answer = await self._gateway.post("/product/search", {"user_id": user, "query": topic})
        if status != 200:
            self.unexplained.append(f"{status} {answer[:200]!r}")
            return "failed"
        return "ok"


def row(number: int, minute: Minute) -> list[str]:
    ordered = sorted(minute.latencies)
    return [
        str(number),
        str(minute.requests),
        ", ".join(f"{count} {name}" for name, count in minute.outcomes.most_common()),
        f"{ordered[len(ordered) // 2] * 1000:.0f} / {ordered[int(len(ordered) * 0.95)] * 1000:.0f}",
        f"{minute.resident:.0f} / {minute.sets:.0f}",
        str(minute.descriptors),
        str(minute.files),
        f"{minute.health * 1000:.0f}",
    ]


def verdicts(minutes: list[Minute], unexplained: list[str]) -> list[tuple[str, bool]]:
    half = minutes[len(minutes) // 2 :]
    slope = statistics.linear_regression(range(len(half)), [one.resident for one in half]).slope if len(half) > 1 else 0
    middle = [statistics.median(one.latencies) for one in minutes]
    early, late = (
        statistics.mean(middle[: max(1, len(middle) // 4)]),
        statistics.mean(middle[-max(1, len(middle) // 4) :]),
    )
    return [
        (f"unexplained failures: {len(unexplained)}", not unexplained),
        (f"resident memory in the second half: {slope:+.2f} MiB a minute (goal {_GROWTH})", slope <= _GROWTH),
        (f"median latency, last quarter against first: {late / early:.2f} (goal 2)", late <= 2 * early),
        (f"descriptors at the end: {minutes[-1].descriptors}", minutes[-1].descriptors < 300 * worker_count()),
        (
            f"files of the store, at the end and halfway: {minutes[-1].files}, {half[0].files}",
            minutes[-1].files < 1.5 * half[0].files,
        ),
    ]


async def run(folder: Path, minutes: int, console: Console) -> int:
    done: list[Minute] = []
    changes = {"memory__recall__working_set_mb": _WORKING_SETS}
    async with running_upstream() as upstream, running_process(folder, upstream.url, **changes) as gateway:
        await gateway.settled()
        soak = Soak(gateway, upstream, folder)
        await soak.fill()
        table = Table(
            title=f"{_CLIENTS} clients, {worker_count()} workers, {_HANG_UPS:.0%} hang-ups, {_FAULTS:.0%} faults"
        )
        for name in (
            "minute",
            "requests",
            "outcomes",
            "p50 / p95, ms",
            "MiB / sets",
            "descriptors",
            "files",
            "health, ms",
        ):
            table.add_column(name, justify="left" if name == "outcomes" else "right")
        for number in range(1, minutes + 1):
            done.append(await soak.minute(60))
            cells = row(number, done[-1])
            table.add_row(*cells)
            console.print("  ".join(cells))
            sys.stdout.flush()
        await gateway.settled(120)
        console.print(table)
        found = verdicts(done, soak.unexplained)
        for text, is_good in found:
            console.print(("[green]held[/green]   " if is_good else "[red]missed[/red] ") + text)
        for line in soak.unexplained[:5]:
            console.print(line, markup=False)
        console.print(json.dumps({"log_errors": gateway.log().count('"level":"error"')}), markup=False)
        return 0 if all(is_good for _, is_good in found) else 1


def main() -> None:
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    os.environ[WORKERS] = sys.argv[2] if len(sys.argv) > 2 else "1"
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # of the scripted upstream: those hang-ups are meant
    with tempfile.TemporaryDirectory(prefix="gateway-soak-") as folder:
        sys.exit(asyncio.run(run(Path(folder), minutes, Console(width=160))))


if __name__ == "__main__":
    main()
