"""Scores of an evaluation. Pure.

Evidence recall within a token budget is the share of needed passages that occur in the injected block. A passage
counts if its text, reduced to letters and digits, occurs in the block reduced alike; a passage stored in several
chunks, if all of them do. Of alternatives one is enough. Intervals are percentile bootstrap over
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
    """One question at one budget. `recall`: 0–1; None where no turn answers the question. `current`: True if
    superseding passages were injected, and after the ones they supersede; None if nothing is superseded. `tokens` and
    `memories` count the injected block; `standing_tokens` and `standing_memories` the standing preferences in it."""

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
        """Injected tokens without standing preferences."""
        return self.tokens - self.standing_tokens


@dataclass(frozen=True, slots=True)
class Interval:
    mean: float
    low: float
    high: float


def letters(text: str) -> str:
    """Reduce a text to lower-case letters and digits."""
    return "".join(character for character in text.lower() if character.isalnum())


Texts = Sequence[Sequence[Sequence[str]]]
"""Needed passages: for each its alternatives, for each of these its stored chunks."""


def recalled_share(block: str, evidence: Texts) -> float:
    """The share of these passages that occur in the block, 0–1."""
    content = letters(block)
    return sum(_place(content, alternatives) >= 0 for alternatives in evidence) / len(evidence)


def is_current(block: str, evidence: Texts, outdated: Texts) -> bool:
    """True if all of the evidence is in the block, and after everything that it supersedes."""
    content = letters(block)
    first = min(_place(content, alternatives) for alternatives in evidence)
    return first >= 0 and first > max(_place(content, alternatives) for alternatives in outdated)


def _place(content: str, alternatives: Sequence[Sequence[str]]) -> int:
    """Start of the last alternative that occurs completely; -1 if none does."""
    places = [[content.find(letters(chunk)) for chunk in chunks] for chunks in alternatives]
    return max((positions[0] for positions in places if min(positions) >= 0), default=-1)


def interval(values: Sequence[float]) -> Interval:
    """Mean with its 95 % bootstrap interval; also used for paired differences."""
    sample = np.asarray(values, np.float64)
    chosen = np.random.default_rng(_SEED).integers(0, len(sample), (_RESAMPLES, len(sample)))
    low, high = np.percentile(sample[chosen].mean(axis=1), [2.5, 97.5])
    return Interval(float(sample.mean()), float(low), float(high))
