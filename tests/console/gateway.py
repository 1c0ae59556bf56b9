"""A gateway under test, as a process of the project's own environment, and a client for it."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

__all__ = ["GatewayProcess", "Reply", "eventually", "run_helper", "running_gateway", "running_upstream"]

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
_STARTING = 60.0  # seconds
_POLL = 0.02


def eventually(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Wait until a condition is true. Raises AssertionError after the timeout."""
    deadline, interval = time.monotonic() + timeout, _POLL
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(interval)


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class GatewayProcess:
    """A started gateway. `key` is sent with each request unless its headers say otherwise."""

    def __init__(self, url: str, log: Path, key: str) -> None:
        self.url = url
        self._log = log
        self._key = key

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        values = {"content-type": "application/json"} | ({"x-gateway-key": self._key} if self._key else {})
        encoded = {name: value.encode() for name, value in {**values, **(headers or {})}.items()}
        connection = HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        with closing(connection):
            connection.request(method, quote(path, safe="/?&=%:"), data, encoded)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, names, response.read())

    def get(self, path: str, **headers: str) -> Any:
        reply = self.request("GET", path, headers=headers)
        assert reply.status == 200, (path, reply.status, reply.body[:500])
        return reply.json

    def post(self, path: str, body: Any, **headers: str) -> Any:
        reply = self.request("POST", path, body, headers)
        assert reply.status < 300, (path, reply.status, reply.body[:500])
        return reply.json

    def chat(self, text: str, user: str, session: str = "", model: str = "default", **body: Any) -> Reply:
        """Send a chat of one message, which may fail."""
        headers = {"x-memory-user": user} | ({"x-memory-session": session} if session else {})
        messages = [{"role": "user", "content": text}]
        return self.request("POST", "/v1/chat/completions", {"model": model, "messages": messages, **body}, headers)

    def import_lines(self, lines: Iterable[dict[str, Any]]) -> None:
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        reply = self.request("POST", "/v1/memory/import", data, {"content-type": "application/x-ndjson"})
        assert reply.status == 200, reply.body[:500]

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until all memories can be recalled."""

        def is_settled() -> bool:
            state = self.request("GET", "/ready").json
            return bool(state["memory"] == "ready" and state["journal_backlog"] == 0)

        eventually(is_settled, timeout)

    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def running_gateway(folder: Path, upstream_url: str, *, key: str = "", **sections: Any) -> Iterator[GatewayProcess]:
    """A gateway with the scripted upstream, the offline one, and these sections of the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "server": {"port": 0, "shutdown_timeout": 2},
        "upstreams": [
            {"name": "offline", "kind": "offline", "models": ["default", "offline", "gpt-*"]},
            {"name": "scripted", "base_url": upstream_url},
        ],
        "memory": {"uri": str(folder / "data"), "recall": {"deadline_ms": 5000}},
        **sections,
    }
    file, log, output = folder / "config.yaml", folder / "gateway.log", folder / "gateway.out"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    command = (str(PYTHON), "-m", "gateway", "serve", "--config", str(file))
    with (
        log.open("w") as errors,
        output.open("w") as lines,
        subprocess.Popen(command, cwd=ROOT, stdout=lines, stderr=errors) as process,
    ):
        try:
            addresses: list[str] = []

            def is_listening() -> bool:
                assert process.poll() is None, log.read_text(encoding="utf-8")[-2000:]
                addresses[:] = re.findall(r"http://127\.0\.0\.1:\d+", output.read_text(encoding="utf-8"))
                return bool(addresses)

            eventually(is_listening, _STARTING)
            gateway = GatewayProcess(addresses[0], log, key)
            gateway.settle(_STARTING)
            yield gateway
        finally:
            process.kill()


@contextmanager
def running_upstream() -> Iterator[str]:
    """The address of a scripted upstream."""
    command = (str(PYTHON), "-m", "tests.console.serving", "upstream")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def run_helper(*arguments: str) -> None:
    """Run a helper of `tests.console.serving` to its end."""
    subprocess.run((str(PYTHON), "-m", "tests.console.serving", *arguments), cwd=ROOT, check=True)
