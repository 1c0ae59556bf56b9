"""Fits the recall policy to the corpus and writes `gateway/text/policy.json`: `make fit`.

Two steps, since the second one rests on stored worth: `python -m tests.fit worth`, then `python -m tests.fit recall`.
Prints what the policy gives on people that it was not fitted to.
"""

import argparse
import asyncio
import pickle
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from gateway.recall.selection import TOKENS_OF_A_LINE, choose, thresholds
from gateway.text.policy import POLICY, Policy
from tests.eval.corpus import FOLDER, read_split
from tests.fit.collect import Sample, collect
from tests.fit.models import (
    Floats,
    fit_earlier,
    fit_need,
    fit_order,
    fit_probes,
    fit_worth,
    is_answered,
    with_probes,
)
from tests.fit.people import stores

_TARGET = Path("gateway/text/policy.json")
_FOLDS = 3
_FRAME = 23  # tokens of a block beside its lines
_EMBEDDER = "use-multilingual-v3"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fit", description=__doc__)
    parser.add_argument("step", choices=("worth", "recall"))
    parser.add_argument("--corpus", type=Path, default=FOLDER, help="folder of the people")
    parser.add_argument("--cache", type=Path, help="folder in which collected samples are kept between runs")
    arguments = parser.parse_args()
    if arguments.step == "worth":
        _fit_worth(arguments.corpus)
    else:
        _fit_recall(arguments.corpus, arguments.cache)


def _write(policy: Policy) -> None:
    _TARGET.write_bytes(orjson.dumps(asdict(policy)) + b"\n")
    print(f"wrote {_TARGET}, {_TARGET.stat().st_size // 1024} KiB")


def _fit_worth(corpus: Path) -> None:
    texts = []
    for person in read_split("fit", corpus):
        passages = [
            passage
            for question in person.questions
            if question.category != "earlier"
            for group in question.evidence
            for passage in group
        ]
        evidence = {passage.message for passage in passages}
        texts += [
            (message.content, len(message.content) // 4 + 1, message.role == "user", message.id in evidence)
            for session in person.sessions
            for message in session
            if message.role != "tool"
        ]
    _write(replace(POLICY, worth=fit_worth(texts)))


def _fit_recall(corpus: Path, cache: Path | None) -> None:
    samples, vectors = asyncio.run(_collected(corpus, cache))
    users = sorted({sample.user for sample in samples})
    probed: dict[int, Sample] = {}
    chances: dict[int, Floats] = {}
    for fold in range(_FOLDS):  # what the later steps see of each person was fitted to others
        held_out = set(users[fold::_FOLDS])
        metric, memory = fit_probes([one for one in samples if one.user not in held_out], vectors)
        for place, sample in enumerate(samples):
            if sample.user in held_out:
                probed[place] = with_probes(sample, vectors, metric, memory)
    for fold in range(_FOLDS):
        held_out = set(users[fold::_FOLDS])
        shown = [one for one in probed.values() if one.user not in held_out and _shows_order(one)]
        _, order = fit_order(shown, seeds=1)
        for place, sample in probed.items():
            if sample.user in held_out:
                chances[place] = order(sample.signals)
    ordered = [probed[place] for place in range(len(samples))]
    their_chances = [chances[place] for place in range(len(samples))]
    needs = np.zeros(len(samples))
    for fold in range(_FOLDS):
        held_out = set(users[fold::_FOLDS])
        inside = [place for place, one in enumerate(ordered) if one.user not in held_out]
        outside = [place for place, one in enumerate(ordered) if one.user in held_out]
        *_, estimate = fit_need([ordered[place] for place in inside], [their_chances[place] for place in inside])
        needs[outside] = estimate([ordered[place] for place in outside], [their_chances[place] for place in outside])
    _report(ordered, their_chances, needs)
    metric, memory = fit_probes(samples, vectors)
    network, _ = fit_order([one for one in ordered if _shows_order(one)])
    need, request, without, _ = fit_need(ordered, their_chances)
    earlier, asks, earlier_without = fit_earlier(ordered)
    probes = replace(
        POLICY.probes,
        embedder=_EMBEDDER,
        metric=_rounded(metric),
        memory=_rounded(memory),
        request=_rounded(request),
        earlier=_rounded(asks),
    )
    policy = replace(POLICY, order=network, probes=probes, need=need, need_without_probes=without)
    _write(replace(policy, earlier=earlier, earlier_without_probes=earlier_without))


def _shows_order(sample: Sample) -> bool:
    """True for questions about the user, answered or not: their candidates show what answers and what does not."""
    return len(sample.tokens) > 0 and (is_answered(sample) or sample.category == "abstain")


async def _collected(corpus: Path, cache: Path | None) -> tuple[list[Sample], dict[str, Floats]]:
    samples: list[Sample] = []
    vectors: dict[str, Floats] = {}
    for conversations, unanswered in stores(read_split("fit", corpus)):
        file = cache / f"{conversations.dataset}.pickle" if cache is not None else None
        if file is not None and file.exists():
            collected, known = pickle.loads(file.read_bytes())  # noqa: S301 — made by this script
        else:
            collected, known = await collect([conversations], unanswered)
            if file is not None:
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(pickle.dumps((collected, known)))
        samples += collected
        vectors |= known
    return samples, vectors


def _report(samples: Sequence[Sample], chances: Sequence[Floats], needs: Any) -> None:
    """Recall and tokens by selectivity, of people left out of the fit."""
    print("evidence recalled % / tokens by category, and noise % / tokens of the others")
    for selectivity in (0.25, 0.5, 0.75):
        limits = thresholds(selectivity)
        recalls, tokens = defaultdict(list), defaultdict(list)
        for sample, chance, need in zip(samples, chances, needs, strict=True):
            chosen = choose(chance, sample.tokens, need, limits)[0] if len(chance) else np.zeros(0, np.intp)
            used = int((sample.tokens[chosen] + TOKENS_OF_A_LINE).sum())
            tokens[sample.category].append(used + _FRAME if used else 0)
            if sample.groups:
                known = {int(place) for place in chosen}
                recalls[sample.category].append(np.mean([bool(known.intersection(group)) for group in sample.groups]))
        shown = [
            f"{name} {100 * np.mean(recalls[name]):.0f}/{np.mean(tokens[name]):.0f}"
            if recalls[name]
            else f"{name} {100 * np.mean(np.asarray(tokens[name]) > 0):.0f}%/{np.mean(tokens[name]):.0f}"
            for name in tokens
        ]
        print(f"selectivity {selectivity}: ", ", ".join(shown))


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


if __name__ == "__main__":
    main()
