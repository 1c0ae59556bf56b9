"""The command line: `gateway serve`, `gateway check`, `gateway memory …`, `gateway mcp`, `gateway eval`."""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from gateway import __version__, process
from gateway.cli import mcp
from gateway.cli.calling import NotAnswered, add_address, address_of, ask, memory_id
from gateway.cli.config_file import add_config, config_path, load_config, load_target
from gateway.cli.ending import fail
from gateway.cli.history import add_commands
from gateway.config import Config, load
from gateway.errors import ConfigError
from gateway.workers.control import WORKER_VARIABLE, ignore_terminal, inherited_control

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

__all__ = ["build_parser", "main"]

_BUDGETS = (256, 512, 1024, 2048)
_MAX_BUDGET = 1_000_000


def main() -> None:
    """The console script."""
    if WORKER_VARIABLE in os.environ:
        ignore_terminal()
    elif hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: None)  # by default it kills the process until `serve` handles it
    # one thread for a matrix product: the products are small, and spinning threads cost more than they gain
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Arrow's own pool retains memory that threads free, 100 MB after an hour; malloc's pools can be trimmed
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    process.limit_arenas()
    # embedding and ranking release the interpreter lock some fifty times a query and must not wait 5 ms each time
    sys.setswitchinterval(0.0005)
    arguments = build_parser().parse_args()
    sys.exit(arguments.run(arguments))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway", description="An OpenAI-compatible proxy that gives any model a long-term memory."
    )
    parser.add_argument("--version", action="version", version=f"gateway {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the gateway")
    serve.add_argument("--host", help="listen address; overrides server.host")
    serve.add_argument("--port", type=int, help="listen port; overrides server.port")
    serve.add_argument(
        "--workers", type=int, help="processes that answer chats, 0: one for each usable core; overrides server.workers"
    )
    serve.set_defaults(run=_serve)
    check = commands.add_parser("check", help="validate a configuration and describe it")
    check.set_defaults(run=_check)
    memory = commands.add_parser("memory", help="inspect and change the memories of a gateway")
    in_memory = memory.add_subparsers(required=True, metavar="COMMAND")
    explain = in_memory.add_parser("explain", help="show what a chat recalled, and why")
    _add_explain(explain)
    reindex = in_memory.add_parser("reindex", help="embed all memories again with the configured embedder")
    add_address(reindex)
    reindex.set_defaults(run=_reindex)
    for command in add_commands(in_memory):
        command.set_defaults(run=_history)
    _add_transfer_commands(in_memory)
    _add_move(in_memory.add_parser("move", help="move the memory from a data folder to a cluster, or back"))
    usage = commands.add_parser("usage", help="show requests and tokens by model, key, user, upstream or hour")
    usage.add_argument(
        "--by", default="model", metavar="NAME,NAME", help="comma-separated list of hour, key, user, model, upstream"
    )
    for name in ("since", "until"):
        usage.add_argument(f"--{name}", help="a date or time; default: 30 days ago")
    usage.add_argument("--json", action="store_true", help="print JSON")
    add_address(usage)
    usage.set_defaults(run=_usage)
    bridge = commands.add_parser("mcp", help="serve MCP on standard input and output, for clients that start a process")
    mcp.add_arguments(bridge)
    bridge.set_defaults(run=_mcp)
    evaluation = commands.add_parser("eval", help="measure recall on conversations with questions")
    _add_eval(evaluation)
    for command in (serve, check, usage, bridge, evaluation, *in_memory.choices.values()):
        add_config(command)
    return parser


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", help="x-gateway-request-id of the chat's response, or a prefix of it")
    parser.add_argument("--all", action="store_true", help="show all recorded candidates, not only the first 20")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_address(parser)
    parser.set_defaults(run=_explain)


