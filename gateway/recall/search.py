"""Searches in loaded sets: what is found in them, and what of it goes into a prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.recall.profile import in_force, of_profile
from gateway.recall.query import Query
from gateway.store.scale import Scale
from gateway.turn import Memory, MemoryStatus, Need, Recalled, Scope, Wanted

if TYPE_CHECKING:
    from gateway.recall.working_set import WorkingSet
    from gateway.recall.working_sets import LargeScope
    from gateway.store.embed import Vectors

__all__ = [
    "CANDIDATES",
    "UNKNOWN_MEANING",
    "Meaning",
    "around",
    "find_memories",
    "profile_of",
    "select_memories",
    "without_noise",
]

_KEPT_ANYWAY = 3  # texts that pass the second floor in any case: MemOS' users judge by it
_UNFLOORED = ("tool", "skill")  # groups that relevance does not cut
_RELEVANT = 0.3  # relevance below which a memory is there by chance
_DOUBTFUL = 0.45  # below it the best memory may be there by chance
_PERSONAL_DIVISOR = 3.0  # so much lower is that for a question about the user
CANDIDATES = 144  # rows that are considered for a prompt
_SHOWN = 20  # candidates that are not injected, and explained
_FEW = 4  # memories that go in on doubt


@dataclass(frozen=True, slots=True)
class Meaning:
    """A query's vector, and what cosines with it mean."""

    vector: "Vectors | None"
    scale: Scale


UNKNOWN_MEANING: Final = Meaning(None, Scale(unrelated=0, related=1))


async def around(held: "WorkingSet | LargeScope", query: Query, meaning: Meaning | None) -> "WorkingSet":
    from gateway.recall.working_sets import LargeScope  # noqa: PLC0415 — numpy: loaded behind the open port

    if isinstance(held, LargeScope):
        return await held.around(query.terms, (meaning or UNKNOWN_MEANING).vector)
    return held


def find_memories(
    loaded: "Sequence[tuple[Scope, WorkingSet]]", query: Query, meant: "Mapping[str, Meaning | None]", wanted: Wanted
) -> tuple[Memory, ...]:
    """Preferences, tools and skills, then texts; each group best first over all sets. Runs where the sets say."""
    from gateway.recall.rank import RankWeights  # noqa: PLC0415 — numpy: loaded behind the open port

    weights, floor = RankWeights(), wanted.min_relativity or 0.0
    chosen: list[Memory] = []
    groups = (
        ("preference", wanted.preference),
        ("tool", wanted.tool),
        ("skill", wanted.skill),
        ("chat" if wanted.is_mixed else "text", wanted.text or 0),
    )
    for group, limit in groups:
        if limit <= 0:
            continue
        found: list[Memory] = []
        for scope, working_set in loaded:
            allows = wanted.allows.get(scope.value)
            meaning = meant.get(working_set.embedder) or UNKNOWN_MEANING
            found += working_set.search(
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
            found.sort(key=lambda memory: -memory.relativity)
        is_kept = partial(_passes, floor=floor, group=group, keeps_standing=wanted.keeps_standing)
        found = [memory for memory in found if is_kept(memory)][:limit]
        if group in ("text", "chat") and wanted.threshold:
            found = _over_threshold(found, wanted.threshold)
        chosen += found
    return tuple(chosen)


def select_memories(
    loaded: "Sequence[tuple[Scope, WorkingSet]]", query: Query, meant: "Mapping[str, Meaning | None]", wanted: Wanted
) -> Recalled:
    """What is worth its tokens in the prompt of a request. Runs where the sets say."""
    from gateway.recall.rank import RankWeights  # noqa: PLC0415 — numpy: loaded behind the open port
    from gateway.recall.selection import select, thresholds  # noqa: PLC0415

    weights, limits = RankWeights(), thresholds(wanted.selectivity)
    chosen: list[Memory] = []
    passed_over: list[Memory] = []
    needs: list[Need] = []
    for scope, working_set in loaded:
        meaning = meant.get(working_set.embedder) or UNKNOWN_MEANING
        candidates = working_set.candidates(
            query,
            meaning.vector,
            CANDIDATES,
            weights,
            scale=meaning.scale,
            allows=wanted.allows.get(scope.value),
        )
        selection = select(candidates, query, limits)
        memories = working_set.memories(candidates, selection.chosen, selection.chances)
        floor = wanted.min_relativity or 0.0
        chosen += [memory for memory in memories if memory.relativity >= floor]
        passed_over += [memory for memory in memories if memory.relativity < floor]
        passed_over += working_set.memories(candidates, selection.left[:_SHOWN], selection.chances)
        needs.append(selection.need)
    if len(loaded) > 1:
        chosen.sort(key=lambda memory: -(memory.probability or 0.0))
    greatest = max(needs, key=lambda need: need.probability, default=None)
    limit = wanted.text or 0
    status, reason = (MemoryStatus.HIT, "") if chosen else (MemoryStatus.MISS, _reason(greatest, limits.need))
    return Recalled(status, tuple(chosen[:limit]), reason, tuple(passed_over), need=greatest)


def _reason(need: Need | None, threshold: float) -> str:
    return "not_needed" if need is not None and need.probability < threshold else "irrelevant"


def _passes(memory: Memory, *, floor: float, group: str, keeps_standing: bool) -> bool:
    """True for a memory that the floor of relevance lets pass: "I am allergic to peanuts" has hardly a word in common
    with "What should I not cook?"."""
    is_standing = keeps_standing and group == "preference" and of_profile(memory.record)
    return memory.relativity >= floor or group in _UNFLOORED or is_standing


def profile_of(held: "Sequence[WorkingSet | LargeScope]") -> tuple[Memory, ...]:
    """The wishes in force in all scopes, then who the user is; what is not held whole cannot tell which those are."""
    from gateway.recall.working_sets import LargeScope  # noqa: PLC0415 — as above

    found = [memory for one in held if not isinstance(one, LargeScope) for memory in one.profile()]
    if len(held) < 2:
        return tuple(found)
    by_id = {memory.record.id: memory for memory in found}
    return tuple(by_id[record.id] for record in in_force(memory.record for memory in found))


def without_noise(recalled: Recalled, *, is_personal: bool) -> Recalled:
    """What is injected without selectivity: all that fits, unless nothing is relevant at all. Neighbours and sessions
    carry weak memories along with a strong one; without one there is only noise. Where the best is doubtful, the few
    that pass by themselves are worth their tokens; sooner so where the user asks about themselves."""
    best = max((memory.relativity for memory in recalled.memories), default=1.0)
    if best >= _DOUBTFUL:
        return recalled
    floor = _RELEVANT / _PERSONAL_DIVISOR if is_personal else _RELEVANT
    kept = tuple(memory for memory in recalled.memories if memory.relativity >= floor)[:_FEW]
    known = {memory.record.id for memory in kept}
    over = tuple(memory for memory in recalled.memories if memory.record.id not in known)
    if kept:
        return replace(recalled, memories=kept, passed_over=over)
    return Recalled(MemoryStatus.MISS, reason="irrelevant", passed_over=over, profile=recalled.profile)


def _over_threshold(memories: Sequence[Memory], threshold: float) -> list[Memory]:
    """Those over the second floor, or the three most relevant ones if fewer are."""
    best = sorted(memories, key=lambda memory: -memory.relativity)
    kept = {memory.record.id for memory in best[:_KEPT_ANYWAY]}
    kept |= {memory.record.id for memory in best if memory.relativity >= threshold}
    return [memory for memory in memories if memory.record.id in kept]
