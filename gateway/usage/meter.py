"""Accounting of answers: tokens, as reported by upstreams or else counted here, and money if a price is known.

Metrics are updated at once, the ledger with a delay. Labels of metrics are bounded: the first models and users get
their own, all others share `other`.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace

from gateway.formats.base import Answer, Outcome
from gateway.storage.protocols import Ledger
from gateway.storage.values import UsageRow
from gateway.telemetry import Telemetry, short_digest
from gateway.turn import Turn
from gateway.usage.prices import Prices

__all__ = ["Meter", "without_pictures"]

_MAX_MODELS, _MAX_USERS = 100, 200
_OTHER, _OWN = "other", "(gateway)"
_BASE64_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-"
_MIN_PICTURE_BYTES = 1000  # bytes of base64
_PICTURE_START = re.compile(rb"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/=_-]{1000}")
_PICTURE_REST = re.compile(rb"[A-Za-z0-9+/=_-]*")  # a match takes a tenth of the time of a search
_WINDOW = 1 << 18  # bytes searched before other threads can run
_PICTURE_TOKENS = 1000  # about the charge of providers for one picture
_CHARACTERS_PER_TOKEN = 4
_MAX_MODEL_NAME = 100  # characters of a model's name


class Meter:
    """Records the usage of answers in metrics and ledger. `ledger` None: metrics only. `count` counts tokens."""

    def __init__(
        self, ledger: Ledger | None, telemetry: Telemetry, count: Callable[[str], int], prices: Prices
    ) -> None:
        self._ledger = ledger
        self._telemetry = telemetry
        self._count = count
        self._prices = prices
        self._models: set[str] = set()
        self._users: set[str] = set()

    def is_counted(self, answer: Answer) -> bool:
        """True if the upstream reported the usage, or there is nothing to pay for."""
        return (
            answer.outcome is Outcome.REFUSED
            or answer.is_reply
            or None not in (answer.prompt_tokens, answer.completion_tokens)
        )

    async def counted(self, turn: Turn, answer: Answer) -> Answer:
        """Complete an answer with the token counts that the upstream did not report."""
        if self.is_counted(answer):
            return answer

        def work() -> Answer:
            prompt = answer.prompt_tokens or self._count_prompt(turn)
            counted_tokens = max(self._count(answer.text or ""), answer.size // _CHARACTERS_PER_TOKEN, answer.events)
            completion = answer.completion_tokens or counted_tokens
            estimated = (0 if answer.prompt_tokens else prompt) + (0 if answer.completion_tokens else completion)
            return replace(answer, prompt_tokens=prompt, completion_tokens=completion, estimated_tokens=estimated)

        return await asyncio.to_thread(work)

    def _count_prompt(self, turn: Turn) -> int:
        """Tokens of a request: its JSON and the recalled block; a long run of base64 counts as a picture."""
        text, pictures = without_pictures(turn.raw)
        recalled = turn.block.tokens if turn.block else 0
        return self._count(text.decode("utf-8", "replace")) + pictures * _PICTURE_TOKENS + recalled

    def note(self, turn: Turn, answer: Answer, *, upstream: str, model: str) -> Answer:
        """Record the usage of a counted answer; return the answer with its cost."""
        if answer.outcome is Outcome.REFUSED or answer.is_reply:
            return answer
        prompt, completion = answer.prompt_tokens or 0, answer.completion_tokens or 0
        cached = min(answer.cached_tokens or 0, prompt)
        used = UsageRow(1, prompt, cached, completion, answer.estimated_tokens)
        written = min(answer.written_tokens or 0, prompt - cached)
        tenant, key = turn.principal.tenant, turn.principal.name
        cost = self._note(used, written, tenant=tenant, key=key, user=turn.user, model=model, upstream=upstream)
        return answer if cost is None else replace(answer, cost=cost)

    def note_own(self, upstream: str, model: str, prompt: int, completion: int) -> float | None:
        """Record the usage of a request of the gateway itself and return its cost; the key is `(gateway)`, the tenant
        empty."""
        return self._note(
            UsageRow(1, prompt, 0, completion), 0, tenant="", key=_OWN, user="", model=model, upstream=upstream
        )

    def _note(
        self, used: UsageRow, written: int, *, tenant: str, key: str, user: str, model: str, upstream: str
    ) -> float | None:
        """Update the metrics and the ledger; return the cost, None without a price."""
        model = model[:_MAX_MODEL_NAME]
        prompt, completion = used.prompt_tokens, used.completion_tokens
        cost = self._prices.cost(
            upstream, model, prompt=prompt, cached=used.cached_tokens, written=written, completion=completion
        )
        labels = (key, _limit_label(model, self._models, _MAX_MODELS))
        user_label = _limit_label(short_digest(user), self._users, _MAX_USERS) if user else ""
        for kind, tokens in (("prompt", prompt), ("completion", completion)):
            self._telemetry.bound("used_tokens", *labels, kind).inc(tokens)
            if user_label:
                self._telemetry.bound("user_tokens", user_label, kind).inc(tokens)
        if cost:
            self._telemetry.bound("used_money", *labels).inc(cost)
        if self._ledger is not None:
            if cost is not None:
                used.cost, used.priced = cost, 1
            self._ledger.note(used, tenant=tenant, key=key, user=user, model=model, upstream=upstream)
        return cost


def _end_of_picture(raw: bytes, begin: int) -> int:
    """The end of the run of base64 that continues at `begin`."""
    while begin < len(raw):
        limit = min(begin + _WINDOW, len(raw))
        rest = _PICTURE_REST.match(raw, begin, limit)
        begin = begin if rest is None else rest.end()
        if begin < limit:
            break
    return begin


def without_pictures(raw: bytes) -> tuple[bytes, int]:
    """Remove long runs of base64 from a body; also return their number. Takes linear time; works in windows, since a
    search holds the interpreter lock."""
    parts: list[bytes] = []
    pictures = begin = copied = 0
    while begin < len(raw):
        end = min(begin + _WINDOW, len(raw))
        start = _PICTURE_START.search(raw, begin, end)
        if start is not None:
            parts.append(raw[copied : start.start()])
            pictures += 1
            begin = copied = _end_of_picture(raw, start.end())
        elif end == len(raw):
            break
        else:  # a run may begin in this window and continue in the next
            tail = raw[end - _MIN_PICTURE_BYTES : end]
            begin = end - (len(tail) - len(tail.rstrip(_BASE64_CHARACTERS)))
    return b"".join([*parts, raw[copied:]]), pictures


def _limit_label(value: str, seen: set[str], limit: int) -> str:
    if value not in seen:
        if len(seen) >= limit:
            return _OTHER
        seen.add(value)
    return value
