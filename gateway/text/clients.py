"""The table of front ends and agents (`clients.toml`): what they write into messages that is not the user's."""

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

__all__ = ["AGENT_HEADERS", "CLIENTS", "Client", "Document"]

AGENT_HEADERS: Final = (
    "x-claude-code-agent-id",
    "x-openai-subagent",
    "x-parent-session-id",
    "x-codex-parent-thread-id",
)
"""Headers of requests that an agent makes for another agent: their user is no person."""


@dataclass(frozen=True, slots=True)
class Document:
    """A user message that holds material and a question: `begin` is its beginning; the question stands behind the last
    `before`, up to the last `after` behind it, or the end."""

    begin: str
    before: str
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """The marks of one client.

    `cut_tags`: tags whose content a program put in. `kept_tags`: tags of which only the content is the user's words.
    `cut_spans`: beginnings and ends of what a program put in without tags; without an end it goes on to the text's end.
    `quoted`: what stands before and behind the user's words inside of what is cut.
    `program_messages`: beginnings of user messages, or of their parts, that a program wrote; the conversation goes on.
    `tool_results`: the same for results of tools, as regular expressions.
    `tasks`: beginnings of last messages with which a program asks on its own account; `task_texts` are whole ones,
    `task_marks` stand anywhere in them, `task_systems` are beginnings of system prompts.
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
    documents: tuple[Document, ...] = ()


def _client(entry: dict[str, Any]) -> Client:
    fields = dict(entry)
    fields["documents"] = tuple(Document(**document) for document in fields.pop("documents", ()))
    for name in ("cut_spans", "quoted"):
        fields[name] = tuple((begin, end) for begin, end in fields.pop(name, ()))
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return Client(**given)


def _table() -> tuple[Client, ...]:
    text = resources.files("gateway.text").joinpath("clients.toml").read_text(encoding="utf-8")
    return tuple(map(_client, tomllib.loads(text)["client"]))


CLIENTS: Final = _table()
