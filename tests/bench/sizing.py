"""How large a cluster must be: a simulation of working sets in RAM, and of requests to object storage.

`python -m tests.bench.sizing` prints the tables of docs/guides/scaling.md. Users are Zipf-distributed by activity, and
come in conversations with pauses between the chats. Each gateway has the memories of some users in RAM, and evicts
those of the least recently seen one. A chat whose user is not there loads the memories from object storage.

Bytes and requests of an operation are measured ones (of `tests/cluster/s3/test_requests.py`, and of a table of 40 000
memories); everything else here is computed, not measured.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Demand", "Setting", "build_tables", "render", "simulate", "users_by_activity"]

_HOUR = 3600.0
_CONVERSATION = 8.0  # chats of a conversation, on average
_PAUSE = 40.0  # seconds between two of them, on average
_ROWS_OF_A_CHAT = 2  # a question and an answer

_ROW_IN_RAM = 1650  # bytes of a memory in a working set, with a vector of 512 numbers
_SET_IN_RAM = 4096  # bytes of an empty working set
_ROW_IN_S3 = 2410  # bytes of a memory in a table
_LARGEST_SET = 200_000  # rows; `memory.recall.working_set_rows`

_FRAGMENTS = 16  # writes to a growing table before it is compacted; `memory.store.compact_fragments`
_FLUSH_ROWS = 256  # `memory.store.flush_rows`
_SETTLED_GETS, _FRAGMENT_GETS = 9, 2  # of loading a user, from the settled table and from each fragment
_LOAD_GETS = _SETTLED_GETS + _FRAGMENT_GETS * _FRAGMENTS / 2
_APPEND_PUTS = 4  # 3 PUT and 1 LIST
_COMPACTION_GETS, _COMPACTION_PUTS = 2.6 * _FRAGMENTS, 16
_REBUILD_ROWS, _REBUILD_SHARE = 8_192, 4  # a bucket is rewritten with so many new rows, or with one in four
_REBUILD_GETS, _REBUILD_PUTS = 159 / 40_000, 84 / 40_000  # for each row

# list prices of a large provider's standard class, in US dollars: check those of yours
_GET_PRICE = 0.4e-6
_PUT_PRICE = 5e-6  # also of a LIST
_GB_MONTH_PRICE = 0.023

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A cluster and its users. `routing`: `user` (hashed), `conversation` (each stays at a gateway) or `request` (any
    gateway). `hours`: of simulated time; the first half only fills the RAM. `zipf`: the exponent of the activity."""

    users: int
    memories: int
    chats: float  # a second, in all gateways
    gateways: int
    working_set_mb: int
    buckets: int = 64
    flush_seconds: float = 15.0
    routing: str = "user"
    zipf: float = 0.8
    hours: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Results. `hits`: the share of chats that find their memories in RAM; `loads`: from object storage, a second;
    `gets` and `puts`: requests for each chat."""

    hits: float
    loads: float
    mib_read: float
    gets: float
    puts: float

    @property
    def price(self) -> float:
        """US dollars of the requests for a million chats."""
        return 1e6 * (self.gets * _GET_PRICE + self.puts * _PUT_PRICE)


def users_by_activity(setting: Setting) -> tuple[NDArray[np.float64], Places]:
    """The share of each user in the chats, and the number of memories: by the root of the activity."""
    weights = np.arange(1, setting.users + 1, dtype=np.float64) ** -setting.zipf
    roots = np.sqrt(weights)
    rows = np.clip(setting.memories * roots / roots.sum(), 10, _LARGEST_SET)
    return weights / weights.sum(), rows.astype(np.int64)


def simulate(setting: Setting, *, seed: int = 7, simulated_gateways: int = 3) -> Demand:
    """Simulate some of the gateways: all get the same kind of load, and do not depend on each other."""
    random = np.random.default_rng(seed)
    shares, rows = users_by_activity(setting)
    users, gateways, is_counted = _chats(setting, shares, random)
    hits = chats = rows_read = 0
    for gateway in range(min(simulated_gateways, setting.gateways)):
        here = gateways == gateway
        numbers, counted = users[here], is_counted[here]
        missed = _misses(numbers, rows, setting.working_set_mb * 2**20) & counted
        chats += int(counted.sum())
        hits += int(counted.sum() - missed.sum())
        rows_read += int(rows[numbers[missed]].sum())
    miss = 1 - hits / chats
    gets, puts = _requests_of_storing(setting)
    return Demand(
        hits=hits / chats,
        loads=miss * setting.chats,
        mib_read=rows_read / chats * setting.chats * _ROW_IN_S3 / 2**20,
        gets=miss * _LOAD_GETS + gets,
        puts=puts,
    )


def _chats(
    setting: Setting, shares: NDArray[np.float64], random: np.random.Generator
) -> tuple[Places, Places, NDArray[np.bool_]]:
    """User and gateway of each chat, in the order of time, and whether it counts."""
    end = setting.hours * _HOUR
    conversations = round(setting.chats / _CONVERSATION * end)
    users = random.choice(setting.users, conversations, p=shares)
    lengths = random.geometric(1 / _CONVERSATION, conversations)
    conversation = np.repeat(np.arange(conversations), lengths)
    pauses = random.exponential(_PAUSE, len(conversation))
    first = np.cumsum(lengths) - lengths
    pauses[first] = 0
    waited = np.cumsum(pauses)
    moments = np.repeat(random.uniform(0, end, conversations), lengths) + waited - np.repeat(waited[first], lengths)
    order = np.argsort(moments, kind="stable")
    order = order[moments[order] < end]
    keys = {"user": users[conversation], "conversation": conversation, "request": np.arange(len(conversation))}
    where = random.permutation(max(setting.users, len(conversation)))[keys[setting.routing]] % setting.gateways
    return users[conversation][order], where[order], moments[order] >= end / 2


def _misses(users: Places, rows: Places, limit: int) -> NDArray[np.bool_]:
    """Whether each chat of a gateway finds its user's memories missing, with so many bytes of RAM."""
    sizes = (rows * _ROW_IN_RAM + _SET_IN_RAM).tolist()
    sets: OrderedDict[int, None] = OrderedDict()
    missed = np.zeros(len(users), np.bool_)
    used = 0
    for index, user in enumerate(users.tolist()):
        if user in sets:
            sets.move_to_end(user)
            continue
        missed[index] = True
        sets[user] = None
        used += sizes[user]
        while used > limit and len(sets) > 1:
            used -= sizes[sets.popitem(last=False)[0]]
    return missed


