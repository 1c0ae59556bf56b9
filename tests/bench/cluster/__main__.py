"""Gateways that share one memory in PostgreSQL and on S3: speed, failover, requests and CPU time. `make bench-cluster`.

PostgreSQL, the S3 server (behind a proxy that counts and delays requests) and all gateways run on this machine. Linux
only: CPU time is read from /proc.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.bench.checkout import short_name
from tests.bench.cluster.engines import running_engines
from tests.bench.cluster.figures import FIGURES
from tests.bench.cluster.setting import FULL, QUICK, ClusterBench
from tests.bench.results import Row, as_json, build_table


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cluster", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), metavar="NAME", help=", ".join(FIGURES))
    parser.add_argument("--quick", action="store_true", help="fewer samples: two minutes instead of six")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is not met")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to a file")
    return parser.parse_args()


async def run(names: Sequence[str], folder: Path, *, is_quick: bool) -> list[Row]:
    """Measure the named figures."""
    rows, console = list[Row](), Console(stderr=True)
    async with running_engines(folder) as engines:
        bench = ClusterBench(engines, QUICK if is_quick else FULL, console.print)
        for name in names:
            console.print(name)
            rows += await FIGURES[name](bench)
    return rows


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no server stays behind
    options = parse()
    names = [name for name in FIGURES if not options.only or name in options.only]
    folder = Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    try:
        rows = asyncio.run(run(names, folder, is_quick=options.quick))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    about = {"commit": short_name(), "quick": options.quick, "processors": os.cpu_count(), "load": load}
    title = f"cluster, commit {about['commit']}, {about['processors']} processors; load average at the end {load}"
    Console(width=None if Console().is_terminal else 160).print(build_table(rows, title))
    if options.json:
        options.json.write_text(json.dumps(as_json(rows, about), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.check and any(row.is_met is False for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
