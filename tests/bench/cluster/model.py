"""Simulates the requests to S3 of a cluster: which chats load memories, and what is written. Pure.

Each gateway keeps the memories of its users in RAM, least recently used out first; a chat whose memories are not there
loads them. Each bucket is written `flush_seconds` after the first new memory in it, and compacted when its growing
table has many fragments. What an operation costs was measured one by one, with a proxy that counts.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

__all__ = ["Chat", "Costs", "World", "draw_chats", "simulate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Requests by kind of each operation.

    `settled`: load a user of 500 memories from a settled table (with 2 000 it is 9). `fragment`: the same of each
    fragment of a growing table, `new_fragment` more for one that the gateway has not read yet. `move`: open the
    version that a growing table has by the catalog. `append`: write the new memories of a bucket. `compact`:
    compact a growing table, and `compact_fragment` more for each of its fragments.
    """

    settled: Mapping[str, float] = field(default_factory=lambda: {"GET": 5.5})
    fragment: Mapping[str, float] = field(default_factory=lambda: {"GET": 2})
    new_fragment: Mapping[str, float] = field(default_factory=lambda: {"GET": 1})
    move: Mapping[str, float] = field(default_factory=lambda: {"GET": 1, "HEAD": 1})
    append: Mapping[str, float] = field(default_factory=lambda: {"PUT": 3, "LIST": 1})
    compact: Mapping[str, float] = field(default_factory=lambda: {"PUT": 5, "LIST": 11})
    compact_fragment: Mapping[str, float] = field(default_factory=lambda: {"GET": 3})


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is simulated. `set_bytes`: of a user's memories in RAM; `fragments`: of each growing table at the beginning;
    `maintained_at`: seconds after the beginning at which owners first look what needs compaction, then every
    `maintain_every`. `bucket_of` and `gateway_of`: of a user; `owner_of`: the gateway that owns a bucket."""

    set_bytes: float
    fragments: int
    ram_bytes: int
    flush_seconds: float
    maintained_at: float
    bucket_of: Callable[[str], int]
    gateway_of: Callable[[str], int]
    owner_of: Callable[[int], int]
    maintain_every: float = 60.0
    compact_fragments: int = 16
    costs: Costs = field(default_factory=Costs)


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat of a user, so many seconds after the beginning."""

    at: float
    user: str


def draw_chats(users: Sequence[str], count: int, per_second: float, *, zipf: float = 0.8, seed: int = 1) -> list[Chat]:
    """Chats at a steady rate, of users whose activity follows Zipf's law."""
    random = Random(seed)
    weights = [1 / (number + 1) ** zipf for number in range(len(users))]
    chosen = random.choices(users, weights, k=count)
    return [Chat(number / per_second, user) for number, user in enumerate(chosen)]


@dataclass(slots=True)
class _Table:
    """A growing table. Its fragments have the numbers from `first` up to `end`. `opened`: the version that each gateway
    has opened, and `seen`: the end of the fragments that it has read; all have read those of the beginning."""

    fragments_at_first: int
    first: int = 0
    end: int = 0
    version: int = 0
    waits_since: float | None = None
    opened: dict[int, int] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.end = self.fragments_at_first

    @property
    def fragments(self) -> int:
        return self.end - self.first

    def count_new(self, gateway: int) -> int:
        """The fragments that a gateway has not read yet."""
        return self.end - max(self.first, self.seen.get(gateway, self.fragments_at_first))


class _Cluster:
    """The state of a simulated cluster. `counts`: requests by kind; `loads`: how often memories were loaded."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sets: dict[int, OrderedDict[str, None]] = {}
        self._tables: dict[int, _Table] = {}
        self._next_maintenance = world.maintained_at
        self.counts = defaultdict[str, float](float)
        self.loads = 0
        self._capacity = int(world.ram_bytes / world.set_bytes)

    def advance(self, now: float) -> None:
        """Write and compact what is due up to a moment."""
        for bucket, table in self._tables.items():
            if table.waits_since is not None and now - table.waits_since >= self._world.flush_seconds:
                table.waits_since = None
                self._charge(self._world.costs.append)
                self._change(bucket, table, table.first)
        if now >= self._next_maintenance:
            self._next_maintenance += self._world.maintain_every
            for bucket, table in self._tables.items():
                self._maintain(bucket, table)

    def chat(self, chat: Chat) -> None:
        """Load the memories of a user if they are not in RAM, and let the new ones wait."""
        gateway, bucket = self._world.gateway_of(chat.user), self._world.bucket_of(chat.user)
        sets = self._sets.setdefault(gateway, OrderedDict())
        table = self._table(bucket)
        if chat.user not in sets:
            self._load(gateway, table)
        sets[chat.user] = None
        sets.move_to_end(chat.user)
        while len(sets) > self._capacity:
            sets.popitem(last=False)
        if table.waits_since is None:
            table.waits_since = chat.at

    def _table(self, bucket: int) -> _Table:
        if bucket not in self._tables:
            self._tables[bucket] = _Table(self._world.fragments)
        return self._tables[bucket]

    def _load(self, gateway: int, table: _Table) -> None:
        costs = self._world.costs
        self.loads += 1
        self._charge(costs.settled)
        if table.opened.get(gateway, 0) < table.version:
            self._charge(costs.move)
        self._charge(costs.fragment, table.fragments)
        self._charge(costs.new_fragment, table.count_new(gateway))
        table.seen[gateway] = table.end
        table.opened[gateway] = table.version

    def _maintain(self, bucket: int, table: _Table) -> None:
        if table.fragments >= self._world.compact_fragments:
            self._charge(self._world.costs.compact)
            self._charge(self._world.costs.compact_fragment, table.fragments)
            self._change(bucket, table, table.end)

    def _change(self, bucket: int, table: _Table, first: int) -> None:
        """Let a table have one fragment more, and none before `first`."""
        table.version += 1
        table.first, table.end = first, table.end + 1
        table.opened[self._world.owner_of(bucket)] = table.version  # it has written it

    def _charge(self, cost: Mapping[str, float], times: int = 1) -> None:
        for kind, count in cost.items():
            self.counts[kind] += count * times


def simulate(world: World, chats: Sequence[Chat], counted_from: int, until: float) -> tuple[dict[str, float], float]:
    """The requests by kind of all chats from a number on, with what is written up to a moment; and the share of these
    chats that find their memories in RAM."""
    cluster = _Cluster(world)
    before, loads = dict[str, float](), 0
    for number, chat in enumerate(chats):
        cluster.advance(chat.at)
        if number == counted_from:
            before, loads = dict(cluster.counts), cluster.loads
        cluster.chat(chat)
    cluster.advance(until)
    counted = len(chats) - counted_from
    difference = {kind: count - before.get(kind, 0) for kind, count in cluster.counts.items()}
    return difference, 1 - (cluster.loads - loads) / counted
