"""Searches loaded working sets, and selects the memories that go into a prompt."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, overload

from gateway.embedding.calibration import Calibration
from gateway.memory.profile import in_force, of_profile
from gateway.memory.recalled import Memory, MemoryStatus, Need, Recalled, RecallOptions
from gateway.recall.query import Query
from gateway.turn import Scope

if TYPE_CHECKING:
    from gateway.embedding.embedders import Vectors
    from gateway.recall.selection import Positions
    from gateway.recall.signals import Candidates
    from gateway.recall.words import QueryMatches
    from gateway.recall.working_set import WorkingSet
    from gateway.recall.working_sets import LargeScope

__all__ = [
    "CANDIDATES",
    "UNKNOWN_MEANING",
    "LaterMemories",
    "Meaning",
    "around",
    "find_memories",
    "profile_of",
    "rule_out",
    "select_memories",
    "without_noise",
]

_KEPT_ANYWAY = 3  # texts that pass the second threshold in any case: MemOS' users judge by it
_UNFILTERED = ("tool", "skill")  # groups without a relevance threshold
_RELEVANT = 0.3  # relevance below which a memory matches by chance
_DOUBTFUL = 0.45  # below it the best memory may match by chance
_PERSONAL_DIVISOR = 3.0  # so much lower is that for a question about the user
_RULED_OUT = 0.002  # need without candidates, at and below which a request is not searched for
CANDIDATES = 144  # rows that are considered for a prompt
_SHOWN = 20  # candidates that are not injected, and explained
_MAX_DOUBTFUL = 4  # memories that are injected where the best is doubtful


@dataclass(frozen=True, slots=True)
class Meaning:
    """A query's vector, and the scale of its embedder's cosines."""

    vector: "Vectors | None"
    scale: Calibration


class LaterMemories(Sequence[Memory]):
    """Memories that are built on first access, which few results need."""

    def __init__(self, sources: Sequence[Callable[[], list[Memory]]]) -> None:
        self._sources = sources
        self._memories: list[Memory] | None = None

    def _build(self) -> list[Memory]:
        if self._memories is None:
            self._memories = [memory for build in self._sources for memory in build()]
            self._sources = ()
        return self._memories

    @overload
    def __getitem__(self, place: int) -> Memory: ...
    @overload
    def __getitem__(self, place: slice) -> list[Memory]: ...
    def __getitem__(self, place: int | slice) -> Memory | list[Memory]:
        return self._build()[place]

    def __len__(self) -> int:
        return len(self._build())


UNKNOWN_MEANING: Final = Meaning(None, Calibration(unrelated=0, related=1))


async def around(handle: "WorkingSet | LargeScope", query: Query, meaning: Meaning | None) -> "WorkingSet":
    """The working set to search: of a large scope the candidates only. Raises StorageError."""
    from gateway.recall.working_sets import LargeScope  # noqa: PLC0415 — numpy: loaded behind the open port

    if isinstance(handle, LargeScope):
        return await handle.around(query.terms, (meaning or UNKNOWN_MEANING).vector)
    return handle


def find_memories(
    loaded: "Sequence[tuple[Scope, WorkingSet]]",
    query: Query,
    meanings: "Mapping[str, Meaning | None]",
    recall_options: RecallOptions,
) -> tuple[Memory, ...]:
    """Preferences, tools and skills, then texts; each group best first over all sets. Runs in `WorkingSets.run`."""
    from gateway.recall.rank import RankWeights  # noqa: PLC0415 — numpy: loaded behind the open port

    weights, floor = RankWeights(), recall_options.min_relativity or 0.0
    chosen: list[Memory] = []
    groups = (
        ("preference", recall_options.preference),
        ("tool", recall_options.tool),
        ("skill", recall_options.skill),
        ("chat" if recall_options.is_mixed else "text", recall_options.text or 0),
    )
    for group, limit in groups:
        if limit <= 0:
            continue
        memories: list[Memory] = []
        for scope, working_set in loaded:
            allows = recall_options.allows.get(scope.value)
            meaning = meanings.get(working_set.embedder) or UNKNOWN_MEANING
            memories += working_set.search(
                query.terms,
                meaning.vector,
                limit,
                weights,
                scale=meaning.scale,
                allows=allows,
                group=group,
                periods=query.periods,
            )
        if len(loaded) > 1:  # scores are standardised within a set; only relevance compares across sets
            memories.sort(key=lambda memory: -memory.relativity)
        passes = partial(_passes, floor=floor, group=group, keeps_standing=recall_options.keeps_standing)
        memories = [memory for memory in memories if passes(memory)][:limit]
        if group in ("text", "chat") and recall_options.threshold:
            memories = _over_threshold(memories, recall_options.threshold)
        chosen += memories
    return tuple(chosen)


def select_memories(
    loaded: "Sequence[tuple[Scope, WorkingSet]]",
    query: Query,
    meanings: "Mapping[str, Meaning | None]",
    recall_options: RecallOptions,
    matches: "Mapping[str, QueryMatches]" = MappingProxyType({}),
) -> Recalled:
    """The memories worth their tokens in the prompt of a request. Runs in `WorkingSets.run`. `matches`: of the query's
    words, by scope, if they are known."""
    import numpy as np  # noqa: PLC0415 — loaded behind the open port

    from gateway.recall.rank import RankWeights  # noqa: PLC0415 — numpy: loaded behind the open port
    from gateway.recall.selection import select, thresholds  # noqa: PLC0415

    weights, limits = RankWeights(), thresholds(recall_options.selectivity)
    chosen: list[Memory] = []
    passed_over: list[Callable[[], list[Memory]]] = []
    needs: list[Need] = []
    floor, limit = recall_options.min_relativity or 0.0, recall_options.text or 0
    for scope, working_set in loaded:
        meaning = meanings.get(working_set.embedder) or UNKNOWN_MEANING
        candidates = working_set.candidates(
            query,
            meaning.vector,
            CANDIDATES,
            weights,
            scale=meaning.scale,
            allows=recall_options.allows.get(scope.value),
            matches=matches.get(scope.value),
        )
        selection = select(candidates, query, limits)
        is_relevant = candidates.relevance[selection.chosen] >= floor
        chosen += working_set.memories(candidates, selection.chosen[is_relevant][:limit], selection.chances)
        others = np.concatenate([selection.chosen[~is_relevant], selection.left[:_SHOWN]])
        passed_over.append(_later(working_set, candidates, others, selection.chances))
        needs.append(selection.need)
    if len(loaded) > 1:
        chosen.sort(key=lambda memory: -(memory.probability or 0.0))
    greatest = max(needs, key=lambda need: need.probability, default=None)
    status, reason = (MemoryStatus.HIT, "") if chosen else (MemoryStatus.MISS, _reason(greatest))
    return Recalled(status, tuple(chosen[:limit]), reason, LaterMemories(passed_over), need=greatest)


def _later(
    working_set: "WorkingSet", candidates: "Candidates", places: "Positions", chances: "Vectors"
) -> Callable[[], list[Memory]]:
    """Builds `WorkingSet.memories` when it is called; none if the set was dropped meanwhile, which this does not
    delay."""
    reference = weakref.ref(working_set)

    def build() -> list[Memory]:
        owner = reference()
        return [] if owner is None else owner.memories(candidates, places, chances)

    return build


def rule_out(
    loaded: "Sequence[tuple[Scope, WorkingSet]]",
    query: Query,
    recall_options: RecallOptions,
    matches: "dict[str, QueryMatches]",
) -> Recalled | None:
    """The result for a request that needs no memory by its form and the match of its words alone; None if it may need
    memory. The matches are added to `matches`, by scope. Runs in `WorkingSets.run`.

    The need is estimated without candidates, which is its least value, and compared with a threshold far below those of
    all selectivities. Measured on the development sets: of 332 self-contained requests 138 get memories, and none of
    the 102 that are ruled out.
    """
    from gateway.recall.selection import least_need, thresholds  # noqa: PLC0415 — numpy: loaded behind the open port

    if recall_options.allows or least_need(query).probability > _RULED_OUT:
        return None
    needs = []
    for scope, working_set in loaded:
        matched = matches[scope.value] = working_set.match(query)
        needs.append(least_need(query, working_set.wordless_match(query, matched)))
        if needs[-1].probability > _RULED_OUT:
            return None
    need = max(needs, key=lambda need: need.probability, default=None)
    if need is not None:
        need = replace(need, threshold=thresholds(recall_options.selectivity).need)
    references = [(scope, weakref.ref(working_set)) for scope, working_set in loaded]

    def build() -> list[Memory]:
        present = [(scope, working_set) for scope, reference in references if (working_set := reference()) is not None]
        selected = select_memories(present, query, {}, recall_options)
        return [*selected.memories, *selected.passed_over]

    return Recalled(MemoryStatus.MISS, (), "not_needed", LaterMemories([build]), need=need)


def _reason(need: Need | None) -> str:
    return "not_needed" if need is not None and need.probability < need.threshold else "irrelevant"


def _passes(memory: Memory, *, floor: float, group: str, keeps_standing: bool) -> bool:
    """True for a memory over the relevance threshold, or exempt from it. Standing preferences can be exempt: "I am
    allergic to peanuts" has hardly a word in common with "What should I not cook?"."""
    is_standing = keeps_standing and group == "preference" and of_profile(memory.record)
    return memory.relativity >= floor or group in _UNFILTERED or is_standing


