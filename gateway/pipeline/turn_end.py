"""The end of a turn, as the list of turns, traces and the log describe it."""

from dataclasses import dataclass

__all__ = ["TurnEnd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnd:
    """How a turn ended: the HTTP status (0: the client disconnected before the answer began), the upstream, the model's
    name there, the number of attempts, and the error, if any.

    `ended` is on the clock of `time.perf_counter`; `overhead` and `first_byte` are seconds: in the gateway before the
    request was sent, and at the upstream until the answer began (None: not reached).
    """

    status: int
    ended: float
    upstream: str = ""
    model: str = ""
    attempts: int = 0
    overhead: float | None = None
    first_byte: float | None = None
    error: BaseException | None = None
