"""`gateway memory list`, `search`, `history` and `undo`: current and past memories, and undoing changes."""

import argparse
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from gateway.cli.calling import add_address, ask, memory_id, readable
from gateway.memory.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

__all__ = ["add_commands", "run", "show"]

_CHARACTERS = 200
_NARROW = 60  # columns of a terminal below which a text is on separate lines
_SHORT_ID = 12


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> "list[argparse.ArgumentParser]":
    """Add the four commands; the caller sets their `run` function."""
    listed = commands.add_parser("list", help="list a user's memories, newest first; --as-of shows them as of a date")
    listed.add_argument("--as-of", metavar="TIME", help="memories known and valid at this date or time")
    search = commands.add_parser("search", help="search a user's memories")
    search.add_argument("query", metavar="QUESTION")
    for command in (listed, search):
        command.add_argument("--user", help="user id; default: memory.default_user")
        command.add_argument("--kind", metavar="KIND,KIND", help=", ".join(KINDS))
        command.add_argument("--archived", action="store_true", help="archived memories instead")
        command.add_argument("--limit", type=int, default=50, metavar="N")
    history = commands.add_parser("history", help="show what a memory superseded, and what superseded it")
    undo = commands.add_parser("undo", help="undo the last change of a memory")
    for command in (history, undo):
        command.add_argument("id", type=memory_id, metavar="ID", help="memory id or unique prefix")
    for command, what in ((listed, "list"), (search, "search"), (history, "history"), (undo, "undo")):
        command.add_argument("--json", action="store_true", help="print JSON")
        add_address(command)
        command.set_defaults(what=what)
    return [listed, search, history, undo]


def run(arguments: argparse.Namespace, url: str, key: str) -> int:
    """Send the request and print the answer. Raises NotAnswered."""
    from rich.console import Console  # noqa: PLC0415 — not needed by `serve`

    console = Console()
    requests: Callable[[], Any] = {
        "list": lambda: ask(f"{url}/v1/memory/list?{_query(arguments)}", key),
        "search": lambda: ask(f"{url}/v1/memory/search?{_query(arguments)}", key),
        "history": lambda: ask(f"{url}/v1/memory/history/{quote(arguments.id, safe='')}", key),
        "undo": lambda: ask(f"{url}/v1/memory/undo/{quote(arguments.id, safe='')}", key, {}),
    }[arguments.what]
    reply = requests()
    if arguments.json:
        console.print_json(data=reply)
    else:
        show(reply["data"], console)
        if reply.get("has_more"):
            console.print(f"and more; --limit shows more than {arguments.limit}")
    return 0


def _query(arguments: argparse.Namespace) -> str:
    parameters = {
        "query": getattr(arguments, "query", None),
        "as_of": getattr(arguments, "as_of", None),
        "user": arguments.user,
        "kind": arguments.kind,
        "archived": "true" if arguments.archived else None,
        "limit": str(arguments.limit),
    }
    return urlencode({name: text for name, text in parameters.items() if text})


def show(memories: list[dict[str, Any]], console: "Console") -> None:
    """Print memories from the routes, with the prefixes of their ids, which the commands accept."""
    from rich.table import Table  # noqa: PLC0415

    if not memories:
        console.print("There is nothing. Whose memories are meant: --user? Those that hold no more: --archived?")
        return
    has_until = any(_until(memory) for memory in memories)
    is_narrow = console.width < _NARROW
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("id", "kind", "from", *(["until"] if has_until else [])):
        table.add_column(name, no_wrap=True)
    if not is_narrow:
        table.add_column("memory", ratio=1, overflow="fold")
    for memory in memories:
        voice = "concluded" if memory["is_learnt"] and memory["source"] == "assistant" else memory["source"]
        said_by = "" if voice == "user" else f"{voice}: "
        text = readable(said_by + " ".join(memory["text"].split())[:_CHARACTERS])
        cells = [memory["id"][:_SHORT_ID], memory["kind"], memory["from"][:10]]
        cells += [_until(memory)] if has_until else []
        style = "" if memory["status"] == "activated" else "dim"
        if is_narrow:  # a column would be a few characters wide
            console.print("  ".join(cells), style="bold", markup=False, highlight=False)
            console.print(text, style=style)
        else:
            table.add_row(*cells, text, style=style)
    if not is_narrow:
        console.print(table)


def _until(memory: dict[str, Any]) -> str:
    return memory["until"][:10] if memory["until"] else ("" if memory["status"] == "activated" else memory["status"])
