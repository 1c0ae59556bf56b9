"""Scores of an evaluation. Pure.

Evidence recall within a token budget: of the turns that hold an answer, how many stand in what was really injected?
A turn counts if its text, brought down to letters and digits, stands in the block's text treated alike. Intervals are
percentile bootstrap over questions (Efron 1979): 95 %, 2000 resamples, seeded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Interval", "Score", "interval", "is_current", "letters", "recalled_share"]

_RESAMPLES = 2000
_SEED = 20_261_122


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One question at one budget. `recall`: 0–1; None where no turn answers the question. `current`: True if what
    replaces something was injected and stands after it; None where nothing is replaced."""

    dataset: str
    user_id: str
    question_id: str
    category: str
    budget: int
    recall: float | None
    current: bool | None
    tokens: int
    memories: int


@dataclass(frozen=True, slots=True)
class Interval:
    mean: float
    low: float
    high: float


def letters(text: str) -> str:
    """Lower-case letters and digits only."""
    return "".join(character for character in text.lower() if character.isalnum())


def recalled_share(block: str, evidence: Sequence[str]) -> float:
    """How many of these texts stand in the block, as a share."""
    held = letters(block)
    return sum(letters(text) in held for text in evidence) / len(evidence)


def is_current(block: str, evidence: Sequence[str], outdated: Sequence[str]) -> bool:
    """True if all of the evidence is there, and after all that it replaces."""
    held = letters(block)
    places = [held.find(letters(text)) for text in evidence]
    return min(places) >= 0 and min(places) > max(held.find(letters(text)) for text in outdated)


def interval(values: Sequence[float]) -> Interval:
    """Mean with its 95 % bootstrap interval; of differences too."""
    sample = np.asarray(values, np.float64)
    chosen = np.random.default_rng(_SEED).integers(0, len(sample), (_RESAMPLES, len(sample)))
    low, high = np.percentile(sample[chosen].mean(axis=1), [2.5, 97.5])
    return Interval(float(sample.mean()), float(low), float(high))