def _add_transfer_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands `export`, `import` and `forget`."""
    export = commands.add_parser("export", help="export memories to a JSON Lines or Parquet file")
    export.add_argument(
        "file", metavar="FILE", help="*.parquet for Parquet, anything else for JSON Lines; - for standard output"
    )
    export.add_argument(
        "--vectors", action="store_true", help="with vectors: a gateway with the same embedder imports them as they are"
    )
    import_ = commands.add_parser("import", help="import memories from an export; idempotent")
    import_.add_argument("file", type=Path, metavar="FILE")
    forget = commands.add_parser("forget", help="delete memories; with --purge also from the files, verified")
    forget.add_argument(
        "--id",
        type=memory_id,
        action="append",
        default=[],
        metavar="ID",
        help="memory id or unique prefix; may be repeated",
    )
    forget.add_argument("--everything", action="store_true", help="delete the memories of all users")
    forget.add_argument(
        "--purge", action="store_true", help="also rewrite the files and verify that the texts are gone"
    )
    forget.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    for command in (export, forget):
        command.add_argument("--user", help="only this user")
        command.add_argument("--session", help="only this conversation")
    for command, run in ((export, _export), (import_, _import), (forget, _forget)):
        command.add_argument("--tenant", help="only this tenant; a gateway key is limited to its own")
        add_address(command)
        command.set_defaults(run=run)


def _add_move(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Moves the whole memory from the place that --config names to that of --to: one is a data folder, the other a "
        "cluster (PostgreSQL and object storage). Stop all gateways before. The source stays as a copy, on which no "
        "gateway starts; the target must be empty. After an interruption, run it again."
    )
    parser.add_argument(
        "--to", type=Path, required=True, metavar="CONFIG", help="configuration file of the place to move it to"
    )
    parser.add_argument("--dry-run", action="store_true", help="check both places, and show what would be moved")
    parser.set_defaults(run=_move)


def _add_eval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="conversations with labelled questions; see docs/guides/evaluation.md",
    )
    parser.add_argument(
        "--vs", type=Path, metavar="CONFIG", help="configuration to compare with, on the same questions"
    )
    parser.add_argument(
        "--budgets", type=_budgets, default=_BUDGETS, metavar="N,N", help="comma-separated token budgets"
    )
    parser.add_argument("--all", action="store_true", help="include questions that are not marked `headline`")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to this file")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="plot recall against the tokens injected")
    parser.set_defaults(run=_eval)


def _budgets(text: str) -> tuple[int, ...]:
    try:
        budgets = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        budgets = ()
    if not budgets or budgets[0] < 1 or budgets[-1] > _MAX_BUDGET:
        raise argparse.ArgumentTypeError(f"token budgets are numbers from 1 to {_MAX_BUDGET}, separated by commas")
    return budgets


def _load(arguments: argparse.Namespace) -> Config:
    try:
        return load_config(arguments)
    except ConfigError as error:
        fail(f"{config_path(arguments.config)}:\n{error}", 2)


def _check(arguments: argparse.Namespace) -> int:
    from gateway.app import Gateway  # noqa: PLC0415 — seconds that `--help` does not need
    from gateway.cli.banner import describe  # noqa: PLC0415

    config = _load(arguments)
    try:
        Gateway(config)  # loads and checks the plugins
    except ConfigError as error:
        fail(str(error), 2)
    describe(config, config_path(arguments.config))
    return _check_place(config) if config.memory.enabled else 0


def _check_place(config: Config) -> int:
    """Say what is wrong with a folder, or with the database and the bucket of a cluster. Returns the exit status."""
    from gateway.storage.folder import FolderRefused, require_not_moved  # noqa: PLC0415 — not needed by `--help`

    if not config.memory.is_cluster:
        try:
            require_not_moved(config.data_folder)
        except FolderRefused as error:
            fail(str(error), 1)
        return 0
    from gateway.storage.cluster_parts import check_cluster  # noqa: PLC0415 — needs an extra; `Gateway` has checked

    obstacles, advice = asyncio.run(check_cluster(config))
    for text in (*obstacles, *advice):
        sys.stderr.write(f"gateway: {text}\n")
    if not obstacles:
        sys.stdout.write("the database and the bucket can be used\n")
    return 1 if obstacles else 0


def _eval(arguments: argparse.Namespace) -> int:
    from gateway.cli import evaluate  # noqa: PLC0415 — seconds that `--help` does not need
    from gateway.evaluate.conversations import InvalidConversations  # noqa: PLC0415
    from gateway.evaluate.run import Failed  # noqa: PLC0415

    configs = {str(config_path(arguments.config)): _load(arguments)}
    try:
        if arguments.vs is not None:
            configs[str(arguments.vs)] = load(arguments.vs)
        return evaluate.run(arguments, configs)
    except (InvalidConversations, Failed, ConfigError, OSError) as error:
        fail(str(error), 1 if isinstance(error, Failed) else 2)


def _usage(arguments: argparse.Namespace) -> int:
    from rich.console import Console  # noqa: PLC0415 — not needed by `serve`

    from gateway.cli.usage import show  # noqa: PLC0415

    url, key = address_of(arguments, _load(arguments))
    parameters = {"by": arguments.by, "since": arguments.since, "until": arguments.until}
    try:
        usage = ask(f"{url}/v1/usage?{urlencode({name: text for name, text in parameters.items() if text})}", key)
    except NotAnswered as error:
        fail(str(error), 1)
    if arguments.json:
        Console().print_json(data=usage)
    else:
        show(usage, arguments.by.split(","), Console())
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from rich.console import Console  # noqa: PLC0415 — not needed by `serve`

    from gateway.cli.explain import show  # noqa: PLC0415

    url, key = address_of(arguments, _load(arguments))
    try:
        explanation = ask(f"{url}/v1/memory/explain/{quote(arguments.id, safe='')}", key)
    except NotAnswered as error:
        fail(str(error), 1)
    console = Console()
    if arguments.json:
        console.print_json(data=explanation)
    else:
        show(explanation, console, everything=arguments.all)
    return 0


def _history(arguments: argparse.Namespace) -> int:
    from gateway.cli import history  # noqa: PLC0415 — not needed by `serve`

    return _run_with_gateway(arguments, lambda url, key, _: history.run(arguments, url, key))


def _reindex(arguments: argparse.Namespace) -> int:
    from gateway.cli import reindex  # noqa: PLC0415 — seconds that `--help` does not need
    from gateway.storage.folder import FolderRefused  # noqa: PLC0415

    config = _load(arguments)
    try:
        return reindex.run(config, *address_of(arguments, config), may_be_alone=arguments.url is None)
    except (NotAnswered, FolderRefused, ConfigError, OSError) as error:
        fail(str(error), 1)


def _export(arguments: argparse.Namespace) -> int:
    from gateway.cli.transfer import exported, save  # noqa: PLC0415 — not needed by `serve`

    def work(url: str, key: str, console: "Console") -> int:
        selection = {name: getattr(arguments, name) for name in ("tenant", "user", "session")}
        selection["vectors"] = "true" if arguments.vectors else None
        lines = exported(url, key, selection)
        count = save(lines, arguments.file, console, with_vectors=arguments.vectors)
        console.print(f"{count} memories exported" + ("" if arguments.file == "-" else f" to {arguments.file}"))
        return 0

    return _run_with_gateway(arguments, work)


def _import(arguments: argparse.Namespace) -> int:
    from gateway.cli.transfer import load as import_file  # noqa: PLC0415 — as above

    def work(url: str, key: str, console: "Console") -> int:
        result = import_file(arguments.file, url, key, arguments.tenant, console)
        console.print(f"{result['imported']} memories imported, {result['unchanged']} were there already")
        return 0

    if not arguments.file.is_file():
        fail(f"there is no file {arguments.file}", 2)
    return _run_with_gateway(arguments, work)


def _forget(arguments: argparse.Namespace) -> int:
    from gateway.cli import forget  # noqa: PLC0415 — as above

    config = _load(arguments)
    body = {
        **{name: getattr(arguments, name) for name in ("tenant", "user", "session")},
        **{"ids": arguments.id, "everything": arguments.everything, "purge": arguments.purge},
    }
    folder = config.data_folder if arguments.url is None and not config.memory.is_cluster else None
    return _run_with_gateway(
        arguments,
        lambda url, key, console: forget.run(
            url, key, forget.checked(body), console, folder=folder, is_sure=arguments.yes
        ),
    )


def _move(arguments: argparse.Namespace) -> int:
    source = _load(arguments)
    try:
        target = load_target(arguments)
    except ConfigError as error:
        fail(str(error), 2)
    try:
        return _move_between(source, target, is_trial=arguments.dry_run)
    except KeyboardInterrupt:  # before it has begun, or again
        fail("stopped: run the command again", 130)


def _move_between(source: Config, target: Config, *, is_trial: bool) -> int:
    from rich.console import Console  # noqa: PLC0415 — not needed by `serve`

    from gateway.cli import move  # noqa: PLC0415 — seconds that `--help` does not need
    from gateway.maintenance.move import MoveRefused  # noqa: PLC0415 — as above

    try:
        return move.run(source, target, Console(), is_trial=is_trial)
    except (MoveRefused, ConfigError) as error:
        fail(str(error), 1)


def _mcp(arguments: argparse.Namespace) -> int:
    output = mcp.protocol_output()

    def work(url: str, key: str, console: "Console") -> int:
        return mcp.run(url, key, arguments.user, sys.stdin.buffer, output)

    return _run_with_gateway(arguments, work, mcp.beside)


def _run_with_gateway(
    arguments: argparse.Namespace,
    work: "Callable[[str, str, Console], int]",
    temporary: "Callable[[Config], Config]" = Config.alone,
) -> int:
    """Run `work` against the running gateway, or a temporary one on the data folder, whose configuration `temporary`
    derives."""
    from rich.console import Console  # noqa: PLC0415 — not needed by `serve`

    from gateway.cli.serving import serving  # noqa: PLC0415
    from gateway.storage.folder import FolderRefused  # noqa: PLC0415

    config, console = _load(arguments), Console(stderr=True)
    try:
        address, alone = address_of(arguments, config), temporary(config) if arguments.url is None else None
        with serving(config, *address, console, alone=alone) as (url, key):
            return work(url, key, console)
    except (NotAnswered, FolderRefused, ConfigError, OSError) as error:
        fail(str(error), 1)


def _serve(arguments: argparse.Namespace) -> int:
    from gateway.cli import serve  # noqa: PLC0415 — not needed by other commands

    control = inherited_control()
    if control is not None:
        return serve.run_worker(control)
    return serve.run(_load(arguments), arguments)
