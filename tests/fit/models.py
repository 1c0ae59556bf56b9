"""The regressions of the recall policy, fitted to collected samples."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from gateway.recall.selection import form_inputs, need_inputs
from gateway.recall.signals import SIGNALS
from gateway.text.form import read_form
from gateway.text.policy import Linear, Network
from gateway.text.worth import worth_inputs
from tests.fit.collect import Sample
from tests.fit.people import NO_NEED

__all__ = [
    "Chances",
    "fit_earlier",
    "fit_need",
    "fit_order",
    "fit_probes",
    "fit_worth",
    "is_answered",
    "labels",
    "needs_memory",
]

Floats = NDArray[np.float32]
Chances = Callable[[Floats], Floats]

_CLIPPED = 4.0
_LEAST_SCALE = 0.05
_LEAST_NEED_SCALE = 0.25  # nothing is clipped where the need is estimated: a rare input must not weigh more
_HIDDEN, _NETWORKS, _EPOCHS = 32, 3, 15
_UNKNOWN_SHARE = 0.3
_WEIGHTS = {"zh10": 3.0}  # the only notebook
_SCORE_SLOPE = 0.3  # fixed slope of the log-odds on the score, so that texts unlike the corpus still follow it
_NEGATIVES = 30  # candidates of a question that the probes are fitted to
_VECTOR_SCALE = 3.0
_METRIC_SCALE = 20.0
_METRIC, _MEMORY_PROBE, _GAP = (SIGNALS.index(name) for name in ("metric", "memory probe", "gap"))


def labels(sample: Sample) -> NDArray[np.int8]:
    """1 for the candidates that hold a passage that is needed."""
    marked = np.zeros(len(sample.tokens), np.int8)
    for group in sample.groups:
        marked[list(group)] = 1
    return marked


def is_answered(sample: Sample) -> bool:
    return bool(sample.groups)


def needs_memory(sample: Sample) -> bool:
    return sample.category not in NO_NEED


def fit_worth(texts: Sequence[tuple[str, int, bool, bool]]) -> Linear:
    """From (text, tokens, is from the user, is evidence of something about the user)."""
    inputs = [worth_inputs(read_form(text), tokens, is_from_user=own) for text, tokens, own, _ in texts]
    names = list(inputs[0])
    matrix = np.asarray([[row[name] for name in names] for row in inputs])
    model = LogisticRegression(C=0.3, max_iter=2000, class_weight="balanced")
    model.fit(matrix, [label for *_, label in texts])
    return Linear(float(model.intercept_[0]), dict(zip(names, map(float, model.coef_[0]), strict=True)))


def fit_probes(samples: Sequence[Sample], vectors: dict[str, Floats]) -> tuple[Floats, Floats]:
    """The metric and the probe of memories: logistic regression on products of a query's and a candidate's numbers."""
    pick = np.random.default_rng(0)
    rows, targets = [], []
    for sample in samples:
        if sample.vector is None or not sample.groups:
            continue
        marked = labels(sample)
        others = np.flatnonzero(marked == 0)
        chosen = [*np.flatnonzero(marked), *pick.choice(others, min(_NEGATIVES, len(others)), replace=False)]
        for place in chosen:
            vector = vectors[sample.ids[place]]
            rows.append(np.concatenate([sample.vector * vector * _METRIC_SCALE, vector * _VECTOR_SCALE]))
            targets.append(marked[place])
    model = LogisticRegression(C=0.3, max_iter=150)
    model.fit(np.asarray(rows, np.float32), targets)
    metric, memory = np.split(model.coef_[0], 2)
    return np.asarray(metric * _METRIC_SCALE, np.float32), np.asarray(memory * _VECTOR_SCALE, np.float32)


def with_probes(sample: Sample, vectors: dict[str, Floats], metric: Floats, memory: Floats) -> Sample:
    """The sample with the signals that the probes give."""
    if sample.vector is None or not sample.ids:
        return sample
    rows = np.stack([vectors[id_] for id_ in sample.ids])
    signals = sample.signals.copy()
    signals[:, _METRIC] = rows @ (sample.vector * metric)
    signals[:, _MEMORY_PROBE] = rows @ memory
    return replace(sample, signals=signals)


def _thinned(signals: Floats) -> Floats:
    """The same rows with a part of the signals not known, at random, so that the order rests on none of them alone."""
    unknown = np.random.default_rng(0).random(signals.shape) < _UNKNOWN_SHARE
    unknown[:, _GAP] = False
    return np.where(unknown, np.float32(np.nan), signals)


def fit_order(samples: Sequence[Sample], seeds: int = _NETWORKS) -> tuple[Network, Chances]:
    """The order of candidates, and the same as a function from signals to probabilities."""
    full = np.concatenate([sample.signals for sample in samples])
    targets = np.concatenate([labels(sample) for sample in samples])
    wordless = np.concatenate([sample.words_only for sample in samples])
    has_words = ~np.isnan(wordless[:, _GAP])
    unprobed = full.copy()
    unprobed[:, [_METRIC, _MEMORY_PROBE]] = np.nan
    matrix = np.concatenate([full, _thinned(full), unprobed, wordless[has_words]])
    marked = np.concatenate([targets, targets, targets, targets[has_words]])
    by_row = np.repeat([_WEIGHTS.get(sample.user, 1.0) for sample in samples], [len(one.tokens) for one in samples])
    weights = np.concatenate([0.6 * by_row, 0.6 * by_row, 0.3 * by_row, 0.3 * by_row[has_words]])
    means = np.nanmean(full, axis=0)
    scales = np.maximum(np.nanstd(full, axis=0), _LEAST_SCALE)

    def standardised(signals: Floats) -> Floats:
        known = np.where(np.isnan(signals), means, signals)
        inputs = np.clip((known - means) / scales, -_CLIPPED, _CLIPPED)
        return np.asarray(inputs, np.float32)

    inputs = standardised(matrix)
    networks = [
        MLPClassifier(
            (_HIDDEN,), alpha=0.1, max_iter=_EPOCHS, batch_size=256, learning_rate_init=2e-3, random_state=seed
        ).fit(inputs, marked, sample_weight=weights)
        for seed in range(seeds)
    ]
    hidden = np.concatenate([network.coefs_[0] for network in networks], axis=1)
    hidden_bias = np.concatenate([network.intercepts_[0] for network in networks])
    output = np.concatenate([network.coefs_[1][:, 0] for network in networks]) / seeds
    bias = float(np.mean([network.intercepts_[1][0] for network in networks]))
    linear = np.zeros(len(SIGNALS))
    linear[_GAP] = -_SCORE_SLOPE * 5 * scales[_GAP]

    def raw(signals: Floats) -> Floats:
        standard = standardised(signals)
        return np.asarray(
            np.maximum(standard @ hidden + hidden_bias, 0) @ output + standard @ linear + bias, np.float32
        )

    calibration = LogisticRegression(C=1e6).fit(raw(full)[:, None], targets)
    slope, offset = float(calibration.coef_[0, 0]), float(calibration.intercept_[0])
    network = Network(
        inputs=list(SIGNALS),
        means=_rounded(means),
        scales=_rounded(scales),
        linear=_rounded(linear * slope),
        hidden=[_rounded(row) for row in hidden],
        hidden_bias=_rounded(hidden_bias),
        output=_rounded(output * slope),
        bias=bias * slope + offset,
    )

    def chances(signals: Floats) -> Floats:
        return np.asarray(1 / (1 + np.exp(-(raw(signals) * slope + offset))), np.float32)

    return network, chances


def fit_need(
    samples: Sequence[Sample], chances: Sequence[Floats]
) -> tuple[Linear, Floats, Linear, Callable[[Sequence[Sample], Sequence[Floats]], Floats]]:
    """The need by form, match and the request's vector, its probe, the need without a probe, and the first as a
    function."""
    pairs = [
        (sample, chance)
        for sample, chance in zip(samples, chances, strict=True)
        if sample.query.text and sample.category != "abstain"
    ]
    inputs = [_need_inputs(sample, chance) for sample, chance in pairs]
    names = list(inputs[0])
    matrix = np.asarray([[row[name] for name in names] for row in inputs])
    vectors = np.asarray([sample.vector for sample, _ in pairs])
    targets = np.asarray([needs_memory(sample) for sample, _ in pairs])
    weights = np.where(targets, 0.5 / targets.mean(), 0.5 / (1 - targets.mean()))
    scaler = StandardScaler().fit(matrix)
    scaler.scale_ = np.maximum(scaler.scale_, _LEAST_NEED_SCALE)
    standard = scaler.transform(matrix)
    both = LogisticRegression(C=0.1, max_iter=3000).fit(
        np.concatenate([standard, vectors * _VECTOR_SCALE], axis=1), targets, sample_weight=weights
    )
    alone = LogisticRegression(C=0.3, max_iter=3000).fit(standard, targets, sample_weight=weights)
    count = len(names)
    probe = np.asarray(both.coef_[0, count:] * _VECTOR_SCALE, np.float32)
    need = _unscaled(names, both.coef_[0, :count], float(both.intercept_[0]), scaler)
    need = replace(need, weights=need.weights | {"meaning": 1.0})
    without = _unscaled(names, alone.coef_[0], float(alone.intercept_[0]), scaler)

    def estimate(others: Sequence[Sample], their_chances: Sequence[Floats]) -> Floats:
        totals = []
        for sample, chance in zip(others, their_chances, strict=True):
            values = _need_inputs(sample, chance) if sample.query.text else None
            total = -30.0
            if values is not None and sample.vector is not None:
                total = need.bias + sum(need.weights[name] * value for name, value in values.items())
                total += float(sample.vector @ probe)
            totals.append(total)
        return np.asarray(1 / (1 + np.exp(-np.asarray(totals))), np.float32)

    return need, probe, without, estimate


def fit_earlier(samples: Sequence[Sample]) -> tuple[Linear, Floats, Linear]:
    """Whether a request asks for an earlier answer, by its form and its vector; its probe; and by its form alone."""
    asked = [sample for sample in samples if sample.query.text and sample.vector is not None]
    names = list(form_inputs(asked[0].query))
    forms = np.asarray([list(form_inputs(sample.query).values()) for sample in asked])
    vectors = np.asarray([sample.vector for sample in asked])
    targets = np.asarray([sample.category == "earlier" for sample in asked])
    both = LogisticRegression(C=0.1, max_iter=3000).fit(
        np.concatenate([forms, vectors * _VECTOR_SCALE], axis=1), targets
    )
    alone = LogisticRegression(C=0.3, max_iter=3000).fit(forms, targets)
    by_form, by_vector = np.split(both.coef_[0], [len(names)])
    return (
        Linear(float(both.intercept_[0]), dict(zip(names, map(float, by_form), strict=True))),
        np.asarray(by_vector * _VECTOR_SCALE, np.float32),
        Linear(float(alone.intercept_[0]), dict(zip(names, map(float, alone.coef_[0]), strict=True))),
    )


def _need_inputs(sample: Sample, chance: Floats) -> dict[str, float]:
    return need_inputs(sample.query, replace(sample.match, request=None), chance)


def _unscaled(names: Sequence[str], weights: Any, bias: float, scaler: StandardScaler) -> Linear:
    """The same regression on inputs that are not standardised."""
    by_name = {name: float(w / s) for name, w, s in zip(names, weights, scaler.scale_, strict=True)}
    return Linear(bias - float(np.sum(weights * scaler.mean_ / scaler.scale_)), by_name)


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.5g}") for value in values]
