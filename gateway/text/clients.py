"""The table of front ends and agents (`clients.toml`): marks of the text that they add to the user's messages."""

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

__all__ = ["AGENT_HEADERS", "CLIENTS", "DocumentMark", "FrontEnd"]

AGENT_HEADERS: Final = (
    "x-claude-code-agent-id",
    "x-openai-subagent",
    "x-parent-session-id",
    "x-codex-parent-thread-id",
)
"""Headers of requests that an agent makes for another agent, so that their user is not a person."""


@dataclass(frozen=True, slots=True)
class DocumentMark:
    """The marks of a user message with material and a question: `begin` is its beginning; the question comes after the
    last `before`, and ends at the first `after` behind that, or at the end."""

    begin: str
    before: str
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """The marks of one client.

    `cut_tags`: tags whose content a program inserted. `kept_tags`: tags whose content alone is the user's words.
    `cut_spans`: beginnings and ends of inserted text without tags; without an end it reaches to the end of the message.
    `quoted`: marks before and behind the user's words within inserted text.
    `program_messages`: beginnings of user messages, or of their parts, that a program wrote in a conversation.
    `tool_results`: the same for results of tools, as regular expressions.
    `tasks`: beginnings of last messages in which a program makes a request of its own; `task_texts`: whole messages;
    `task_marks`: marks anywhere in the message; `task_systems`: beginnings of system prompts.
    """

    name: str
    cut_tags: tuple[str, ...] = ()
    kept_tags: tuple[str, ...] = ()
    cut_spans: tuple[tuple[str, str], ...] = ()
    quoted: tuple[tuple[str, str], ...] = ()
    program_messages: tuple[str, ...] = ()
    tool_results: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    task_texts: tuple[str, ...] = ()
    task_marks: tuple[str, ...] = ()
    task_systems: tuple[str, ...] = ()
    documents: tuple[DocumentMark, ...] = ()


def _read_client(entry: dict[str, Any]) -> FrontEnd:
    fields = dict(entry)
    fields["documents"] = tuple(DocumentMark(**document) for document in fields.pop("documents", ()))
    for name in ("cut_spans", "quoted"):
        fields[name] = tuple((begin, end) for begin, end in fields.pop(name, ()))
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return FrontEnd(**values)


def _read_table() -> tuple[FrontEnd, ...]:
    text = resources.files("gateway.text").joinpath("clients.toml").read_text(encoding="utf-8")
    return tuple(map(_read_client, tomllib.loads(text)["client"]))


CLIENTS: Final = _read_table()
