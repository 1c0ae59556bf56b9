"""Answers the same request of the same user again without asking a model: exact, in RAM, for a while.

The same request: the same bytes, of the same tenant, key and user, on the same path, for the same memories. What a
model was given of them is not compared: who wants an answer of their newest memories says `cache-control: no-cache`. An
answer goes when memories of its user are changed or deleted. Only whole answers are kept, as they were sent; MemOS'
chats, whose wishes do not all stand in their bytes, are not.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from gateway.hooks import Plugin, PluginConfigModel, Reply, Services
from gateway.turn import Answer, Outcome, Turn

_GOOD = frozenset(
    """stop length tool_calls function_call end_turn max_tokens tool_use stop_sequence completed""".split()
)  # how answers end that are answers, in all formats
_SCOPES = 10_000  # whose last change is known
_STREAM = "text/event-stream; charset=utf-8"


@dataclass(slots=True)
class Kept:
    """An answer as it was sent."""

    body: bytes
    content_type: str
    at: float
    scopes: frozenset[str]


class ResponseCache(Plugin):
    """Keeps answers up to `max_mb` in all; the least used leaves first."""

    class Config(PluginConfigModel):
        ttl_seconds: float = 300.0
        max_mb: int = 64
        max_answer_kb: int = 1024

    config: Config

    async def start(self, services: Services) -> None:
        self.body_bytes = self.config.max_answer_kb * 1024
        self._clock = services.clock
        self._count = services.count
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._size = 0
        self._changed: OrderedDict[str, float] = OrderedDict()  # when memories of a scope were changed last
        self._changed_before = 0.0  # the last change of a scope that is not in there

    async def on_request(self, turn: Turn) -> Reply | None:
        if _is_unwanted(turn):
            return None
        key = _key(turn)
        kept = self._kept.get(key)
        if kept is not None and not 0 <= self._clock() - kept.at < self.config.ttl_seconds:
            self._drop(key)
            kept = None
        self._count("miss" if kept is None else "hit")
        if kept is None:
            return None
        self._kept.move_to_end(key)
        return Reply(kept.body, headers={"x-gateway-cache": "hit"}, content_type=kept.content_type)

    async def on_response(self, turn: Turn, answer: Answer) -> None:
        if answer.is_reply or answer.outcome is not Outcome.COMPLETE or answer.body is None or _is_unwanted(turn):
            return
        if answer.finish_reason in _GOOD:
            self._keep(turn, answer.body)

    def on_memory_change(self, scopes: Collection[str]) -> None:
        """An answer may rest on what was changed or deleted, also one that is still on its way."""
        for scope in scopes:
            self._changed[scope] = self._clock()
            self._changed.move_to_end(scope)
        while len(self._changed) > _SCOPES:
            _, self._changed_before = self._changed.popitem(last=False)
        for key in [key for key, kept in self._kept.items() if not kept.scopes.isdisjoint(scopes)]:
            self._drop(key)

    def _keep(self, turn: Turn, body: bytes) -> None:
        scopes = _scopes(turn)
        changed = max((self._changed.get(scope, self._changed_before) for scope in scopes), default=0.0)
        if len(body) > self.config.max_answer_kb * 1024 or turn.received_at <= changed:
            return
        key, content_type = _key(turn), _STREAM if turn.ask.stream else "application/json"
        self._drop(key)
        self._kept[key] = Kept(body, content_type, self._clock(), scopes)
        self._size += len(body)
        while self._size > self.config.max_mb * 2**20:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= len(kept.body)


def _is_unwanted(turn: Turn) -> bool:
    asked = turn.headers.get("cache-control", "").lower()
    return "no-cache" in asked or "no-store" in asked or turn.dialect.layout is not None


def _scopes(turn: Turn) -> frozenset[str]:
    return frozenset(scope.value for scope in turn.identity.reads) if turn.identity else frozenset()


def _key(turn: Turn) -> bytes:
    identity = turn.identity
    scopes = ",".join(scope.value for scope in (*identity.reads, *identity.writes)) if identity else ""
    session = identity.session_id if identity else ""
    who = (turn.principal.tenant, turn.principal.name, turn.principal.user or "", turn.user, session, scopes)
    what = (turn.path, turn.query_string, turn.mode.value, str(turn.token_budget))
    return hashlib.sha256("\0".join((*who, *what, "")).encode("utf-8", "surrogatepass") + turn.raw).digest()
