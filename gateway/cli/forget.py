"""`gateway memory forget`: deletes memories; with `--purge`, proves that no file of the data folder has their text."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from gateway.cli.calling import NotAnswered, ask
from gateway.cli.transfer import exported
from gateway.storage.scan import find_texts

__all__ = ["checked", "run", "snippets"]

_PURGE_TIMEOUT = 3600.0
_MAX_SNIPPETS = 200
_MIN_SNIPPET, _MAX_SNIPPET = 16, 120  # characters of a snippet: shorter ones may occur in other memories too


def run(url: str, key: str, body: dict[str, Any], console: Console, *, folder: Path | None, is_sure: bool) -> int:
    """Delete the selected memories. `folder`: the data folder, if it is on this machine. Raises NotAnswered."""
    lines = list(exported(url, key, {name: body.get(name) for name in ("tenant", "user", "session")}))
    records = [json.loads(line) for line in lines]
    if body.get("ids"):
        body = {**body, "ids": whole_ids(body["ids"], [record["id"] for record in records])}
        records = [record for record in records if record["id"] in body["ids"]]
    console.print(f"{len(records)} memories match")
    if not records and not body.get("purge"):
        return 0
    if not is_sure and console.input("delete them for good? Type yes: ").strip().lower() != "yes":
        console.print("nothing was deleted")
        return 1
    searched_for = snippets(record["text"] for record in records)
    before = _scan(folder, searched_for, console, "searching before") if folder and body.get("purge") else {}
    answer = ask(f"{url}/v1/memory/forget", key, body, timeout=_PURGE_TIMEOUT)
    console.print(f"{answer['deleted']} memories deleted" + (", on the disk too" if answer["purged"] else ""))
    if not body.get("purge"):
        console.print(
            "They are gone from recall and exports now, and from the disk within memory.retention.purge_after_hours; "
            "--purge does that at once."
        )
        return 0
    if folder is None or not folder.is_dir():
        console.print("The data folder is not on this machine: nothing was searched.")
        return 0
    after = _scan(folder, searched_for, console, "searching after")
    return _report(before, after, len(searched_for), folder, console)


def _scan(folder: Path, texts: Sequence[str], console: Console, description: str) -> dict[str, list[str]]:
    return find_texts(
        folder, texts, lambda files: track(files, description=description, console=console, transient=True)
    )


def _report(
    before: dict[str, list[str]], after: dict[str, list[str]], count: int, folder: Path, console: Console
) -> int:
    texts_before = {text for texts in before.values() for text in texts}
    console.print(f"before: {len(texts_before)} of {count} texts stood in {len(before)} file(s) of {folder}")
    if not after:
        console.print("after: none of them stands in any file there")
        return 0
    texts_after = {text for texts in after.values() for text in texts}
    console.print(f"after: {len(texts_after)} still stand in {', '.join(sorted(after))}; were they said by others too?")
    return 1


def whole_ids(given: Sequence[str], known: Iterable[str]) -> list[str]:
    """Expand unique prefixes of ids to whole ids. Raises NotAnswered."""
    ids, everything = [], sorted(set(known))
    for prefix in given:
        matches = [id_ for id_ in everything if id_.startswith(prefix.lower())]
        if len(matches) > 1 and prefix not in matches:
            raise NotAnswered(f"{len(matches)} memories have ids that begin with {prefix}: {', '.join(matches[:4])}")
        ids.append(matches[0] if len(matches) == 1 else prefix)
    return ids


def snippets(texts: Iterable[str]) -> list[str]:
    """Search strings: a part of each text without a line break, the longest first, at most 200."""
    longest_lines = {max(text.splitlines(), key=len, default="")[:_MAX_SNIPPET].strip() for text in texts}
    ordered = sorted(longest_lines - {""}, key=len, reverse=True)
    return [text for text in ordered if len(text.encode()) >= _MIN_SNIPPET][:_MAX_SNIPPETS] or ordered[:_MAX_SNIPPETS]


def checked(body: dict[str, Any]) -> dict[str, Any]:
    """Validate the request. Raises NotAnswered if it has neither a filter nor `everything`."""
    if not (body.get("user") or body.get("session") or body.get("ids") or body.get("everything")):
        raise NotAnswered("say whose memories: --user, --session or --id; or --everything")
    return body
