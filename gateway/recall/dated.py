"""Finds the memories of the period that a question names. Pure: arrays in, arrays out."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.text.dates import Period

__all__ = ["is_within"]


def is_within(
    moments: NDArray[np.float64], about: Mapping[int, Period], periods: Sequence[Period]
) -> NDArray[np.float32] | None:
    """1 for each row that was written in one of the periods, or is about it, else 0; None if there are no periods."""
    if not periods:
        return None
    inside = np.zeros(len(moments), np.bool_)
    for period in periods:
        inside |= (moments >= period.begin) & (moments < period.end)
        inside[[row for row, span in about.items() if span.begin < period.end and period.begin < span.end]] = True
    return inside.astype(np.float32)
