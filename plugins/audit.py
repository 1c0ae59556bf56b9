"""Audit log with a JSON line for each turn: user, time, model, memory status, outcome. No prompt, no answer, no key.

A separate thread writes the lines to a file in the plugin's own folder; a chat never waits for the disk. Several worker
processes append to the same file, whole lines each.
"""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from gateway.hooks import Plugin, PluginConfigModel, Services
from gateway.turn import Answer, Turn


class Audit(Plugin):
    """Writes the audit log."""

    class Config(PluginConfigModel):
        file: str = "audit.jsonl"

    config: Config

    async def start(self, services: Services) -> None:
        self._clock = services.clock
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="audit")
        path = services.folder / Path(self.config.file).name
        self._file = await asyncio.get_running_loop().run_in_executor(self._writer, _open, path)

    async def stop(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._writer, self._file.close)
        self._writer.shutdown()

    async def on_response(self, turn: Turn, answer: Answer) -> None:
        await self._write(turn, outcome=answer.outcome.value, finish_reason=answer.finish_reason)

    async def on_error(self, turn: Turn, error: BaseException) -> None:
        await self._write(turn, outcome="error", error=type(error).__name__)

    async def _write(self, turn: Turn, **ending: Any) -> None:
        identity = turn.identity
        line = {
            "at": round(self._clock(), 3),
            "turn": turn.id,
            "tenant": turn.principal.tenant,
            "user": _digest(identity.user_id) if identity else None,
            "session": _digest(identity.session_id) if identity else None,
            "path": turn.path,
            "model": turn.ask.model,
            "memory": turn.status.value,
            "memories": [memory.record.id for memory in turn.block.memories] if turn.block else [],
            **ending,
        }
        await asyncio.get_running_loop().run_in_executor(self._writer, self._file.write, orjson.dumps(line) + b"\n")


def _open(path: Path) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab", buffering=0)


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:12]
