"""Rate limits and quotas for keys and users: requests and tokens a minute, tokens and US dollars a day, US dollars in
thirty days. They hold for all processes of the gateway together, less what others counted within the last second.

Minutes use a sliding-window counter: the count of the previous minute is weighted by its share of the last sixty
seconds. Tokens are known when an answer has ended (reported by the upstream, else counted), so answers in progress can
exceed a limit of tokens or money; answers without a price cost nothing. Counts survive a restart.
"""

import asyncio
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import Field

from gateway.hooks import Plugin, PluginConfigModel, Reject, Services
from gateway.turn import Answer, Outcome, Turn

_Limit = Annotated[int | None, Field(gt=0)]
_Money = Annotated[float | None, Field(gt=0)]
_MINUTE, _DAY = 60.0, 86_400.0
_QUOTAS = {"tokens_per_day": _DAY, "dollars_per_day": _DAY, "dollars_per_30_days": 30 * _DAY}
_WINDOWS = {**_QUOTAS, "tokens_per_minute": _MINUTE, "requests_per_minute": _MINUTE}  # in the order they are checked


@dataclass(frozen=True, slots=True)
class Window:
    """A limited interval: counts since its `begin` (`now`), and in the interval before it."""

    begin: float
    length: float
    now: float
    before: float

    def used(self, moment: float) -> float:
        """The estimate for the interval that ends at `moment`."""
        return self.before * (1 - (moment - self.begin) / self.length) + self.now

    def wait(self, moment: float, limit: float) -> float:
        """Seconds until `used` falls below the reached limit, if nothing is added."""
        end = self.begin + self.length
        if self.now >= limit:
            return end - moment + self.length * (1 - limit / self.now)
        return self.begin + self.length * (1 - (limit - self.now) / self.before) - moment


@dataclass(frozen=True, slots=True)
class Counted:
    """A limit that applies to a request: its kind, whose it is, and when its interval began."""

    kind: str
    whose: str
    limit: float
    begin: float
    digest: str

    @property
    def names(self) -> list[str]:
        """The counters that are needed: of this interval, and of the one before if the limit slides."""
        begins = [self.begin] if self.kind in _QUOTAS else [self.begin, self.begin - self.length]
        return [_name(self.kind, self.whose, self.digest, begin) for begin in begins]

    @property
    def length(self) -> float:
        return _WINDOWS[self.kind]

    @property
    def expires(self) -> float:
        """When the counter of this interval is not needed any more: an interval that slides is needed in the next."""
        return self.begin + self.length * (1 if self.kind in _QUOTAS else 2)


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
        self._counters = services.counters
        await self._counters.get([])  # opens them
        for kind, whose, digest, begin, amount in await asyncio.to_thread(_take_earlier, services.folder):
            if kind in _QUOTAS and begin + _QUOTAS[kind] > self._clock():
                self._counters.add(_name(kind, whose, digest, begin), amount, begin + _QUOTAS[kind])

    async def on_request(self, turn: Turn) -> None:
        moment = self._clock()
        limits = self._limits(turn, moment)
        sums = await self._counters.get(name for entry in limits for name in entry.names)
        for entry in limits:
            self._check(entry, sums, moment)
        self._add(limits, {"requests_per_minute": 1})

    async def on_response(self, turn: Turn, answer: Answer) -> None:
        if answer.outcome is Outcome.REFUSED or answer.is_reply:
            return
        self._add_usage(turn, answer)

    async def on_error(self, turn: Turn, error: BaseException) -> None:
        if turn.answer is not None:  # the prompt was processed, and part of the answer generated
            self._add_usage(turn, turn.answer)

    def _add_usage(self, turn: Turn, answer: Answer) -> None:
        tokens = (answer.prompt_tokens or 0) + (answer.completion_tokens or 0)
        cost = answer.cost or 0.0
        amounts: dict[str, float] = {"tokens_per_minute": tokens, "tokens_per_day": tokens}
        amounts |= {"dollars_per_day": cost, "dollars_per_30_days": cost}
        self._add(self._limits(turn, self._clock()), amounts)

    def _limits(self, turn: Turn, moment: float) -> list[Counted]:
        """The configured limits that apply to a turn, at a moment."""
        digests, limits = _digests(turn), []
        for kind, length in _WINDOWS.items():
            begin = moment // length * length
            for whose, digest in digests.items():
                limit = getattr(self.config, f"{kind}_per_{whose}")
                if limit is not None:
                    limits.append(Counted(kind, whose, limit, begin, digest))
        return limits

    def _check(self, entry: Counted, sums: Mapping[str, float], moment: float) -> None:
        is_quota, limit = entry.kind in _QUOTAS, entry.limit
        now, before = (*(sums[name] for name in entry.names), 0.0)[:2]
        window = Window(entry.begin, entry.length, now, before)
        used = window.now if is_quota else window.used(moment)  # days do not slide
        if used < limit:
            return
        seconds = window.begin + window.length - moment if is_quota else window.wait(moment, limit)
        self._count(f"{entry.kind}_per_{entry.whose}")
        headers = {"retry-after": str(math.floor(seconds) + 1)}
        message = f"this {entry.whose} has used its {limit} {entry.kind.replace('_', ' ')}"
        if is_quota:
            raise Reject(429, message, code="insufficient_quota", headers=headers | {"x-should-retry": "false"})
        raise Reject(429, message, code="rate_limit_exceeded", headers=headers)

    def _add(self, limits: list[Counted], amounts: Mapping[str, float]) -> None:
        for entry in limits:
            if amounts.get(entry.kind):
                self._counters.add(entry.names[0], amounts[entry.kind], entry.expires)


def _name(kind: str, whose: str, digest: str, begin: float) -> str:
    return f"{kind}:{whose}:{digest}:{begin:.0f}"


def _digests(turn: Turn) -> dict[str, str]:
    """Digests of key and user, so that what is stored contains no names."""
    names = {"key": turn.principal.name, **({"user": turn.user} if turn.user else {})}
    tenant = turn.principal.tenant
    return {whose: hashlib.sha256(f"{tenant}\0{name}".encode()).hexdigest()[:24] for whose, name in names.items()}


def _take_earlier(folder: Path) -> list[tuple[str, str, str, float, float]]:
    """The counts that an earlier version left in the folder. One process gets them, once: it renames the file."""
    taken = folder / "days.taken.json"
    try:
        (folder / "days.json").rename(taken)
        rows: Any = orjson.loads(taken.read_bytes())
        return [(str(a), str(b), str(c), float(d), float(e)) for a, b, c, d, e in rows]
    except (OSError, ValueError, TypeError):
        return []  # no file, or an unreadable one
