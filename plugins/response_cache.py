"""Answers a request that was answered a moment ago, byte for byte the same and from the same user, without a model.

What counts is the request as it came, before memories are put in: so the same question gets the same answer although
the memory has grown meanwhile, for as long as `ttl_seconds` says. `cache-control: no-cache` asks the model all the
same. Only whole answers are kept, up to `max_mb`, in RAM, the least used leaving first.
"""

import hashlib
from collections import Counter, OrderedDict
from dataclasses import dataclass

from gateway.hooks import Event, Plugin, PluginConfigModel, Reply, Services
from gateway.turn import Answer, Outcome, Turn

_UNFINISHED = 1000  # streams that are read along at once
_JOINED = 256  # events of a stream that are joined to one piece
_NOT_GOOD = ("failed", "cancelled")
_STREAM = "text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Kept:
    body: bytes
    content_type: str
    until: float


class ResponseCache(Plugin):
    """Keeps whole answers by user and request."""

    class Config(PluginConfigModel):
        ttl_seconds: float = 300.0
        max_mb: int = 64
        max_answer_kb: int = 1024

    config: Config
    reads_stream = True

    async def start(self, services: Services) -> None:
        self._clock = services.clock
        self._count = services.count
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._size = 0
        self._streams: dict[str, list[bytes]] = {}
        self._open: Counter[str] = Counter()  # turns under way by id: a retry has the id of the first try
        self._spoiled: set[str] = set()  # of which not all events are here
        self._replayed: set[str] = set()

    async def on_request(self, turn: Turn) -> Reply | None:
        self._open[turn.id] += 1
        if self._open[turn.id] > 1:
            self._spoil(turn.id)
        if _is_unwanted(turn):
            return None
        key = _key(turn)
        kept = self._kept.get(key)
        if kept is None or kept.until < self._clock():
            self._drop(key)
            self._count("miss")
            return None
        self._kept.move_to_end(key)
        self._count("hit")
        self._replayed.add(turn.id)
        return Reply(kept.body, headers={"x-gateway-cache": "hit"}, content_type=kept.content_type)

    def on_stream_event(self, turn: Turn, event: Event) -> None:
        if turn.id in self._replayed or turn.id in self._spoiled:
            return
        if turn.id not in self._streams and len(self._streams) >= _UNFINISHED:
            self._spoil(turn.id)
            return
        pieces = self._streams.setdefault(turn.id, [b""])
        pieces.append(bytes(event))
        if len(pieces) > _JOINED:
            pieces[:] = [b"".join(pieces)]
        if len(pieces[0]) + len(pieces[-1]) > self.config.max_answer_kb * 1024:
            self._spoil(turn.id)

    async def on_response(self, turn: Turn, answer: Answer) -> None:
        pieces, is_spoiled, is_replayed = self._ended(turn)
        if is_spoiled or is_replayed or _is_unwanted(turn) or answer.finish_reason in _NOT_GOOD:
            return
        if answer.outcome is not Outcome.COMPLETE:
            return
        if pieces is not None:
            self._keep(_key(turn), b"".join(pieces), _STREAM)
        elif answer.body is not None:
            self._keep(_key(turn), answer.body, "application/json")

    async def on_error(self, turn: Turn, error: BaseException) -> None:
        self._ended(turn)

    def _spoil(self, turn_id: str) -> None:
        self._spoiled.add(turn_id)
        self._streams.pop(turn_id, None)

    def _ended(self, turn: Turn) -> tuple[list[bytes] | None, bool, bool]:
        """The stream of a turn, whether it is not whole, and whether it came from here."""
        found = (self._streams.pop(turn.id, None), turn.id in self._spoiled, turn.id in self._replayed)
        self._open[turn.id] -= 1
        if self._open[turn.id] <= 0:
            del self._open[turn.id]
            self._spoiled.discard(turn.id)
            self._replayed.discard(turn.id)
        return found

    def _keep(self, key: bytes, body: bytes, content_type: str) -> None:
        if len(body) > self.config.max_answer_kb * 1024:
            return
        self._drop(key)
        self._kept[key] = Kept(body, content_type, self._clock() + self.config.ttl_seconds)
        self._size += len(body)
        while self._size > self.config.max_mb * 2**20:
            _, oldest = self._kept.popitem(last=False)
            self._size -= len(oldest.body)

    def _drop(self, key: bytes) -> None:
        gone = self._kept.pop(key, None)
        if gone is not None:
            self._size -= len(gone.body)


def _is_unwanted(turn: Turn) -> bool:
    wishes = turn.headers.get("cache-control", "").lower()
    return "no-cache" in wishes or "no-store" in wishes


def _key(turn: Turn) -> bytes:
    """Who asks what: nobody gets another's answer."""
    identity = turn.identity
    whose = (turn.principal.tenant, turn.principal.name, identity.user_id if identity else "", turn.mode.value)
    parts = "\0".join((*whose, turn.path, turn.query_string, ""))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass") + turn.raw).digest()
