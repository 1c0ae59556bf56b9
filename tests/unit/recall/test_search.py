from dataclasses import replace

from gateway.recall.query import make_query
from gateway.recall.search import LaterMemories, rule_out, select_memories, without_noise
from gateway.recall.words import QueryMatches
from gateway.recall.working_set import WorkingSet
from gateway.storage.rows import Row
from gateway.turn import Memory, MemoryStatus, Recalled, RecallOptions
from tests.fakes.made import SCOPE, record


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


def test_candidates_that_are_passed_over_are_built_on_first_access() -> None:
    builds: list[int] = []

    def build() -> list[Memory]:
        builds.append(1)
        return list(recalled(0.4, 0.2).memories)

    later = LaterMemories([build, build])
    assert not builds
    assert [memory.relativity for memory in later] == [0.4, 0.2, 0.4, 0.2]
    assert (len(later), later[1].relativity, len(builds)) == (4, 0.2, 2)


def test_a_dropped_set_is_not_kept_for_them() -> None:
    working_set = WorkingSet(4, "e")
    words = ("cat", "sleep")
    row = Row(record=record("My cat sleeps.", 1), vector=None, embedder="", terms=words, tokens=4, worth=1.0)
    working_set.put([row])
    query = make_query("Translate into French: the cat sleeps", "", 1_700_000_000.0)
    options = RecallOptions(text=9, selectivity=1.0, is_mixed=True)
    found = [select_memories([(SCOPE, working_set)], query, {}, options).passed_over for _ in range(2)]
    assert [memory.record.text for memory in found[0]] == ["My cat sleeps."]
    del working_set
    assert list(found[1]) == []


def test_a_task_is_ruled_out_by_its_form_and_words_before_the_search() -> None:
    working_set, matches = WorkingSet(4, "e"), dict[str, QueryMatches]()
    words = ("cat", "sleep")
    working_set.put(
        [Row(record=record("My cat sleeps.", 1), vector=None, embedder="", terms=words, tokens=4, worth=1.0)]
    )
    loaded = [(SCOPE, working_set)]
    options = RecallOptions(text=9, selectivity=0.5, is_mixed=True)
    personal = make_query("Where does my sister live, and what did I tell you about her?", "", 1_700_000_000.0)
    assert rule_out(loaded, personal, options, matches) is None
    assert not matches, "its form suffices"
    poem = "Write a long poem about the sea, with ten verses of four lines, in which every second line rhymes. " * 3
    task = make_query(poem, "", 1_700_000_000.0)
    recalled = rule_out(loaded, task, options, matches)
    assert recalled is not None
    assert (recalled.status, recalled.reason, recalled.memories) == (MemoryStatus.MISS, "not_needed", ())
    assert recalled.need is not None
    assert recalled.need.probability < recalled.need.threshold
    assert [memory.record.text for memory in recalled.passed_over] == ["My cat sleeps."]
    assert rule_out(loaded, task, replace(options, allows={SCOPE.value: lambda _: True}), matches) is None
