"""Reference of the command line, from its parser."""

import argparse
from collections.abc import Iterator

from gateway.cli import main as cli
from gateway.config import default_folder
from tests.docs.reference.tables import code, table

__all__ = ["commands", "describe_commands"]


def describe_commands() -> str:
    """The usage and the arguments of every command."""
    parts = []
    for name, summary, parser in commands():
        actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
        usage = " ".join(
            [f"gateway {name}", *map(_usage, sorted(actions, key=lambda action: not action.option_strings))]
        )
        rows = [(_name(action), _help(action)) for action in actions]
        parts += [f"## `gateway {name}`", f"{summary[0].upper()}{summary[1:]}.", f"```text\n{_wrap(usage)}\n```"]
        parts += [table(("argument", "meaning"), rows)]
    return "\n\n".join(parts)


def commands() -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Yield the name, the summary and the parser of every command."""
    yield from _commands(cli._parser(), "")


def _commands(parser: argparse.ArgumentParser, prefix: str) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, command in action.choices.items():
                nested = list(_commands(command, f"{prefix}{name} "))
                yield from nested or [(prefix + name, summaries[name], command)]


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return action.dest.upper() if action.option_strings else action.dest


def _takes_value(action: argparse.Action) -> bool:
    return action.nargs != 0


def _name(action: argparse.Action) -> str:
    if not action.option_strings:
        return code(_value(action))
    return code(f"{action.option_strings[-1]} {_value(action)}" if _takes_value(action) else action.option_strings[-1])


def _usage(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"{_value(action)} …" if action.nargs == "+" else _value(action)
    return f"[{_name(action).strip('`')}]"


def _help(action: argparse.Action) -> str:
    text = (action.help or "").replace(str(default_folder()), "the data folder of the platform")
    if not text and action.default is not None:
        text = f"default: {action.default}"
    return text


def _wrap(usage: str, width: int = 90) -> str:
    """Break a usage line between arguments."""
    lines, line = [], ""
    for word in usage.replace("[", "\n[").split("\n"):
        if line and len(line) + len(word) > width:
            lines.append(line.rstrip())
            line = "    "
        line += word
    return "\n".join([*lines, line.rstrip()])
