"""Exact-match response cache: answers a repeated request of the same user without a model. In RAM, with expiry.

A request matches if its bytes, tenant, key, user, path and memory scopes are equal. The recalled memories are not
compared: clients that need an answer from the newest memories send `cache-control: no-cache`. Entries are invalidated
when memories of their user are changed or deleted. Only complete answers are cached, as sent; answers to MemOS chats
are not, since their bytes do not contain all options. Each worker process has a cache of its own.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from gateway.hooks import Plugin, PluginConfigModel, Reply, Services
from gateway.turn import Answer, Outcome, Turn

_CACHED_REASONS = frozenset(
    """stop length tool_calls function_call end_turn max_tokens tool_use stop_sequence completed""".split()
)  # finish reasons of valid answers, in all formats
_MAX_SCOPES = 10_000  # scopes with a recorded last change
_STREAM = "text/event-stream; charset=utf-8"


@dataclass(slots=True)
class CachedAnswer:
    """A cached answer, as it was sent."""

    body: bytes
    content_type: str
    at: float
    scopes: frozenset[str]


class ResponseCache(Plugin):
    """Caches answers up to `max_mb` in all workers together; evicts the least recently used first."""

    class Config(PluginConfigModel):
        ttl_seconds: float = 300.0
        max_mb: int = 64
        max_answer_kb: int = 1024

    config: Config

    async def start(self, services: Services) -> None:
        self.body_bytes = self.config.max_answer_kb * 1024
        self._clock = services.clock
        self._count = services.count
        self._entries: OrderedDict[bytes, CachedAnswer] = OrderedDict()
        self._size = 0
        self._max_size = self.config.max_mb * 2**20 // services.workers
        self._changed: OrderedDict[str, float] = OrderedDict()  # time of the last change in a scope
        self._changed_before = 0.0  # upper bound of that time for scopes not in `_changed`

    async def on_request(self, turn: Turn) -> Reply | None:
        if _is_unwanted(turn):
            return None
        key = _key(turn)
        entry = self._entries.get(key)
        if entry is not None and not 0 <= self._clock() - entry.at < self.config.ttl_seconds:
            self._drop(key)
            entry = None
        self._count("miss" if entry is None else "hit")
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return Reply(entry.body, headers={"x-gateway-cache": "hit"}, content_type=entry.content_type)

    async def on_response(self, turn: Turn, answer: Answer) -> None:
        if answer.is_reply or answer.outcome is not Outcome.COMPLETE or answer.body is None or _is_unwanted(turn):
            return
        if answer.finish_reason in _CACHED_REASONS:
            self._store(turn, answer.body)

    def on_memory_change(self, scopes: Collection[str]) -> None:
        """Invalidate answers that may depend on the changed memories, including those still in transit."""
        for scope in scopes:
            self._changed[scope] = self._clock()
            self._changed.move_to_end(scope)
        while len(self._changed) > _MAX_SCOPES:
            _, self._changed_before = self._changed.popitem(last=False)
        for key in [key for key, entry in self._entries.items() if not entry.scopes.isdisjoint(scopes)]:
            self._drop(key)

    def _store(self, turn: Turn, body: bytes) -> None:
        scopes = _scopes(turn)
        changed = max((self._changed.get(scope, self._changed_before) for scope in scopes), default=0.0)
        if len(body) > self.config.max_answer_kb * 1024 or turn.received_at <= changed:
            return
        key, content_type = _key(turn), _STREAM if turn.ask.stream else "application/json"
        self._drop(key)
        self._entries[key] = CachedAnswer(body, content_type, self._clock(), scopes)
        self._size += len(body)
        while self._size > self._max_size:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= len(entry.body)


def _is_unwanted(turn: Turn) -> bool:
    cache_control = turn.headers.get("cache-control", "").lower()
    return "no-cache" in cache_control or "no-store" in cache_control or turn.wire_format.has_own_prompt


def _scopes(turn: Turn) -> frozenset[str]:
    return frozenset(scope.value for scope in turn.identity.reads) if turn.identity else frozenset()


def _key(turn: Turn) -> bytes:
    identity = turn.identity
    scopes = ",".join(scope.value for scope in (*identity.reads, *identity.writes)) if identity else ""
    session = identity.session_id if identity else ""
    who = (turn.principal.tenant, turn.principal.name, turn.principal.user or "", turn.user, session, scopes)
    what = (turn.path, turn.query_string, turn.mode.value, str(turn.token_budget))
    return hashlib.sha256("\0".join((*who, *what, "")).encode("utf-8", "surrogatepass") + turn.raw).digest()