def profile_of(handles: "Sequence[WorkingSet | LargeScope]") -> tuple[Memory, ...]:
    """The standing preferences in force in all scopes, then the facts about the user. Large scopes give none: they are
    not in RAM as a whole, and which preferences are in force depends on all of them."""
    from gateway.recall.working_sets import LargeScope  # noqa: PLC0415 — as above

    memories = [memory for handle in handles if not isinstance(handle, LargeScope) for memory in handle.profile()]
    if len(handles) < 2:
        return tuple(memories)
    by_id = {memory.record.id: memory for memory in memories}
    return tuple(by_id[record.id] for record in in_force(memory.record for memory in memories))


def without_noise(recalled: Recalled, *, is_personal: bool) -> Recalled:
    """The result without selectivity: all memories if the best one is clearly relevant. Else at most four that are
    relevant on their own, with a lower threshold for questions about the user; a miss if there are none. Neighbours and
    sessions raise weak memories along with a strong one; without a strong one they are noise."""
    best = max((memory.relativity for memory in recalled.memories), default=1.0)
    if best >= _DOUBTFUL:
        return recalled
    floor = _RELEVANT / _PERSONAL_DIVISOR if is_personal else _RELEVANT
    selected = tuple(memory for memory in recalled.memories if memory.relativity >= floor)[:_MAX_DOUBTFUL]
    ids = {memory.record.id for memory in selected}
    others = tuple(memory for memory in recalled.memories if memory.record.id not in ids)
    if selected:
        return replace(recalled, memories=selected, passed_over=others)
    return Recalled(MemoryStatus.MISS, reason="irrelevant", passed_over=others, profile=recalled.profile)


def _over_threshold(memories: Sequence[Memory], threshold: float) -> list[Memory]:
    """The memories over the second threshold, at least the three most relevant ones."""
    best = sorted(memories, key=lambda memory: -memory.relativity)
    ids = {memory.record.id for memory in best[:_KEPT_ANYWAY]}
    ids |= {memory.record.id for memory in best if memory.relativity >= threshold}
    return [memory for memory in memories if memory.record.id in ids]
