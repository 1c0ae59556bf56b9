"""Lines of exports on Ray: embeds texts as the gateway does, and writes files for `gateway memory import`.

The memories of a user are in one part, so that parts can be imported at the same time, by several gateways.
"""

import argparse
import asyncio
import base64
import hashlib
import os
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import ray
import ray.data

from gateway.config import load
from gateway.embedding.calibration import Calibrations
from gateway.embedding.kinds import Embedders
from gateway.maintenance.transfer import encode_line, parse_line
from gateway.prompt.tokens import Tokenizer
from gateway.remember.measure import measure, text_to_embed
from gateway.upstream.client import make_session

__all__ = ["LINE", "SMALL", "add_arguments", "start_ray", "write_parts"]

LINE = "line"
"""The column of a dataset with lines."""
SMALL = 0.1
"""CPUs of a step that takes little: the embedders must not hold all that the other steps wait for."""
_BATCH = 512  # lines


class Embedding:
    """An actor with the embedder of a gateway's configuration file. Lines that have its vector already keep it."""

    def __init__(self, config: str) -> None:
        self._config = load(Path(config))
        self._loop = asyncio.new_event_loop()
        self._tokenizer = Tokenizer(Path(tempfile.gettempdir()) / "gateway-tokenizers")
        self._tokenizer.load()
        self._embedder = self._loop.run_until_complete(self._start())

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        lines = self._loop.run_until_complete(self._embed([bytes(line) for line in batch[LINE]]))
        return {LINE: np.array(lines, dtype=object)}

    async def _start(self) -> Any:
        calibrations = Calibrations(lambda: b"{}", lambda content: None)
        embedder = Embedders(self._config.memory.embedder, make_session(), calibrations).current
        await embedder.start()
        return embedder

    async def _embed(self, lines: Sequence[bytes]) -> list[bytes]:
        items = [parse_line(line, number, None) for number, line in enumerate(lines, 1)]
        texts = {}
        for index, item in enumerate(items):
            if item.embedder != self._embedder.name:
                text = text_to_embed(item.record, measure(item.record, self._tokenizer.count))
                if text:
                    texts[index] = text
        vectors = await self._embedder.embed_documents(list(texts.values())) if texts else ()
        embedded = list(lines)
        for index, vector in zip(texts, vectors, strict=True):
            content = base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
            fields = {"embedder": self._embedder.name, "embedding": content}
            embedded[index] = encode_line(items[index].scope, items[index].record, fields)
        return embedded


def write_batch(batch: dict[str, Any], folder: str, parts: int) -> dict[str, Any]:
    """Write the lines of a batch to one file in the folder of each part. A batch that Ray repeats is written twice;
    its import changes nothing."""
    by_part: dict[int, list[bytes]] = defaultdict(list)
    for line in map(bytes, batch[LINE]):
        by_part[_part_of(line, parts)].append(line.rstrip(b"\n") + b"\n")
    for part, lines in by_part.items():
        target = Path(folder) / f"part-{part:04d}"
        target.mkdir(parents=True, exist_ok=True)
        unfinished = target / f".{uuid.uuid4().hex}"
        unfinished.write_bytes(b"".join(lines))
        unfinished.rename(target / f"{unfinished.name[1:]}.jsonl")
    return {"lines": np.array([len(batch[LINE])])}


def _part_of(line: bytes, parts: int) -> int:
    fields = orjson.loads(line)
    owner = fields.get("owner") or fields.get("user_id") or fields.get("cube_id", "")
    return int(hashlib.sha256(f"{fields.get('tenant', '')}\0{owner}".encode()).hexdigest()[:8], 16) % parts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that all jobs have."""
    parser.add_argument("--out", required=True, help="folder for the parts, which all nodes see")
    parser.add_argument("--parts", type=int, default=64, help="number of parts")
    parser.add_argument("--embedders", type=int, default=1, help="processes that embed; at most one for each core")
    parser.add_argument("--address", default="local", help="address of a Ray cluster; local: one in this machine")


def start_ray(address: str) -> None:
    """Connect to a Ray cluster, or start one that only this machine can reach."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here = str(Path(__file__).parent)
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    options: dict[str, Any] = (
        {"_node_ip_address": "127.0.0.1", "include_dashboard": False} if address == "local" else {}
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.init(address=address, runtime_env={"env_vars": {"PYTHONPATH": path}}, log_to_driver=False, **options)


def write_parts(lines: ray.data.Dataset, config: str, options: argparse.Namespace) -> int:
    """Embed the lines of a dataset, and write them to parts. Returns how many."""
    actors = ray.data.ActorPoolStrategy(size=options.embedders)
    embedded = lines.map_batches(
        Embedding, fn_constructor_args=(str(Path(config).absolute()),), batch_size=_BATCH, compute=actors, num_cpus=1
    )
    arguments = (str(Path(options.out).absolute()), options.parts)
    written = embedded.map_batches(write_batch, fn_args=arguments, batch_size=_BATCH * 8, num_cpus=SMALL)
    return sum(int(batch["lines"].sum()) for batch in written.iter_batches())
