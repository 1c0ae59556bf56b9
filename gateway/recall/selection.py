"""Selects the candidates that go into a prompt: does the request need memory, and which memories answer it. Pure.

`need` is the probability that a request needs memory at all, from its form, its meaning and its match with the memory;
below a threshold nothing is injected. Else candidates are injected by descending probability of being part of the
answer, while that is above a threshold and they have not taken more tokens than a question usually needs.
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway.memory.recalled import Need
from gateway.recall.arrays import Floats
from gateway.recall.query import Query
from gateway.recall.signals import SIGNALS, Candidates, Match
from gateway.text.form import FEATURES
from gateway.text.policy import POLICY, Network

__all__ = [
    "TOKENS_OF_A_LINE",
    "Positions",
    "Selection",
    "Thresholds",
    "asks_for_answer",
    "choose",
    "estimate_need",
    "form_inputs",
    "least_need",
    "need_inputs",
    "order_log_odds",
    "probabilities",
    "select",
    "thresholds",
]

Positions = NDArray[np.intp]

_CLIPPED = 4.0  # standard deviations of an input
_TOP_SUMMED = 3  # best candidates whose probabilities are summed
_NEED_AT_HALF: Final = 0.68
_NEED_AT_ONE: Final = 0.97
_TOKENS_AT_HALF: Final = 580  # of memories; more of them add little (measured on the corpus)
_TOKENS_FACTOR: Final = 4.0  # times as many towards selectivity 0, a quarter at 1
_FLOOR_AT_HALF: Final = 0.002
_SHARE_AT_HALF: Final = 0.02
_DOUBT_AT_HALF: Final = 0.08
TOKENS_OF_A_LINE: Final = 6
"""Tokens of a memory's line in a block, without its text."""
_ALWAYS = 3  # best memories exempt from the floor: their order is surer than the level of a probability
_MAX_LOG_ODDS = 30.0
_SUBNORMAL = 1e-6
# log-odds added by hand, since the corpus has too few such requests to fit them
_STATED_BONUS = 3.0  # to the need: a statement of the user has all words of the query
_ANSWER_BONUS = 2.5  # to the need: the question names an answer of the assistant
_MEMORY_BONUS = 7.0  # to the need: the question is about the memory itself
_DATED_BONUS = np.float32(2.5)  # to a memory from the time that the question names
_WITHOUT_PROBES = 0.75  # factor of the threshold of the need: without probes the need is estimated lower
_NAMED_ANSWER = 0.3  # least probability that an answer is asked for where a query names one
_LEAST_EARLIER = 0.02  # probability
# factors of the probability that an earlier answer is asked for, which the rarity of such requests lowers
_EARLIER_BOOST = 4.0  # for the order
_EARLIER_NEED_BOOST = 1.5  # for the need
_RELEVANT = 0.5  # relevance of a request that surely matches
_SURELY = 0.999
_RELEVANCE, _DATE = SIGNALS.index("relevance"), SIGNALS.index("date")
_SHORT_REQUEST = 40  # tokens
_RELEVANCE_LIMIT = 7.0  # log-odds of a relevance are within it
_NO_CHANCES = np.zeros(1, np.float32)
_PRECEDENCE = np.float32(1.001)  # factor by which a correction is more probable than the corrected memory
_SHOWN_PART = 0.05  # log-odds


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Minimum probabilities. `need`: of a request's need; `each`: of a memory; `share`: of a memory, as a share of the
    best one's; `doubt`: of a memory where the request certainly needs none, falling to 0 as the need rises to 1.
    `tokens`: of the memories after which no more are added."""

    need: float
    each: float
    share: float
    doubt: float
    tokens: int


def thresholds(selectivity: float) -> Thresholds:
    """The thresholds of a selectivity over 0 (inject all memories that may help) to 1 (only those that surely do). At 0
    nothing is estimated, see `search.find_memories`."""
    above = max(0.0, 2 * selectivity - 1)
    return Thresholds(
        need=min(1.0, 2 * selectivity) * _NEED_AT_HALF + above * (_NEED_AT_ONE - _NEED_AT_HALF),
        each=2 * selectivity * _FLOOR_AT_HALF,
        share=2 * selectivity * _SHARE_AT_HALF,
        doubt=2 * selectivity * _DOUBT_AT_HALF,
        tokens=round(_TOKENS_AT_HALF * _TOKENS_FACTOR ** (1 - 2 * selectivity)),
    )


class _Order:
    """The fitted network of the order, as arrays."""

    def __init__(self, network: Network) -> None:
        if network.inputs != list(SIGNALS):
            raise ValueError("the fitted order is of other signals; run `make fit`")
        self._means = np.asarray(network.means, np.float32)
        self._scales = np.asarray(network.scales, np.float32)
        hidden = np.asarray(network.hidden, np.float32).reshape(len(SIGNALS), -1)
        self._hidden = np.where(np.abs(hidden) < _SUBNORMAL, np.float32(0), hidden)  # subnormal numbers are slow
        self._hidden_bias = np.asarray(network.hidden_bias, np.float32)
        self._output = np.asarray(network.output, np.float32)
        self._linear = np.asarray(network.linear, np.float32)
        self._bias = np.float32(network.bias)

    def log_odds(self, signals: Floats) -> Floats:
        values = np.where(np.isnan(signals), self._means, signals)
        inputs = np.clip((values - self._means) / self._scales, -_CLIPPED, _CLIPPED)
        hidden = np.maximum(inputs @ self._hidden + self._hidden_bias, 0)
        return np.asarray(hidden @ self._output + inputs @ self._linear + self._bias, np.float32)


@cache
def _order() -> _Order:
    return _Order(POLICY.order)


def order_log_odds(signals: Floats) -> Floats:
    """Log-odds that each candidate is part of the answer; `signals` as `signal_matrix` makes them. Raises ValueError if
    the policy was fitted to other signals."""
    return _order().log_odds(signals)


def probabilities(log_odds: Floats) -> Floats:
    """Log-odds as probabilities."""
    return np.asarray(1 / (1 + np.exp(-log_odds)), np.float32)


def need_inputs(query: Query, match: Match, chances: Floats) -> dict[str, float]:
    """The inputs of the need regression, by name. `chances`: the probabilities of the candidates."""
    form = query.form
    best = -np.sort(-chances)[:_TOP_SUMMED]
    top = float(best[0]) if len(best) else 0.0
    return (
        form_inputs(query)
        | {
            "form length": max(-0.7, math.log(query.tokens / 20)) if query.tokens else -0.7,
            "form orders only": float(form.opens_with_order and not form.has_self),
            "form asks of oneself": float(form.asks > 0 and form.has_self > 0),
            "form refers to oneself": float(form.refers_back > 0 and (form.has_self > 0 or form.addresses > 0)),
            "form about user": float(_is_about_user(query)),
            "form about answers": float(_may_refer_to_answer(query)),
            "match best": math.log((top + 1e-3) / (1 - top + 1e-3)),
            "match few": float(best.sum()),
            "match meaning": match.best_cosine,
            "match relevance": match.best_relevance_logit / 5,
            "match words": match.best_word_share,
            "match rarest": match.rarest,
        }
        | ({} if match.request is None else {"meaning": match.request.need})
    )


def form_inputs(query: Query) -> dict[str, float]:
    """The form of a request as inputs of a regression, by name."""
    return {f"form {name}": float(getattr(query.form, name)) for name in FEATURES}


def _may_refer_to_answer(query: Query) -> bool:
    """True for a short message that refers back and addresses the assistant; `Query.is_about_answers` is surer."""
    form = query.form
    return _is_short(query) and form.refers_back > 0 and form.addresses > 0


def _is_about_user(query: Query) -> bool:
    """True for a short question about the user."""
    form = query.form
    return _is_short(query) and form.asks > 0 and form.has_self > 0 and not form.opens_with_order


def _is_short(query: Query) -> bool:
    return query.tokens <= _SHORT_REQUEST and not query.form.code


def estimate_need(query: Query, match: Match, chances: Floats) -> Need:
    """The probability that a request needs memory, and its parts."""
    model = POLICY.need_without_probes if match.request is None else POLICY.need
    inputs = need_inputs(query, match, chances)
    parts = {name: model.weights.get(name, 0.0) * value for name, value in inputs.items()}
    if match.is_stated:
        parts["match stated"] = _STATED_BONUS
    if query.is_about_answers:
        parts["form about an answer"] = _ANSWER_BONUS
    if query.is_about_memory:
        parts["form about memory"] = _MEMORY_BONUS
    parts["base"] = model.bias
    reported = ((name, part) for name, part in parts.items() if abs(part) >= _SHOWN_PART)
    return Need(_sigmoid(sum(parts.values())), tuple(reported))


def least_need(query: Query, match: Match | None = None) -> Need:
    """The least that the need of a request without a vector can be; `match`: with the memory, None: any."""
    any_match = Match(best_relevance_logit=-_RELEVANCE_LIMIT)
    return estimate_need(query, match or any_match, _NO_CHANCES)


def _with_earlier(need: Need, candidates: Candidates, earlier: float) -> Need:
    """Raise the need of a request for an earlier answer: by the probability that it asks for one (`earlier`), times the
    relevance of the best matching request that was answered. Tasks do not count elsewhere in the need."""
    if earlier < _LEAST_EARLIER or not len(candidates.answers):
        return need
    match = _sigmoid(float(candidates.signals[candidates.answers[:, 1], _RELEVANCE].max()))
    answered = min(1.0, _EARLIER_NEED_BOOST * earlier) * min(1.0, match / _RELEVANT)
    probability = min(_SURELY, 1 - (1 - need.probability) * (1 - answered))
    gained = _logit(probability) - _logit(min(_SURELY, max(1 - _SURELY, need.probability)))
    return replace(need, probability=probability, parts=(*need.parts, ("earlier answer", gained)))


def asks_for_answer(query: Query, match: Match) -> float:
    """The probability that a request asks for an earlier answer."""
    model = POLICY.earlier_without_probes if match.request is None else POLICY.earlier
    total = model.bias + sum(model.weights[name] * value for name, value in form_inputs(query).items())
    probability = _sigmoid(total + (0.0 if match.request is None else match.request.earlier))
    return max(probability, _NAMED_ANSWER) if query.is_about_answers else probability


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def _sigmoid(log_odds: float) -> float:
    return 1 / (1 + math.exp(-min(_MAX_LOG_ODDS, max(-_MAX_LOG_ODDS, log_odds))))


def _with_answers(chances: Floats, candidates: Candidates, share: float) -> Floats:
    """Raise each answer to the probability of the message it replied to, if the user probably asks for an earlier
    answer; if that is near certain, put the answer before that message. `share`: the probability that they do."""
    if len(candidates.answers) and share > _LEAST_EARLIER:
        answer, request = candidates.answers.T
        np.maximum.at(chances, answer, np.minimum(chances[request] * np.float32(min(1.0, _EARLIER_BOOST * share)), 1))
        if _EARLIER_BOOST * share >= 1:
            np.minimum.at(chances, request, chances[answer] / _PRECEDENCE)
    return chances


def _in_precedence(chances: Floats, candidates: Candidates) -> Floats:
    """Make corrections at least as probable as the corrected memories, and conclusions less than their premises."""
    if len(candidates.corrections):
        correction, corrected = candidates.corrections.T
        np.maximum.at(chances, correction, np.minimum(chances[corrected] * _PRECEDENCE, 1))
    if len(candidates.conclusions):
        conclusion, premise = candidates.conclusions.T
        best = np.zeros(len(chances), np.float32)
        np.maximum.at(best, conclusion, chances[premise])
        rests = best > 0
        chances[rests] = np.minimum(chances[rests], best[rests] / _PRECEDENCE)
    return chances


@dataclass(frozen=True, slots=True)
class Selection:
    """Positions of candidates: those to inject, best first, and the others; the probability of each candidate; and the
    need of the request."""

    chosen: Positions
    left: Positions
    chances: Floats
    need: Need


def select(candidates: Candidates, query: Query, limits: Thresholds) -> Selection:
    """Select the candidates of a query that are injected."""
    dated_bonus = np.where(candidates.signals[:, _DATE] > 0, _DATED_BONUS, np.float32(0))
    chances = probabilities(order_log_odds(candidates.signals) + dated_bonus)
    earlier = asks_for_answer(query, candidates.match)
    chances = _in_precedence(_with_answers(chances, candidates, earlier), candidates)
    if candidates.match.request is None:
        limits = replace(limits, need=limits.need * _WITHOUT_PROBES)
    need = _with_earlier(estimate_need(query, candidates.match, chances), candidates, earlier)
    chosen, rest = choose(chances, candidates.tokens, need.probability, limits)
    return Selection(chosen, rest, chances, replace(need, threshold=limits.need))


def choose(chances: Floats, tokens: NDArray[np.int32], need: float, limits: Thresholds) -> tuple[Positions, Positions]:
    """Positions of candidates, best first: those to inject, and the others. `chances` and `tokens` of each; `need`: the
    probability that the request needs memory."""
    places = np.argsort(-chances, kind="stable")
    if need < limits.need:
        return places[:0], places
    ordered = chances[places]
    floor = max(limits.each, limits.doubt * (1 - need), limits.share * float(ordered.max(initial=0)))
    passes = ordered >= floor
    passes[:_ALWAYS] = True
    before = np.cumsum(tokens[places] + TOKENS_OF_A_LINE) - tokens[places]
    count = int(((before < limits.tokens) & passes).sum())
    return places[:count], places[count:]
