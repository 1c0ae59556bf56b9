"""Rate limits and quotas for keys and users: requests and tokens a minute, tokens and US dollars a day, US dollars in
thirty days. Within this process only.

Minutes use a sliding-window counter: the count of the previous minute is weighted by its share of the last sixty
seconds. Tokens are known when an answer has ended (reported by the upstream, else counted), so answers in progress can
exceed a limit of tokens or money; answers without a price cost nothing. Counts of days survive a restart.
"""

import asyncio
import hashlib
import math
import time
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import orjson
from pydantic import Field

from gateway.hooks import Plugin, PluginConfigModel, Reject, Services
from gateway.turn import Answer, Outcome, Turn

_Limit = Annotated[int | None, Field(gt=0)]
_Money = Annotated[float | None, Field(gt=0)]
_MINUTE, _DAY = 60.0, 86_400.0
_QUOTAS = {"tokens_per_day": _DAY, "dollars_per_day": _DAY, "dollars_per_30_days": 30 * _DAY}
_SAVE_EVERY = 30.0
_MAX_WINDOWS = 100_000  # counted keys and users of each kind; the least recently used is dropped


@dataclass(slots=True)
class Window:
    """Counters of the current interval, which began at `begin`, and of the one before it."""

    begin: float
    now: float = 0.0
    before: float = 0.0

    def slide(self, moment: float, length: float) -> None:
        passed = int((moment - self.begin) // length)
        if passed > 0:
            self.before = self.now if passed == 1 else 0.0
            self.now, self.begin = 0.0, self.begin + passed * length

    def used(self, moment: float, length: float) -> float:
        """The estimate for the interval that ends at `moment`."""
        return self.before * (1 - (moment - self.begin) / length) + self.now

    def wait(self, moment: float, length: float, limit: float) -> float:
        """Seconds until `used` falls below the reached limit, if nothing is added."""
        end = self.begin + length
        if self.now >= limit:
            return end - moment + length * (1 - limit / self.now)
        return self.begin + length * (1 - (limit - self.now) / self.before) - moment


class RateLimit(Plugin):
    """Refuses requests over a limit with 429 and `Retry-After`."""

    class Config(PluginConfigModel):
        requests_per_minute_per_key: _Limit = None
        requests_per_minute_per_user: _Limit = None
        tokens_per_minute_per_key: _Limit = None
        tokens_per_minute_per_user: _Limit = None
        tokens_per_day_per_key: _Limit = None
        tokens_per_day_per_user: _Limit = None
        dollars_per_day_per_key: _Money = None
        dollars_per_day_per_user: _Money = None
        dollars_per_30_days_per_key: _Money = None
        dollars_per_30_days_per_user: _Money = None

    config: Config
    critical = True

    async def start(self, services: Services) -> None:
        self._clock = services.clock
        self._count = services.count
        self._file = services.folder / "days.json"
        self._windows: defaultdict[str, OrderedDict[tuple[str, str], Window]] = defaultdict(OrderedDict)
        self._saved_at = time.monotonic()
        for kind, whose, name, begin, now in await asyncio.to_thread(_read, self._file):
            self._windows[kind][whose, name] = Window(begin, now)

    async def stop(self) -> None:
        await self._save()

    async def on_request(self, turn: Turn) -> None:
        names, moment = _names(turn), self._clock()
        for kind, length in _QUOTAS.items():
            self._check(kind, names, moment, length, is_quota=True)
        self._check("tokens_per_minute", names, moment, _MINUTE, is_quota=False)
        self._check("requests_per_minute", names, moment, _MINUTE, is_quota=False)
        self._add("requests_per_minute", names, moment, _MINUTE, 1)

    async def on_response(self, turn: Turn, answer: Answer) -> None:
        if answer.outcome is Outcome.REFUSED or answer.is_reply:
            return
        tokens = (answer.prompt_tokens or 0) + (answer.completion_tokens or 0)
        await self._add_usage(turn, tokens, answer.cost or 0.0)

    async def on_error(self, turn: Turn, error: BaseException) -> None:
        if turn.answer is not None:  # the prompt was processed, and part of the answer generated
            tokens = (turn.answer.prompt_tokens or 0) + (turn.answer.completion_tokens or 0)
            await self._add_usage(turn, tokens, turn.answer.cost or 0.0)

    async def _add_usage(self, turn: Turn, tokens: int, cost: float) -> None:
        names, moment = _names(turn), self._clock()
        self._add("tokens_per_minute", names, moment, _MINUTE, tokens)
        for kind, length in _QUOTAS.items():
            self._add(kind, names, moment, length, cost if kind.startswith("dollars") else tokens)
        if time.monotonic() - self._saved_at > _SAVE_EVERY:
            await self._save()

    def _check(self, kind: str, names: dict[str, str], moment: float, length: float, *, is_quota: bool) -> None:
        for whose, name in names.items():
            limit = getattr(self.config, f"{kind}_per_{whose}")
            window = self._windows[kind].get((whose, name))
            if limit is None or window is None:
                continue
            window.slide(moment, length)
            used = window.now if is_quota else window.used(moment, length)  # days do not slide
            if used < limit:
                continue
            seconds = window.begin + length - moment if is_quota else window.wait(moment, length, limit)
            self._count(f"{kind}_per_{whose}")
            headers = {"retry-after": str(math.floor(seconds) + 1)}
            message = f"this {whose} has used its {limit} {kind.replace('_', ' ')}"
            if is_quota:
                raise Reject(429, message, code="insufficient_quota", headers=headers | {"x-should-retry": "false"})
            raise Reject(429, message, code="rate_limit_exceeded", headers=headers)

    def _add(self, kind: str, names: dict[str, str], moment: float, length: float, amount: float) -> None:
        for whose, name in names.items():
            if getattr(self.config, f"{kind}_per_{whose}") is None:
                continue
            begin = moment // length * length
            windows = self._windows[kind]
            window = windows.setdefault((whose, name), Window(begin))
            windows.move_to_end((whose, name))
            window.slide(moment, length)
            window.now += amount
            if len(windows) > _MAX_WINDOWS:
                windows.popitem(last=False)

    async def _save(self) -> None:
        self._saved_at = time.monotonic()
        days = [
            (kind, *key, window.begin, window.now)
            for kind in _QUOTAS
            for key, window in list(self._windows[kind].items())
        ]
        if days:
            await asyncio.to_thread(_write, self._file, days)


def _names(turn: Turn) -> dict[str, str]:
    """Digests of key and user, so that the file on disk contains no names."""
    names = {"key": turn.principal.name, **({"user": turn.user} if turn.user else {})}
    tenant = turn.principal.tenant
    return {whose: hashlib.sha256(f"{tenant}\0{name}".encode()).hexdigest()[:24] for whose, name in names.items()}


def _read(file: Path) -> list[tuple[str, str, str, float, float]]:
    try:
        return [(str(a), str(b), str(c), float(d), float(e)) for a, b, c, d, e in orjson.loads(file.read_bytes())]
    except (OSError, ValueError, TypeError):
        return []  # no file, or an unreadable one


def _write(file: Path, days: list[tuple[str, str, str, float, float]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    unfinished.write_bytes(orjson.dumps(days))
    unfinished.replace(file)
