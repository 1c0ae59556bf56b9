"""Which rows of a working set are considered for a prompt. Pure: arrays in, row numbers out.

The best by score come first. Long answers are penalised in the score (`RankWeights.alone_penalty`), so the answers to
the best matching messages are added; so are the best rows by words alone, by meaning alone, and by score among the rows
that are no tasks, which many tasks would crowd out.
"""

import numpy as np

from gateway.recall.arrays import Floats, Ints
from gateway.recall.rank import Scores, SetArrays
from gateway.recall.signals import Evidence
from gateway.text.worth import TASK_WORTH

__all__ = ["pool"]


_BY_SCORE = 0.4  # share of the limit
_SHARE_WITHOUT_TASKS = 0.4  # by score, too, without tasks
_BY_MEANING = 0.15
_BY_WORDS = 0.1
_REQUESTS = 24  # best rows whose answers are considered
_PIECES = 3  # of each answer


def pool(scores: Scores, arrays: SetArrays, evidence: Evidence, limit: int) -> Ints:
    """At most `limit` allowed rows, in no order, each once."""
    best = scores.best(limit)
    if len(best) < limit:
        return best
    share = round(limit * _BY_SCORE)
    is_no_task = evidence.worth > TASK_WORTH
    groups = [
        best[:share],
        scores.best(round(limit * _SHARE_WITHOUT_TASKS), is_no_task),
        _answers(best[:_REQUESTS], arrays),
        _highest(evidence.words_share * is_no_task, limit, _BY_WORDS),
    ]
    if evidence.cosine is not None:
        groups.append(_highest(evidence.cosine * is_no_task, limit, _BY_MEANING))
    rows: Ints = np.concatenate([*groups, best[share:]])
    rows = rows[arrays.allowed[rows]]
    return np.asarray(list(dict.fromkeys(rows.tolist()))[:limit], np.int32)


def _answers(rows: Ints, arrays: SetArrays) -> Ints:
    """The pieces of the answers to these rows."""
    pieces = []
    for _ in range(_PIECES):
        rows = arrays.after[rows]
        rows = rows[rows >= 0]
        rows = rows[arrays.from_user[rows] == 0]
        pieces.append(rows)
    return np.concatenate(pieces)


def _highest(values: Floats, limit: int, share: float) -> Ints:
    count = round(limit * share)
    return np.argpartition(-values, count)[:count].astype(np.int32)
