"""`gateway memory reindex`: re-embeds all memories with the configured embedder, and shows the progress."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.app import Gateway
from gateway.cli.calling import NotAnswered, ask
from gateway.cli.stranded import recover_stranded
from gateway.config import Config
from gateway.telemetry import set_up_logging

__all__ = ["run"]

_LOAD_TIMEOUT = 120.0
_POLL_INTERVAL = 0.5


def run(config: Config, url: str, key: str, *, may_be_alone: bool) -> int:
    """Reindex in the running gateway; `may_be_alone`: if none runs, in a temporary one. Raises NotAnswered,
    FolderRefused or OSError."""
    console = Console()
    try:
        ask(f"{url}/health", key)
    except NotAnswered:
        if not may_be_alone:
            raise
        recover_stranded(config)
        console.print("no gateway runs there: doing it here")
        set_up_logging("error")
        return asyncio.run(_alone(config, console))
    ask(f"{url}/v1/memory/reindex", key, {})
    _watch(lambda: ask(f"{url}/v1/memory/reindex", key), console)
    return 0


def _watch(look: Callable[[], dict[str, Any]], console: Console) -> None:
    with _bar(console) as bar:
        task = bar.add_task("making memories anew", total=None)
        while (now := look())["state"] == "running":
            _show(bar, task, now)
            time.sleep(_POLL_INTERVAL)
    _conclude(now, console)


async def _alone(config: Config, console: Console) -> int:
    gateway = await asyncio.to_thread(Gateway, config.alone())
    await gateway.start()
    try:
        if not await gateway.memory.ready(_LOAD_TIMEOUT) or gateway.memory.reindexer is None:
            raise NotAnswered("the memory could not be loaded; `gateway serve` tells why")
        gateway.memory.reindexer.request()
        with _bar(console) as bar:
            task = bar.add_task("making memories anew", total=None)
            while (now := await gateway.memory.reindexer.overall_progress()).state == "running":
                _show(bar, task, {"rows": now.rows, "of": now.of, "reason": now.reason})
                await asyncio.sleep(_POLL_INTERVAL)
        _conclude({"state": now.state, "rows": now.rows, "reason": now.reason}, console)
    finally:
        await gateway.stop()
    return 0


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def _show(bar: Progress, task: Any, now: dict[str, Any]) -> None:
    description = f"waiting: {now['reason']}" if now["reason"] else "making memories anew"
    bar.update(task, completed=now["rows"], total=now["of"] or None, description=description)


def _conclude(now: dict[str, Any], console: Console) -> None:
    if now["state"] == "needed":
        raise NotAnswered(f"it stopped before its end: {now['reason'] or 'the gateway was stopped'}; run it again")
    console.print(f"all memories are as configured ({now['rows']} made anew)")
