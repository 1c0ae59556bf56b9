"""What answers cost in tokens, as upstreams report it, else counted here. Metrics know at once, the ledger soon.

Labels of metrics are bounded: the first models and users that come have their own, all others share `other`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.store.ledger import Ledger, Used
from gateway.telemetry import Telemetry, short_digest
from gateway.turn import Answer, Outcome, Turn

__all__ = ["Meter"]

_MODELS, _USERS = 100, 200
_OTHER = "other"


class Meter:
    """`ledger` None: metrics only. `count` counts tokens of a text."""

    def __init__(self, ledger: Ledger | None, telemetry: Telemetry, count: Callable[[str], int]) -> None:
        self._ledger = ledger
        self._telemetry = telemetry
        self._count = count
        self._models: set[str] = set()
        self._users: set[str] = set()

    def note(self, turn: Turn, answer: Answer, *, upstream: str, model: str) -> Coroutine[Any, Any, None] | None:
        """Note what an answer used; work to be done afterwards where it must be counted first."""
        if answer.outcome is Outcome.REFUSED:
            return None
        if answer.prompt_tokens is None or answer.completion_tokens is None:
            return self._counted(turn, answer, upstream=upstream, model=model)
        used = Used(1, answer.prompt_tokens, answer.cached_tokens or 0, answer.completion_tokens)
        self._noted(turn, used, upstream=upstream, model=model)
        return None

    async def _counted(self, turn: Turn, answer: Answer, *, upstream: str, model: str) -> None:
        def work() -> Used:
            prompt = answer.prompt_tokens or self._count(turn.raw.decode("utf-8", "replace"))
            completion = answer.completion_tokens or self._count(answer.text or "")
            estimated = (0 if answer.prompt_tokens else prompt) + (0 if answer.completion_tokens else completion)
            return Used(1, prompt, answer.cached_tokens or 0, completion, estimated)

        self._noted(turn, await asyncio.to_thread(work), upstream=upstream, model=model)

    def _noted(self, turn: Turn, used: Used, *, upstream: str, model: str) -> None:
        key, user = turn.principal.name, turn.identity.user_id if turn.identity else ""
        labels = (key, _bounded(model, self._models, _MODELS))
        shown = _bounded(short_digest(user), self._users, _USERS) if user else ""
        for kind, tokens in (("prompt", used.prompt_tokens), ("completion", used.completion_tokens)):
            self._telemetry.bound("used_tokens", *labels, kind).inc(tokens)
            if shown:
                self._telemetry.bound("user_tokens", shown, kind).inc(tokens)
        if self._ledger is not None:
            self._ledger.note(used, tenant=turn.principal.tenant, key=key, user=user, model=model, upstream=upstream)


def _bounded(value: str, known: set[str], most: int) -> str:
    if value not in known:
        if len(known) >= most:
            return _OTHER
        known.add(value)
    return value
