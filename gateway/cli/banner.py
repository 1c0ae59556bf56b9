"""Terminal output for the operator: after the start, and of `gateway check`."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from gateway.app import Started
from gateway.config import Config, UpstreamConfig
from gateway.config.embedder_kinds import EMBEDDER_KINDS
from gateway.config.registry import KindRegistry
from gateway.config.upstream_kinds import UPSTREAM_KINDS
from gateway.workers.cores import usable_cores

__all__ = ["announce", "describe"]


def announce(started: Started, config: Config, console: Console | None = None) -> None:
    """Print the addresses, the model and why it was selected, the data folder, and commands to paste."""
    console = console or Console()
    upstream = ", ".join(f"{entry.name} ({_address(entry)})" for entry in started.upstreams)
    table = Table.grid(padding=(0, 2))
    table.add_row("listening", Text.assemble((f"{started.url}/v1", "bold"), f"  MemOS: {started.url}/product"))
    if config.console.enabled:
        table.add_row("console", Text(f"{started.url}/ui", "bold"))
    table.add_row("upstream", Text(f"{upstream}: {started.reason}"))
    table.add_row("model", Text(f"`default` is {started.default_model}"))
    memory = f"{_place(config)} (ready in a few seconds; see {started.url}/ready)"
    table.add_row("memory", Text(memory if started.data_folder else "off"))
    if config.server.workers > 1:
        table.add_row("workers", f"{config.server.workers} processes; worker 0 stores memories, all answer chats")
    table.add_row("learning", Text(_learning(config)))
    keys = len(config.auth.keys)
    table.add_row("access", f"{keys} key(s)" if keys else "open to this machine, no key needed")
    table.add_row("docs", f"docs/quickstart.md, docs/guides/operations.md; API: {started.url}/docs")
    console.print(Panel(table, title="Memory Gateway", title_align="left", expand=False))
    key = "YOUR-GATEWAY-KEY" if keys else "any"
    console.print(Text("Try it:", style="bold"))
    console.print(Text(_curl(started.url, key)), soft_wrap=True)
    console.print(Text(_python(started.url, key)), soft_wrap=True)


def describe(config: Config, file: Path, console: Console | None = None) -> None:
    """Print a summary of a valid configuration; `file` is its path."""
    console = console or Console()
    upstreams = config.upstreams if config.upstreams != "auto" else ()
    table = Table.grid(padding=(0, 2))
    table.add_row("file", Text(str(file.resolve())))
    table.add_row("listens on", f"{config.server.host}:{config.server.port}")
    table.add_row("workers", _workers(config))
    table.add_row(
        "upstreams",
        ", ".join(f"{entry.name} ({_with_source(entry.kind, UPSTREAM_KINDS)})" for entry in upstreams) or "auto",
    )
    table.add_row("memory", Text(_place(config) if config.memory.enabled else "off"))
    if config.memory.enabled and config.memory.is_cluster:
        table.add_row("database", Text(_database(config)))
    table.add_row("embedder", Text(_with_source(config.memory.embedder.kind, EMBEDDER_KINDS)))
    table.add_row("learning", Text(_learning(config)))
    table.add_row("keys", str(len(config.auth.keys)) if config.auth.keys else "none: loopback only")
    table.add_row("plugins", ", ".join(entry.use for entry in config.plugins if entry.enabled) or "none")
    console.print(Panel(table, title="configuration is valid", title_align="left", expand=False))


def _place(config: Config) -> str:
    """Where the memory is: its folder, or its address on S3."""
    return config.memory.uri if config.memory.is_cluster else str(config.data_folder)


def _database(config: Config) -> str:
    """The server and the name of the database, without the rest of its address: that may contain a password."""
    address = config.memory.database.get_secret_value() if config.memory.database is not None else ""
    parts = urlsplit(address)
    server = parts.netloc.rpartition("@")[2]
    if not server or "@" in parts.path + parts.query + parts.fragment:  # a socket, or a password with `/`, `?` or `#`
        return "PostgreSQL"
    return f"{server}{parts.path}"


def _workers(config: Config) -> str:
    count = config.server.workers or usable_cores()
    if count == 1:
        return "none: one process"
    source = "" if config.server.workers else ", as many as usable cores"
    return f"{count} processes{source}"


def _address(upstream: UpstreamConfig) -> str:
    if upstream.base_url:
        return upstream.base_url
    return upstream.kind if upstream.rules.is_language_model else "embedded stand-in"


def _with_source(kind: str, registry: KindRegistry[Any]) -> str:
    """The name of a kind, with the package that it comes from."""
    source = registry.source(kind)
    return f"{kind} of {source}" if source else kind


def _learning(config: Config) -> str:
    model = config.memory.extraction.learner
    return f"with {model}" if model and config.memory.enabled else "off (memory.extraction.model)"


def _curl(url: str, key: str) -> str:
    body = '{"model": "default", "messages": [{"role": "user", "content": "My cat is called Miso."}]}'
    headers = f"-H 'Authorization: Bearer {key}' -H 'Content-Type: application/json'"
    return f"\n# tell it something ...\ncurl {url}/v1/chat/completions {headers} \\\n  -d '{body}'\n"


def _python(url: str, key: str) -> str:
    return (
        "# ... and ask for it in another conversation (pip install openai)\n"
        "from openai import OpenAI\n"
        f'client = OpenAI(base_url="{url}/v1", api_key="{key}")\n'
        'messages = [{"role": "user", "content": "What is my cat called?"}]\n'
        'answer = client.chat.completions.create(model="default", messages=messages)\n'
        "print(answer.choices[0].message.content)\n"
    )
