"""The setting of a run on a cluster: the engines, the sizes, and the place that has memories."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.bench.cluster.engines import Engines, Place
from tests.bench.cluster.filling import fill_place

__all__ = ["FULL", "QUICK", "ClusterBench", "ClusterSizes"]


@dataclass(frozen=True, slots=True)
class ClusterSizes:
    """How much is measured."""

    samples: int  # of a memory that is recalled elsewhere
    failovers: int
    cold_users: int  # with `COLD_ROWS` memories each
    users: int  # with `ROWS` memories each, who chat
    chats: int  # whose requests to S3 are counted
    chat_rate: float  # a second
    rounds: int  # of CPU time
    round_chats: int
    edit_seconds: float
    texts: int  # whose vectors are computed for filling


FULL = ClusterSizes(
    samples=400,
    failovers=2,
    cold_users=20,
    users=100,
    chats=900,
    chat_rate=12.0,
    rounds=4,
    round_chats=200,
    edit_seconds=8.0,
    texts=1000,
)
QUICK = ClusterSizes(
    samples=100,
    failovers=1,
    cold_users=20,
    users=100,
    chats=300,
    chat_rate=12.0,
    rounds=2,
    round_chats=100,
    edit_seconds=3.0,
    texts=400,
)


@dataclass
class ClusterBench:
    """The parts that all figures share. `step` shows what is done."""

    engines: Engines
    sizes: ClusterSizes
    step: Callable[[str], None]
    COLD_ROWS = 2_000
    ROWS = 500
    FRAGMENTS = 8
    _filled: Place | None = None
    _filling: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def cold_users(self) -> dict[str, int]:
        """Users with many memories, by the number of them."""
        return {f"cold{number}": self.COLD_ROWS for number in range(self.sizes.cold_users)}

    @property
    def users(self) -> dict[str, int]:
        """Users with some memories, by the number of them."""
        return {f"user{number}": self.ROWS for number in range(self.sizes.users)}

    async def filled_place(self) -> Place:
        """The place with the memories of all users, filled when it is first asked for."""
        async with self._filling:
            if self._filled is None:
                self.step("filling")
                self._filled = self.engines.create_place("filled")
                everyone = self.cold_users | self.users
                await fill_place(self.engines, self._filled, everyone, texts=self.sizes.texts, fragments=self.FRAGMENTS)
            return self._filled
