from gateway.recall.search import without_noise
from gateway.turn import Memory, MemoryStatus, Recalled
from tests.fakes.made import record


def recalled(*relevances: float) -> Recalled:
    memories = (Memory(record(f"fact {number}", number), 1.0, share, 9) for number, share in enumerate(relevances))
    return Recalled(MemoryStatus.HIT, tuple(memories))


def test_where_the_best_is_relevant_all_that_fits_is_wanted() -> None:
    found = recalled(0.9, 0.1, 0.1)
    assert without_noise(found, is_personal=False) == found


def test_where_all_is_doubtful_a_few_are_wanted_at_most() -> None:
    assert len(without_noise(recalled(0.4, 0.35, 0.1), is_personal=False).memories) == 2
    assert without_noise(recalled(0.1, 0.1), is_personal=False).reason == "irrelevant"
    assert len(without_noise(recalled(0.2, 0.15, 0.12, 0.12, 0.12), is_personal=True).memories) == 4
