"""`gateway memory move`: moves a memory from a data folder to a cluster, or back."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from gateway.cli.stranded import recover_stranded
from gateway.config import Config, EmbedderConfig
from gateway.errors import ConfigError
from gateway.maintenance.move import Move, MovedCount, MoveRefused
from gateway.maintenance.recovery import recover
from gateway.storage.errors import StorageError
from gateway.storage.folder import FolderRefused, list_damaged_files
from gateway.storage.move.ends import MoveEnd
from gateway.storage.move.folder_end import FolderEnd
from gateway.telemetry import set_up_logging

__all__ = ["check_configurations", "run"]

_CAUSES = (MoveRefused, StorageError, FolderRefused, ConfigError, OSError)
_DEFAULT_TENANT = "default"  # of a gateway without keys
_MAX_NAMES = 5


def run(source: Config, target: Config, console: Console, *, is_trial: bool) -> int:
    """Move a memory to the place of another configuration, or only show what would be moved. Returns the exit status.
    Raises MoveRefused or ConfigError."""
    check_configurations(source, target)
    recover_stranded(source)
    set_up_logging("warning")  # repairs of the source
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        plan = _plan(source, target, _Bar(bar))
        try:
            counts = asyncio.run(_carry_out(plan, is_trial=is_trial))
        except KeyboardInterrupt:
            console.print(f"stopped: {plan.move.outcome}", markup=False, soft_wrap=True)
            return 130
        except _CAUSES as error:
            raise MoveRefused(f"{error}\ngateway: {plan.move.outcome}") from error
    console.print(_tabulate(counts))
    for text in (*_describe_damaged(source), plan.describe(is_trial=is_trial)):
        console.print(text, markup=False, soft_wrap=True)
    return 0


def _describe_damaged(source: Config) -> Iterator[str]:
    """What of a folder was not moved because it is damaged."""
    names = [] if source.memory.is_cluster else list_damaged_files(source.data_folder)
    if names:
        shown = ", ".join(names[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")
        yield f"not moved: files that were damaged, and that a repair has set aside in {source.data_folder} ({shown})"


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
    """The progress of a move: a bar in the terminal, else a line for each step and each tenth of it."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("looking at both places", total=None)
        self._tenths = 0

    def begin(self, step: str, total: int | None) -> None:
        self._bar.reset(self._task, description=step, total=total)
        self._tenths = 0
        self._print(step)

    def advance(self, amount: int) -> None:
        self._bar.advance(self._task, amount)
        task = self._bar.tasks[0]
        if (tenths := int(task.percentage // 10)) > self._tenths:
            self._tenths = tenths
            self._print(f"{task.description}: {tenths * 10} %")

    def _print(self, text: str) -> None:
        if not self._bar.console.is_terminal:
            self._bar.console.print(text)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A move, and its two ends."""

    move: Move
    source: MoveEnd
    target: MoveEnd

    def describe(self, *, is_trial: bool) -> str:
        """The outcome of a move that has ended."""
        if is_trial:
            return f"nothing was moved: this would go from {self.source.place} to {self.target.place}"
        return f"moved from {self.source.place} to {self.target.place}: start gateways there from now on"


async def _carry_out(plan: _Plan, *, is_trial: bool) -> Collection[MovedCount]:
    try:
        return await (plan.move.plan() if is_trial else plan.move.run())
    finally:
        await plan.source.close()
        await plan.target.close()


def _plan(source: Config, target: Config, bar: _Bar) -> _Plan:
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
    return _Plan(move, origin, end)


def _tabulate(counts: Iterable[MovedCount]) -> Table:
    table = Table("part", "", "rows", "moved")
    parts: dict[str, list[MovedCount]] = defaultdict(list)
    for count in counts:
        parts[count.part].append(count)
    for part, members in parts.items():
        for count in members:
            table.add_row(part, count.name, str(count.rows), "" if count.moved is None else str(count.moved))
    return table
