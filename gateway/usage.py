"""What answers cost in tokens, as upstreams report it, else counted here, and in money where a price is known. Metrics
know at once, the ledger soon.

Labels of metrics are bounded: the first models and users that come have their own, all others share `other`.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace

from gateway.prices import Prices
from gateway.store.ledger import Ledger, Used
from gateway.telemetry import Telemetry, short_digest
from gateway.turn import Answer, Outcome, Turn

__all__ = ["Meter", "without_pictures"]

_MODELS, _USERS = 100, 200
_OTHER, _OWN = "other", "(gateway)"
_BASE64_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-"
_SHORTEST_PICTURE = 1000  # bytes of base64
_PICTURE_START = re.compile(rb"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/=_-]{1000}")
_PICTURE_REST = re.compile(rb"[A-Za-z0-9+/=_-]*")  # matched, a tenth of the time of a search for its end
_WINDOW = 1 << 18  # bytes that are searched without a break for other threads
_PICTURE = 1000  # tokens: about what the providers take for one
_CHARACTERS = 4  # of a token
_LONGEST = 100  # characters of a model's name


class Meter:
    """`ledger` None: metrics only. `count` counts tokens of a text."""

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
        """True if the upstream said what it used, or used nothing that is paid for."""
        return (
            answer.outcome is Outcome.REFUSED
            or answer.is_reply
            or None not in (answer.prompt_tokens, answer.completion_tokens)
        )

    async def counted(self, turn: Turn, answer: Answer) -> Answer:
        """The answer with the tokens that nobody reported."""
        if self.is_counted(answer):
            return answer

        def work() -> Answer:
            prompt = answer.prompt_tokens or self._prompt(turn)
            said = max(self._count(answer.text or ""), answer.size // _CHARACTERS, answer.events)
            completion = answer.completion_tokens or said
            estimated = (0 if answer.prompt_tokens else prompt) + (0 if answer.completion_tokens else completion)
            return replace(answer, prompt_tokens=prompt, completion_tokens=completion, estimated_tokens=estimated)

        return await asyncio.to_thread(work)

    def _prompt(self, turn: Turn) -> int:
        """Tokens of a request: its JSON, and what was recalled; base64 in it counts as a picture."""
        text, pictures = without_pictures(turn.raw)
        recalled = turn.block.tokens if turn.block else 0
        return self._count(text.decode("utf-8", "replace")) + pictures * _PICTURE + recalled

    def note(self, turn: Turn, answer: Answer, *, upstream: str, model: str) -> Answer:
        """Note what a counted answer used; the answer with its cost."""
        if answer.outcome is Outcome.REFUSED or answer.is_reply:
            return answer
        prompt, completion = answer.prompt_tokens or 0, answer.completion_tokens or 0
        cached = min(answer.cached_tokens or 0, prompt)
        used = Used(1, prompt, cached, completion, answer.estimated_tokens)
        written = min(answer.written_tokens or 0, prompt - cached)
        tenant, key = turn.principal.tenant, turn.principal.name
        cost = self._note(used, written, tenant=tenant, key=key, user=turn.user, model=model, upstream=upstream)
        return answer if cost is None else replace(answer, cost=cost)

    def note_own(self, upstream: str, model: str, prompt: int, completion: int) -> float | None:
        """Note what the gateway asked on its own account, and say what it cost; the key is `(gateway)`, the tenant
        none."""
        return self._note(
            Used(1, prompt, 0, completion), 0, tenant="", key=_OWN, user="", model=model, upstream=upstream
        )

    def _note(
        self, used: Used, written: int, *, tenant: str, key: str, user: str, model: str, upstream: str
    ) -> float | None:
        """Put it into the metrics and the ledger; its cost, where there is a price."""
        model = model[:_LONGEST]
        prompt, completion = used.prompt_tokens, used.completion_tokens
        cost = self._prices.cost(
            upstream, model, prompt=prompt, cached=used.cached_tokens, written=written, completion=completion
        )
        labels = (key, _bounded(model, self._models, _MODELS))
        shown = _bounded(short_digest(user), self._users, _USERS) if user else ""
        for kind, tokens in (("prompt", prompt), ("completion", completion)):
            self._telemetry.bound("used_tokens", *labels, kind).inc(tokens)
            if shown:
                self._telemetry.bound("user_tokens", shown, kind).inc(tokens)
        if cost:
            self._telemetry.bound("used_money", *labels).inc(cost)
        if self._ledger is not None:
            if cost is not None:
                used.cost, used.priced = cost, 1
            self._ledger.note(used, tenant=tenant, key=key, user=user, model=model, upstream=upstream)
        return cost


def _end_of_picture(raw: bytes, begin: int) -> int:
    """The end of the run of base64 that goes on at `begin`."""
    while begin < len(raw):
        limit = min(begin + _WINDOW, len(raw))
        rest = _PICTURE_REST.match(raw, begin, limit)
        begin = begin if rest is None else rest.end()
        if begin < limit:
            break
    return begin


def without_pictures(raw: bytes) -> tuple[bytes, int]:
    """A body without its runs of base64, and how many those were. Time in proportion to the body; searched in windows,
    since a search holds the interpreter."""
    parts: list[bytes] = []
    pictures = begin = done = 0
    while begin < len(raw):
        end = min(begin + _WINDOW, len(raw))
        start = _PICTURE_START.search(raw, begin, end)
        if start is not None:
            parts.append(raw[done : start.start()])
            pictures += 1
            begin = done = _end_of_picture(raw, start.end())
        elif end == len(raw):
            break
        else:  # a run may begin in this window and go on in the next
            tail = raw[end - _SHORTEST_PICTURE : end]
            begin = end - (len(tail) - len(tail.rstrip(_BASE64_CHARACTERS)))
    return b"".join([*parts, raw[done:]]), pictures


def _bounded(value: str, known: set[str], most: int) -> str:
    if value not in known:
        if len(known) >= most:
            return _OTHER
        known.add(value)
    return value