def _appends(setting: Setting) -> float:
    """Writes to tables a second: a bucket waits for its first chat, then for time or rows."""
    chats = setting.chats / setting.buckets
    return setting.buckets / (1 / chats + min(setting.flush_seconds, _FLUSH_ROWS / (chats * _ROWS_OF_A_CHAT)))


def _requests_of_storing(setting: Setting) -> tuple[float, float]:
    """Reading and writing requests for each chat, of appends, compactions and rebuilds."""
    appends = _appends(setting) / setting.chats
    settled = setting.memories / setting.buckets
    rewritten = _ROWS_OF_A_CHAT * (1 + settled / max(_REBUILD_ROWS, settled / _REBUILD_SHARE))
    gets = appends * _COMPACTION_GETS / _FRAGMENTS + rewritten * _REBUILD_GETS
    puts = appends * (_APPEND_PUTS + _COMPACTION_PUTS / _FRAGMENTS) + rewritten * _REBUILD_PUTS
    return gets, puts


_ROUTINGS = ("user", "conversation", "request")
_COMPANY: dict[str, Any] = {"users": 1_000, "memories": 10**6, "chats": 1.0, "gateways": 2, "hours": 24.0}
_TOWN: dict[str, Any] = {"users": 10_000, "memories": 10**7, "chats": 10.0, "gateways": 3, "hours": 6.0}
_CITY: dict[str, Any] = {"users": 100_000, "memories": 10**8, "chats": 50.0, "gateways": 4, "hours": 2.0}
_CITY |= {"buckets": 1024, "flush_seconds": 120.0}
_COUNTRY: dict[str, Any] = {"users": 1_000_000, "memories": 10**9, "chats": 300.0, "gateways": 10}
_COUNTRY |= {"buckets": 4096, "flush_seconds": 900.0}


