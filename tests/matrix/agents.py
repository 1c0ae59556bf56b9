"""Runs one coding agent twice against a gateway, and prints what was remembered and sent, as JSON.

`python -m tests.matrix.agents NAME FOLDER`; the test runs it in a network of its own that has loopback only. The first
run is told something and calls a tool; the second one, in a new conversation, asks for it.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

from tests.fakes.agent_upstream import AgentUpstream
from tests.fakes.running import configuration, running_gateway

__all__ = ["AGENTS", "ASKED", "TOLD"]

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "tests" / "clients" / "agents" / "node_modules"
NODE = ROOT / ".venvs" / "node" / "bin"
TOLD = "My cat is called Miso. Read notes.txt and tell me how many lines it has."
ASKED = "What is my cat called?"
MODEL, KEY = "made-up-1", "dummy-key"
LIMIT = 120.0  # seconds of one run


class Command(NamedTuple):
    """A command line, what it needs of the environment, and files that are written into its home before."""

    words: list[str]
    environment: dict[str, str]
    files: dict[str, str]


def _claude(url: str, prompt: str) -> Command:
    words = [str(MODULES / "@anthropic-ai/claude-code-linux-x64/claude"), "--model", MODEL, "-p", prompt]
    return Command(words, {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": KEY}, {})


def _codex(url: str, prompt: str) -> Command:
    config = (
        f'model = "{MODEL}"\nmodel_provider = "local"\n[model_providers.local]\nname = "local"\n'
        f'base_url = "{url}/v1"\nenv_key = "LOCAL_KEY"\nwire_api = "responses"\n[analytics]\nenabled = false\n'
    )
    flags = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    words = [str(MODULES / ".bin/codex"), "exec", *flags, prompt]
    return Command(words, {"LOCAL_KEY": KEY}, {".codex/config.toml": config})


def _opencode(url: str, prompt: str) -> Command:
    options = {"baseURL": f"{url}/v1", "apiKey": KEY}
    provider = {"npm": "@ai-sdk/openai-compatible", "name": "Local", "options": options, "models": {MODEL: {}}}
    config = {"autoupdate": False, "provider": {"local": provider}}
    environment = {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"}
    # it puts an argument with a space into quotes: one word an argument
    words = [str(MODULES / "opencode-linux-x64/bin/opencode"), "run", "-m", f"local/{MODEL}", "--", *prompt.split(" ")]
    return Command(words, environment, {".config/opencode/opencode.json": json.dumps(config)})


def _qwen(url: str, prompt: str) -> Command:
    environment = {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": KEY, "OPENAI_MODEL": MODEL}
    words = [str(MODULES / ".bin/qwen"), "--auth-type", "openai", "-m", MODEL, "--yolo", prompt]
    return Command(words, environment, {})


def _pi(url: str, prompt: str) -> Command:
    provider = {"baseUrl": f"{url}/v1", "api": "openai-completions", "apiKey": KEY, "models": [{"id": MODEL}]}
    words = [str(MODULES / ".bin/pi"), "--provider", "local", "--model", MODEL, "-p", prompt]
    files = {".pi/agent/models.json": json.dumps({"providers": {"local": provider}})}
    return Command(words, {"PI_OFFLINE": "1", "PI_TELEMETRY": "0"}, files)


def _cline(url: str, prompt: str) -> Command:
    kind = "openai-compatible"
    settings = {"provider": kind, "apiKey": KEY, "model": MODEL, "baseUrl": f"{url}/v1"}
    entry = {"settings": settings, "updatedAt": "2026-01-01T00:00:00.000Z", "tokenSource": "manual"}
    config = {"version": 1, "lastUsedProvider": kind, "modes": {}, "providers": {kind: entry}}
    binary = str(MODULES / "@cline/cli-linux-x64/bin/cline")
    words = [binary, "-P", kind, "-m", MODEL, "-k", KEY, "--auto-approve", "true", prompt]
    return Command(words, {}, {".cline/data/settings/providers.json": json.dumps(config)})


AGENTS: dict[str, Callable[[str, str], Command]] = {
    "claude": _claude,
    "codex": _codex,
    "opencode": _opencode,
    "qwen": _qwen,
    "pi": _pi,
    "cline": _cline,
}


async def run_agent(name: str, folder: Path) -> dict[str, Any]:
    """Both runs of an agent: how they ended, what is remembered, and the requests that the upstream got in the first
    (`called`) and in the second run (`bodies`)."""
    home, work = folder / "home", folder / "work"
    (home / "tmp").mkdir(parents=True)
    work.mkdir()
    for file, text in (
        ("AGENTS.md", "Be brief.\n"),
        ("CLAUDE.md", "Be brief.\n"),
        ("notes.txt", "alpaca\nbadger\ncormorant\n"),
    ):
        (work / file).write_text(text)
    upstream = AgentUpstream(TOLD, str(work / "notes.txt"))
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_route("*", "/{rest:.*}", upstream.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    ends: list[dict[str, Any]] = []
    first = 0
    exported: list[bytes] = []
    try:
        config = configuration(folder, f"{url}/v1", memory__default_user="me")
        async with running_gateway(config) as gateway:
            for prompt in (TOLD, ASKED):
                first = len(upstream.received)
                ends.append(await _run(AGENTS[name](gateway.url, prompt), home, work))
                await gateway.settled()
            exported = (await gateway.get("/v1/memory/export")).body.splitlines()
    finally:
        await runner.cleanup()
    records = [json.loads(line) for line in exported]
    return {
        "ends": ends,
        "records": records,
        "called": upstream.received[:first],
        "bodies": upstream.received[first:],
    }


async def _run(command: Command, home: Path, work: Path) -> dict[str, Any]:
    for path, text in command.files.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text)
    environment = {
        "PATH": f"{NODE}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local/share"),
        "XDG_STATE_HOME": str(home / ".local/state"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "TMPDIR": str(home / "tmp"),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "CI": "1",
        "NO_COLOR": "1",
        **command.environment,
    }
    process = await asyncio.create_subprocess_exec(
        *command.words,
        cwd=work,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), LIMIT)
    except TimeoutError:
        out, err = b"", b"timed out"
    finally:
        with contextlib.suppress(ProcessLookupError):  # what it left in the background
            os.killpg(process.pid, signal.SIGKILL)
    return {
        "code": process.returncode,
        "out": out.decode(errors="replace"),
        "err": err.decode(errors="replace")[-2000:],
    }


def _loopback_up() -> None:
    """Switch loopback on, as `ip link set lo up` does: in a network of its own it is off."""
    up_and_running, set_flags = 0x1 | 0x40, 0x8914  # IFF_UP | IFF_RUNNING, SIOCSIFFLAGS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle, contextlib.suppress(OSError):
        fcntl.ioctl(handle, set_flags, struct.pack("16sH14s", b"lo", up_and_running, b""))


if __name__ == "__main__":
    _loopback_up()
    print(json.dumps(asyncio.run(run_agent(sys.argv[1], Path(sys.argv[2])))))
