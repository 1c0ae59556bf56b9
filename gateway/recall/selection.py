"""Which candidates go into a prompt: does the request need memory, and which memories answer it. Pure.

`need` is the probability that a request needs memory at all, from its form, its meaning and how it matches the memory;
below a threshold nothing is injected. Else candidates are injected by falling probability of being part of the answer,
as long as that is above a floor and they have not taken more tokens than a question usually needs.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway.recall.query import Query
from gateway.recall.signals import SIGNALS, Candidates, Match
from gateway.text.form import FEATURES
from gateway.text.policy import POLICY, Network
from gateway.turn import Memory, Need

__all__ = ["Thresholds", "estimate_need", "need_inputs", "order_log_odds", "probabilities", "select", "thresholds"]

Floats = NDArray[np.float32]

_CLIPPED = 4.0  # standard deviations of an input
_FEW = 3  # best candidates whose probabilities are summed
_NEED_AT_HALF: Final = 0.65
_NEED_AT_ONE: Final = 0.97
_TOKENS_AT_HALF: Final = 440  # of memories; more of them add little (measured on the corpus)
_TOKENS_FACTOR: Final = 4.0  # more at selectivity 0, as much less at 1
_FLOOR_AT_HALF: Final = 0.002
_TOKENS_OF_A_LINE = 6  # beside the memory's text
_MAX_LOG_ODDS = 30.0
_NOTHING = 1e-6
_SHORT_REQUEST = 40  # tokens
_ABOUT_ANSWERS, _ABOUT_USER = 2.2, 1.3  # log-odds; see `_about_us`
_TOLD = 3.0  # log-odds of a query all words of which a statement of the user has
_CLEARLY = np.float32(1.001)  # by which what stands before another is more probable
_SHOWN_PART = 0.05  # log-odds


@dataclass(frozen=True, slots=True)
class Thresholds:
    """`need`: that a request must reach; `each`: the probability that a memory must; `tokens`: that memories may take
    until no more are added."""

    need: float
    each: float
    tokens: int


def thresholds(selectivity: float) -> Thresholds:
    """Of a selectivity from 0 (whatever may help) to 1 (only what surely does)."""
    above = max(0.0, 2 * selectivity - 1)
    return Thresholds(
        need=min(1.0, 2 * selectivity) * _NEED_AT_HALF + above * (_NEED_AT_ONE - _NEED_AT_HALF),
        each=2 * selectivity * _FLOOR_AT_HALF,
        tokens=round(_TOKENS_AT_HALF * _TOKENS_FACTOR ** (1 - 2 * selectivity)),
    )


class _Order:
    """A network as arrays."""

    def __init__(self, network: Network) -> None:
        if network.inputs != list(SIGNALS):
            raise ValueError("the fitted order is of other signals; run `make fit`")
        self._means = np.asarray(network.means, np.float32)
        self._scales = np.asarray(network.scales, np.float32)
        hidden = np.asarray(network.hidden, np.float32).reshape(len(SIGNALS), -1)
        self._hidden = np.where(np.abs(hidden) < _NOTHING, np.float32(0), hidden)  # subnormal numbers are slow
        self._hidden_bias = np.asarray(network.hidden_bias, np.float32)
        self._output = np.asarray(network.output, np.float32)
        self._linear = np.asarray(network.linear, np.float32)
        self._bias = np.float32(network.bias)

    def log_odds(self, signals: Floats) -> Floats:
        known = np.where(np.isnan(signals), self._means, signals)
        inputs = np.clip((known - self._means) / self._scales, -_CLIPPED, _CLIPPED)
        hidden = np.maximum(inputs @ self._hidden + self._hidden_bias, 0)
        return np.asarray(hidden @ self._output + inputs @ self._linear + self._bias, np.float32)


_ORDER: Final = _Order(POLICY.order)


def order_log_odds(signals: Floats) -> Floats:
    """Log-odds that each candidate is part of the answer; `signals` as `signal_matrix` makes them."""
    return _ORDER.log_odds(signals)


def probabilities(log_odds: Floats) -> Floats:
    """Log-odds as probabilities."""
    return np.asarray(1 / (1 + np.exp(-log_odds)), np.float32)


def need_inputs(query: Query, match: Match, chances: Floats) -> dict[str, float]:
    """The inputs of the need regression, by name. `chances`: the probabilities of the candidates."""
    form = query.form
    best = -np.sort(-chances)[:_FEW]
    top = float(best[0]) if len(best) else 0.0
    inputs = {f"form {name}": float(getattr(form, name)) for name in FEATURES}
    return (
        inputs
        | {
            "form length": max(-0.7, math.log(query.tokens / 20)) if query.tokens else -0.7,
            "form orders only": float(form.opens_with_order and not form.has_self),
            "form asks of oneself": float(form.asks > 0 and form.has_self > 0),
            "form refers to oneself": float(form.refers_back > 0 and (form.has_self > 0 or form.addresses > 0)),
            "match best": math.log((top + 1e-3) / (1 - top + 1e-3)),
            "match few": float(best.sum()),
            "match meaning": match.worthy_meaning,
            "match relevance": match.worthy_relevance / 5,
            "match words": match.worthy_words,
            "match rarest": match.rarest,
        }
        | ({} if match.request is None else {"meaning": match.request})
    )


def _about_us(query: Query) -> float:
    """Log-odds for a short question about the user or about what was answered before: of few memories hardly any match
    it well."""
    form = query.form
    if query.tokens > _SHORT_REQUEST or form.code:
        return 0.0
    if form.refers_back and form.addresses:
        return _ABOUT_ANSWERS
    return _ABOUT_USER if form.asks and form.has_self and not form.opens_with_order else 0.0


def estimate_need(query: Query, match: Match, chances: Floats) -> Need:
    """How likely a request needs memory, and why."""
    model = POLICY.need_without_probes if match.request is None else POLICY.need
    inputs = need_inputs(query, match, chances)
    parts = {name: model.weights.get(name, 0.0) * value for name, value in inputs.items()}
    if match.is_told:
        parts["match told"] = _TOLD
    if about := _about_us(query):
        parts["form about us"] = about
    total = model.bias + sum(parts.values())
    probability = 1 / (1 + math.exp(-min(_MAX_LOG_ODDS, max(-_MAX_LOG_ODDS, total))))
    return Need(probability, tuple((name, part) for name, part in parts.items() if abs(part) >= _SHOWN_PART))


def _in_precedence(chances: Floats, candidates: Candidates) -> Floats:
    """Corrections are at least as probable as what they correct, and conclusions no more than what they rest on."""
    if len(candidates.corrections):
        correction, corrected = candidates.corrections.T
        np.maximum.at(chances, correction, np.minimum(chances[corrected] * _CLEARLY, 1))
    if len(candidates.conclusions):
        conclusion, premise = candidates.conclusions.T
        best = np.zeros(len(chances), np.float32)
        np.maximum.at(best, conclusion, chances[premise])
        rests = best > 0
        chances[rests] = np.minimum(chances[rests], best[rests] / _CLEARLY)
    return chances


def _with_probability(memory: Memory, chance: float) -> Memory:
    """The memory with a probability; `dataclasses.replace` takes five times as long."""
    return Memory(
        memory.record, memory.score, memory.relativity, memory.tokens, memory.trust, memory.parts, probability=chance
    )


def select(candidates: Candidates, query: Query, limits: Thresholds) -> tuple[list[Memory], list[Memory], Need]:
    """The memories to inject, best first; those that are not worth their tokens; and the need of the request."""
    chances = _in_precedence(probabilities(order_log_odds(candidates.signals)), candidates)
    need = estimate_need(query, candidates.match, chances)
    places = np.argsort(-chances, kind="stable")
    ordered = [
        _with_probability(candidates.memories[place], chance)
        for place, chance in zip(places.tolist(), chances[places].tolist(), strict=True)
    ]
    if need.probability < limits.need:
        return [], ordered, need
    count = tokens = 0
    for memory in ordered:
        if tokens >= limits.tokens or (memory.probability or 0.0) < limits.each:
            break
        count += 1
        tokens += memory.tokens + _TOKENS_OF_A_LINE
    return ordered[:count], ordered[count:], need