def _settings() -> Sequence[Setting]:
    return (
        Setting(**_COMPANY, working_set_mb=256),
        *(Setting(**_TOWN, working_set_mb=size) for size in (512, 2048)),
        *(Setting(**_CITY, working_set_mb=size) for size in (1024, 4096)),
        *(Setting(**_COUNTRY, working_set_mb=size) for size in (2048, 4096, 8192, 16384)),
    )


def _routings() -> Sequence[Setting]:
    return (
        *(Setting(**_TOWN, working_set_mb=2048, routing=routing) for routing in _ROUTINGS),
        *(Setting(**_COUNTRY, working_set_mb=16384, routing=routing) for routing in _ROUTINGS),
    )


def _ram_rows(results: Mapping[Setting, Demand]) -> Iterable[Sequence[Any]]:
    for setting in _settings():
        demand = results[setting]
        yield (
            *(_number(setting.users), _number(setting.memories), f"{setting.chats:g}", _ram(setting)),
            *(_percent(demand.hits), f"{demand.loads:.1f}", f"{demand.mib_read:.0f}"),
        )


def _request_rows(results: Mapping[Setting, Demand]) -> Iterable[Sequence[Any]]:
    for setting in _settings():
        demand = results[setting]
        yield (
            *(_number(setting.users), f"{setting.chats:g}", _ram(setting)),
            *(_number(setting.buckets), f"{setting.flush_seconds:g}"),
            *(f"{demand.gets:.1f}", f"{demand.puts:.2f}", f"{demand.price:.2f}"),
        )


def _routing_rows(results: Mapping[Setting, Demand]) -> Iterable[Sequence[Any]]:
    for setting in _routings():
        demand = results[setting]
        yield (
            *(_number(setting.users), _ram(setting), setting.routing),
            *(_percent(demand.hits), f"{demand.mib_read:.0f}", f"{demand.price:.2f}"),
        )


def _bucket_rows() -> Iterable[tuple[Any, ...]]:
    for memories, buckets in ((10**6, 64), (10**7, 64), (10**8, 1024), (10**9, 4096)):
        gigabytes = memories * _ROW_IN_S3 / 1e9
        settled = memories / buckets
        yield (
            *(_number(memories), f"{gigabytes:,.0f}".replace(",", " "), _number(buckets)),
            *(_number(round(settled)), _number(round(gigabytes / buckets * 1000))),
            *(_number(round(max(_REBUILD_ROWS, settled / _REBUILD_SHARE))), f"{gigabytes * _GB_MONTH_PRICE:.2f}"),
        )


def build_tables() -> Sequence[str]:
    """The tables of the guide: RAM, routing, requests, buckets."""
    ram = ("users", "memories", "chats/s", "gateways × `working_set_mb`", "in RAM", "loads/s", "MiB/s read")
    routing = ("users", "gateways × `working_set_mb`", "routed by", "in RAM", "MiB/s read", "$ a million chats")
    requests: tuple[str, ...] = ("users", "chats/s", "gateways × `working_set_mb`", "buckets", "`flush_seconds`")
    requests += ("GET a chat", "PUT and LIST a chat", "$ a million chats")
    buckets = ("memories", "GB", "buckets", "memories in each", "MB in each", "new ones until a rebuild", "$ a month")
    results = {setting: simulate(setting) for setting in dict.fromkeys((*_settings(), *_routings()))}
    return (
        render(ram, _ram_rows(results)),
        render(routing, _routing_rows(results)),
        render(requests, _request_rows(results)),
        render(buckets, _bucket_rows()),
    )


def render(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _ram(setting: Setting) -> str:
    return f"{setting.gateways} × {_number(setting.working_set_mb)}"


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")


if __name__ == "__main__":
    print("\n\n".join(build_tables()))
