"""Scores of an evaluation. Pure.

Evidence recall within a token budget: of the passages that are needed, how many stand in what was really injected?
A passage counts if its words, brought down to letters and digits, stand in the block's text treated alike; one that is
stored in several chunks, if each of them does. Of alternatives one is enough. Intervals are percentile bootstrap over
questions (Efron 1979): 95 %, 2000 resamples, seeded.
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
    replaces something was injected and stands after it; None where nothing is replaced. `tokens` and `memories` were
    injected; `standing_tokens` and `standing_memories` of these whatever is asked."""

    dataset: str
    user_id: str
    question_id: str
    category: str
    budget: int
    recall: float | None
    current: bool | None
    tokens: int
    memories: int
    standing_tokens: int = 0
    standing_memories: int = 0

    @property
    def noise(self) -> int:
        """Tokens beside those that are injected whatever is asked."""
        return self.tokens - self.standing_tokens


@dataclass(frozen=True, slots=True)
class Interval:
    mean: float
    low: float
    high: float


def letters(text: str) -> str:
    """Lower-case letters and digits only."""
    return "".join(character for character in text.lower() if character.isalnum())


Texts = Sequence[Sequence[Sequence[str]]]
"""Passages that are needed, each with its alternatives, each in the chunks in which it is stored."""


def recalled_share(block: str, evidence: Texts) -> float:
    """How many of these passages stand in the block, as a share."""
    content = letters(block)
    return sum(_place(content, alternatives) >= 0 for alternatives in evidence) / len(evidence)


def is_current(block: str, evidence: Texts, outdated: Texts) -> bool:
    """True if all of the evidence is there, and after all that it replaces."""
    content = letters(block)
    first = min(_place(content, alternatives) for alternatives in evidence)
    return first >= 0 and first > max(_place(content, alternatives) for alternatives in outdated)


def _place(content: str, alternatives: Sequence[Sequence[str]]) -> int:
    """Where the last of the alternatives that are there whole begins; -1 if none is."""
    places = [[content.find(letters(chunk)) for chunk in chunks] for chunks in alternatives]
    return max((found[0] for found in places if min(found) >= 0), default=-1)


def interval(values: Sequence[float]) -> Interval:
    """Mean with its 95 % bootstrap interval; of differences too."""
    sample = np.asarray(values, np.float64)
    chosen = np.random.default_rng(_SEED).integers(0, len(sample), (_RESAMPLES, len(sample)))
    low, high = np.percentile(sample[chosen].mean(axis=1), [2.5, 97.5])
    return Interval(float(sample.mean()), float(low), float(high))
