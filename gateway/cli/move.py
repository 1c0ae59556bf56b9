"""`gateway memory move`: moves a memory from a data folder to a cluster, or back."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from gateway.cli.stranded import recover_stranded
from gateway.config import Config, EmbedderConfig
from gateway.errors import ConfigError
from gateway.maintenance.move import Move, MovedCount, MoveRefused
from gateway.maintenance.recovery import recover
from gateway.storage.errors import StorageError
from gateway.storage.folder import FolderRefused
from gateway.storage.move.ends import MoveEnd
from gateway.storage.move.folder_end import FolderEnd

__all__ = ["REFUSALS", "check_configurations", "run"]

REFUSALS = (MoveRefused, StorageError, FolderRefused, ConfigError, OSError)
"""What `run` raises if a memory is not moved."""
_DEFAULT_TENANT = "default"  # of a gateway without keys


def run(source: Config, target: Config, console: Console, *, is_trial: bool) -> int:
    """Move a memory to the place of another configuration, or only show what would be moved. Returns the exit status.
    Raises REFUSALS."""
    check_configurations(source, target)
    recover_stranded(source)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        try:
            counts, places = asyncio.run(_move(source, target, _Bar(bar), is_trial=is_trial))
        except KeyboardInterrupt:
            console.print("stopped: the memory is where it was; run the command again to move it")
            return 130
    console.print(_tabulate(counts))
    if is_trial:
        console.print(f"nothing was moved: this would go from {places[0]} to {places[1]}")
    else:
        console.print(f"moved from {places[0]} to {places[1]}: start gateways there from now on")
    return 0


def check_configurations(source: Config, target: Config) -> None:
    """Raise MoveRefused if a memory cannot be moved from one configuration to the other."""
    if source.memory.is_cluster == target.memory.is_cluster:
        kind = "clusters" if source.memory.is_cluster else "data folders"
        raise MoveRefused(f"both configurations name {kind}: a move is from a data folder to a cluster, or back")
    if _vectors_of(source.memory.embedder) != _vectors_of(target.memory.embedder):
        raise MoveRefused(
            "memory.embedder differs in kind, model or dimensions: use that of the source, and change it after the "
            "move, with `gateway memory reindex`"
        )


def _vectors_of(embedder: EmbedderConfig) -> tuple[object, ...]:
    """What decides whether two embedders make the same vectors."""
    return ("local",) if embedder.kind == "local" else (embedder.kind, embedder.model, embedder.dimensions)


def _tenants_of(config: Config) -> set[str]:
    return {key.tenant for key in config.auth.keys} or {_DEFAULT_TENANT}


class _Bar:
    """The progress of a move in the terminal."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("looking at both places", total=None)

    def begin(self, step: str, total: int | None) -> None:
        self._bar.reset(self._task, description=step, total=total)

    def advance(self, amount: int) -> None:
        self._bar.advance(self._task, amount)


async def _move(
    source: Config, target: Config, bar: _Bar, *, is_trial: bool
) -> tuple[Collection[MovedCount], tuple[str, str]]:
    try:
        from gateway.storage.move.cluster_end import ClusterEnd  # noqa: PLC0415 — needs an extra
    except ImportError as error:
        raise MoveRefused("this needs the extra `cluster`: pip install 'memory-gateway[cluster]'") from error

    is_to_cluster = target.memory.is_cluster
    folder = FolderEnd((source if is_to_cluster else target).data_folder, recover)
    cluster = ClusterEnd(target if is_to_cluster else source)
    copy = cluster.files.upload if is_to_cluster else cluster.files.download

    def check_tenants(tenants: Collection[str]) -> None:
        lost = sorted((_tenants_of(source) & set(tenants)) - _tenants_of(target))
        if lost:
            raise MoveRefused(f"the tenant {lost[0]!r} has memories, and no key in the target's configuration")

    origin: MoveEnd = folder if is_to_cluster else cluster
    end: MoveEnd = cluster if is_to_cluster else folder
    move = Move(
        origin,
        end,
        lambda names, on_total, on_copy: copy(folder.tables, names, on_total, on_copy),
        bar,
        check_tenants,
    )
    try:
        return await (move.plan() if is_trial else move.run()), (origin.place, end.place)
    finally:
        await folder.close()
        await cluster.close()


def _tabulate(counts: Iterable[MovedCount]) -> Table:
    table = Table("part", "", "rows", "moved")
    parts: dict[str, list[MovedCount]] = defaultdict(list)
    for count in counts:
        parts[count.part].append(count)
    for part, members in parts.items():
        for count in members:
            table.add_row(part, count.name, str(count.rows), "" if count.moved is None else str(count.moved))
    return table
