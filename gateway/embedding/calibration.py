"""Calibration of an embedder's cosines.

Each model has a scale of its own: 0.35 is a close match for one and less than chance for another. So a scale is defined
by two anchors: the mean cosine of questions with unrelated sentences, and with sentences that answer them, both over
the pairs below, each within its language. Measured scales are stored in the data folder.
"""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PAIRS", "Calibration", "Calibrations", "measure"]

_ENGLISH = (
    ("When is the meeting?", "The meeting was moved to Thursday afternoon."),
    ("What did she buy at the market?", "She came home with three kilos of apples and some cheese."),
    ("Why is the bridge closed?", "The old bridge has been under repair since last winter."),
    ("What does he like to read?", "He always takes a detective novel to bed."),
    ("What colour did they paint the kitchen?", "The kitchen walls are light green now."),
    ("Where did I leave my umbrella?", "I forgot my umbrella in the office again."),
    ("Which instrument is he learning?", "He has been taking violin lessons for a year."),
    ("How did the football match end?", "The game on Sunday finished without a goal."),
    ("Where does her grandmother come from?", "Her grandmother grew up in a village by the sea."),
    ("When does the bank open?", "The bank opens at nine o'clock."),
)
_CHINESE = (
    ("会议是什么时候？", "会议改到星期四下午了。"),
    ("她在市场买了什么？", "她从市场带回来三公斤苹果和一些奶酪。"),
    ("那座桥为什么关闭了？", "老桥从去年冬天起一直在维修。"),
    ("他喜欢看什么书？", "他睡觉前总要看侦探小说。"),
    ("厨房刷成了什么颜色？", "厨房的墙现在是浅绿色的。"),
    ("我把雨伞忘在哪儿了？", "我又把雨伞落在办公室了。"),
    ("他在学什么乐器？", "他上小提琴课已经一年了。"),
    ("足球比赛结果怎么样？", "星期天的比赛没有进球就结束了。"),
    ("她的外婆是哪里人？", "她外婆在海边的一个村子长大。"),
    ("银行几点开门？", "银行早上九点开门。"),
)
PAIRS = (*_ENGLISH, *_CHINESE)
"""Questions, each with a sentence that answers it."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Mean cosine of unrelated sentences, and of a question and its answer."""

    unrelated: float
    related: float

    def place(self, cosines: "NDArray[np.float32]") -> "NDArray[np.float32]":
        """Map cosines to this scale: 0 unrelated, 1 as a question and its answer."""
        return (cosines - self.unrelated) / (self.related - self.unrelated)


class Calibrations:
    """Measured scales by embedder, stored with `read` and `write`. A failure of these (OSError) costs a measurement."""

    def __init__(self, read: Callable[[], bytes], write: Callable[[bytes], None]) -> None:
        self._read = read
        self._write = write
        self._by_name: dict[str, Calibration] = {}

    def read(self) -> None:
        """Load the stored scales; call it in a thread."""
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            stored = orjson.loads(self._read())
            self._by_name = {name: Calibration(**scale) for name, scale in stored.items()}

    def get(self, name: str) -> Calibration | None:
        return self._by_name.get(name)

    def put(self, name: str, scale: Calibration) -> None:
        """Store a measured scale; call it in a thread."""
        self._by_name[name] = scale
        with contextlib.suppress(OSError):
            body = {embedder: asdict(measured) for embedder, measured in self._by_name.items()}
            self._write(orjson.dumps(body, option=orjson.OPT_INDENT_2))


def measure(questions: "NDArray[np.float32]", answers: "NDArray[np.float32]") -> Calibration:
    """Compute the scale of an embedder from its vectors of PAIRS, each of shape (pairs, dimensions). Raises ValueError
    if it tells answers from other sentences no better than chance."""
    count = len(_ENGLISH)
    related = unrelated = 0.0
    for begin in (0, count):
        cosines = questions[begin : begin + count] @ answers[begin : begin + count].T
        related += float(cosines.trace()) / (2 * count)
        unrelated += float(cosines.sum() - cosines.trace()) / (2 * count * (count - 1))
    if related - unrelated < 0.01:
        raise ValueError("the embedder does not tell a question's answer from any other sentence")
    return Calibration(unrelated, related)
