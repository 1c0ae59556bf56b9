"""The gateway against a bare pass-through, in one run, as ratios. `make bench`.

Each server is a process of its own; what counts is the CPU time of its processes, since machines are shared and clocks
lie. Rounds are interleaved. Linux only: CPU time and memory are read from /proc.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench.checkout import checkout, short_name
from tests.bench.client import Client
from tests.bench.figures import FIGURES
from tests.bench.figures.growth import LARGE_USER, data_with
from tests.bench.figures.memory_on import MEMORIES, USERS, data_of
from tests.bench.figures.starting import STORED, data_stored
from tests.bench.figures.workers import SHARED_USERS, data_shared
from tests.bench.results import Row, as_json, build_table
from tests.bench.servers import loop_name
from tests.bench.setting import FULL, QUICK, Bench, Variant, fill_folders, running_servers, variants_of

_USES_USERS = {"on", "long", "steady", "everyday", "import"}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), metavar="NAME", help=", ".join(FIGURES))
    parser.add_argument("--quick", action="store_true", help="fewer rounds: three minutes instead of twelve")
    parser.add_argument(
        "--against", metavar="REV", help="measure another commit in the same rounds; each started twice"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    return parser.parse_args()


async def run(names: list[str], variants: list[Variant], folder: Path, options: argparse.Namespace) -> list[Row]:
    """Measure the named figures."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    rows: list[Row] = []
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=900)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("filling folders", total=len(names))
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            client = Client(session)
            async with running_servers(client) as (upstream, bare):

                def step(text: str) -> None:
                    progress.update(task, description=text)
                    if not console.is_terminal:
                        console.print(text)

                sizes = QUICK if options.quick else FULL
                bench = Bench(folder, client, variants, sizes, upstream, bare, step)
                await asyncio.to_thread(fill, bench, names)
                for name in names:
                    step(name)
                    rows += await FIGURES[name](bench)
                    progress.advance(task)
    return rows


def fill(bench: Bench, names: list[str]) -> None:
    """Fill the data folders that these figures need."""
    folders: dict[Path, dict[str, int]] = {}
    if _USES_USERS.intersection(names):
        folders[data_of(bench)] = {f"bench{number}": MEMORIES for number in range(USERS)}
    if "growth" in names:
        folders |= {data_with(bench, memories): {LARGE_USER: memories} for memories in bench.sizes.growth}
    if "start" in names:
        folders[data_stored(bench)] = {f"bench{number}": 200 for number in range(STORED // 200)}
    if "workers" in names:
        folders[data_shared(bench)] = {f"bench{number}": 50 for number in range(SHARED_USERS)}
    if folders:
        fill_folders(folders, bench.sizes.embedded)


def describe(options: argparse.Namespace) -> dict[str, Any]:
    """What is measured, and where."""
    return {
        "commit": short_name(),
        "against": short_name(options.against) if options.against else None,
        "quick": options.quick,
        "bare": loop_name(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
    }


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers and checkout do not stay behind
    options = parse()
    names = [name for name in FIGURES if not options.only or name in options.only]
    about = describe(options)
    folder = Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    try:
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            other = stack.enter_context(checkout(options.against)) if options.against else None
            variants = variants_of(about["against"] or "", other)
            rows = asyncio.run(run(names, variants, folder, options))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    title = f"commit {about['commit']}, {about['processors']} processors; bare pass-through on {about['bare']}"
    Console(width=None if Console().is_terminal else 160).print(build_table(rows, title))
    if options.json:
        options.json.write_text(json.dumps(as_json(rows, about), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
