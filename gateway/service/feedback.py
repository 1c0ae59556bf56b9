"""Feedback in natural language that corrects, adds or forgets memories.

A plain request to forget archives the memories that clearly match. Otherwise a model decides, and each change must be
supported by the feedback: contradicted memories are superseded (archived and replaced by a new version), new facts are
added, memories to forget are archived. Without a model, or if the model's answer does not cover the feedback, the
feedback itself is stored as a memory that outranks those it is about. Nothing is overwritten; every change can be
undone.
"""

import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from gateway.concurrency.offload import offload
from gateway.errors import MemoryUnavailable, NotFound
from gateway.identity import may_touch
from gateway.llm.client import ModelClient
from gateway.llm.questions import FeedbackVerdict, judge_feedback
from gateway.memory.recalled import Memory, RecallOptions
from gateway.memory.record import Record, memory_id, with_lineage
from gateway.memory.support import content_words, find_contributors
from gateway.remember.remember import Remember
from gateway.service.judgement import check_judgement
from gateway.service.memories import MemoryService, Outdated
from gateway.text.terms import terms
from gateway.turn import Identity, Principal, Scope, Turn

__all__ = ["CONTEXT_MESSAGES", "Feedback", "FeedbackResult", "FeedbackService"]

_MIN_ABOUT_RELEVANCE = 0.45  # minimum relevance of a memory that feedback corrects
_MIN_FORGET_RELEVANCE = 0.7  # minimum relevance of a memory that a request to forget archives
_FORGET = re.compile(
    r"\s*(?:please\s+|could you\s+|can you\s+)?(?:forget|delete|erase|remove|drop)\s+"
    r"(?:that|what|about|everything|the|my|all|it)\b"
    r"|\s*(?:请你?|麻烦你?|帮我)*(?:忘记|忘掉|忘了|删除|删掉|不要再记)(?!告诉|说|跟|和你)",
    re.IGNORECASE,
)
_FURTHER_CLAUSE = re.compile(
    r"[,;:.!?，。；：！？]\s*\S|\b(?:but|instead|rather|now|anymore)\b|而是|其实|现在", re.IGNORECASE
)
_FORGETTING_TERMS = frozenset(
    terms("forget delete please everything anything thing about memory note 这件事 请忘 忘记 忘掉")
)
_MAX_CANDIDATES = 10
_MAX_CORRECTED = 3  # memories that feedback corrects or archives without a model
CONTEXT_MESSAGES = 6
"""Messages of the conversation before the feedback that a model reads."""

Search = Callable[[Sequence[Scope], str, RecallOptions], Awaitable[Sequence[Memory]]]
"""Searches the memories of scopes. Raises MemoryUnavailable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A user's comment. `turn` carries the user, the scopes to change, and what is stored with new memories; `allows`
    maps scope values to filters. `memory_ids` names the memories that it is about; else they are searched. `history`
    is the conversation before it, as pairs of role and text; else the stored one."""

    text: str
    turn: Turn
    allows: Mapping[str, Callable[[Record], bool]] = field(default_factory=dict)
    memory_ids: Sequence[str] = ()
    history: Sequence[tuple[str, str]] = ()

    @property
    def identity(self) -> Identity:
        assert self.turn.identity is not None  # noqa: S101 — callers have resolved it
        return self.turn.identity

    @property
    def principal(self) -> Principal:
        return self.turn.principal

    @property
    def scope(self) -> Scope:
        """The scope that new memories are stored in."""
        return self.identity.writes[0]


@dataclass(frozen=True, slots=True)
class FeedbackResult:
    """The changes that feedback caused.

    `updated` has pairs of old and new record. `answer` is the corrected answer, "" if there is none. `is_covered`: the
    records contain all of the feedback.
    """

    added: tuple[Record, ...] = ()
    updated: tuple[tuple[Record, Record], ...] = ()
    forgotten: tuple[Record, ...] = ()
    answer: str = ""
    is_covered: bool = True


@dataclass(frozen=True, slots=True)
class _Material:
    """Input for the model: candidate memories with their relevance, and the conversation before the feedback: as text,
    and its records as far as they are stored."""

    candidates: tuple[tuple[Record, float], ...]
    context: str
    messages: tuple[Record, ...] = ()

    @property
    def sources(self) -> tuple[Record, ...]:
        return (*(record for record, _ in self.candidates), *self.messages)


class FeedbackService:
    """Applies feedback to memories. `timeout` is that of a question to the model, in seconds."""

    def __init__(
        self, memories: MemoryService, remember: Remember, search: Search, model: ModelClient, timeout: float
    ) -> None:
        self._memories = memories
        self._remember = remember
        self._search = search
        self._model = model
        self._timeout = timeout

    @property
    def has_model(self) -> bool:
        return self._model.has_model

    async def give(self, feedback: Feedback) -> FeedbackResult:
        """Apply feedback to the memories that it is about. Raises MemoryUnavailable; then nothing was changed."""
        candidates = await self._find_candidates(feedback)
        forgotten = await self._archive_forgotten(feedback.text, candidates)  # an explicit request: no model is needed
        if forgotten:
            return FeedbackResult(forgotten=forgotten)
        result = await self._apply(feedback, candidates)
        if result is not None and result.is_covered:
            return result
        verbatim = await self._store_verbatim(feedback, candidates)
        return FeedbackResult(tuple(verbatim)) if result is None else replace(result, added=(*result.added, *verbatim))

    async def begin(self, feedback: Feedback) -> Callable[[], Awaitable[None]] | None:
        """Store feedback verbatim at once. Returns a coroutine function that replaces it by the changes that a model
        derives from it; None if nothing is left to do. Raises MemoryUnavailable."""
        candidates = await self._find_candidates(feedback)
        if await self._archive_forgotten(feedback.text, candidates):
            return None
        verbatim = await self._store_verbatim(feedback, candidates)

        async def finish() -> None:
            result = await self._apply(feedback, candidates)
            if result is not None and result.is_covered:
                await self._memories.delete(verbatim)

        return finish

    async def _find_candidates(self, feedback: Feedback) -> list[tuple[Record, float]]:
        """Find memories of this user that the feedback may be about, with their relevance."""
        scopes = {scope.value for scope in feedback.identity.writes if may_touch(feedback.principal, scope)}
        if feedback.memory_ids:
            records = await self._memories.find(feedback.principal, feedback.memory_ids)
            return [(record, 1.0) for record in records if record.scope in scopes and record.is_active]
        options = RecallOptions(text=_MAX_CANDIDATES, preference=3, min_relativity=0.2, allows=feedback.allows)
        memories = await self._search(feedback.identity.reads, feedback.text, options)
        ordered = sorted(memories, key=lambda memory: -memory.relativity)
        return [(memory.record, memory.relativity) for memory in ordered if memory.record.scope in scopes]

    async def _archive_forgotten(self, text: str, candidates: Sequence[tuple[Record, float]]) -> tuple[Record, ...]:
        """Archive the memories that a plain request to forget clearly matches; no model is needed. Returns those."""
        targets = [record for record, relevance in candidates if relevance >= _MIN_FORGET_RELEVANCE][:_MAX_CORRECTED]
        if not await offload(partial(_is_plain_forget_request, text, targets), len(text)):
            return ()
        return await self._archive_all(targets)

    async def _archive_all(self, records: Sequence[Record]) -> tuple[Record, ...]:
        archived = []
        for record in records:
            with contextlib.suppress(NotFound):  # deleted meanwhile: nothing to archive
                archived.append(await self._memories.archive(record))
        return tuple(archived)

    async def _store_verbatim(self, feedback: Feedback, candidates: Sequence[tuple[Record, float]]) -> list[Record]:
        """Store the feedback itself as a memory that outranks those it is about."""
        corrected = [record for record, relevance in candidates if relevance >= _MIN_ABOUT_RELEVANCE][:_MAX_CORRECTED]
        correction = self._build_correction(feedback, feedback.text, corrected)
        return await self._memories.add(feedback.turn, [correction])

    async def _apply(self, feedback: Feedback, candidates: Sequence[tuple[Record, float]]) -> FeedbackResult | None:
        """Let a model judge the feedback, and apply its judgement; None without a usable answer."""
        material = await self._gather_material(feedback, candidates)
        records = [record for record, _ in candidates]
        verdict = await judge_feedback(self._model, feedback.text, material.context, records, self._timeout)
        return None if verdict is None else await self._apply_judgement(feedback, verdict, material)

    async def _gather_material(self, feedback: Feedback, candidates: Sequence[tuple[Record, float]]) -> _Material:
        """Collect the input for the model."""
        messages: list[Record] = []
        utterances = feedback.history[-CONTEXT_MESSAGES:]
        if not utterances:
            session_id = feedback.identity.session_id
            messages = await self._memories.conversation(feedback.scope, session_id, CONTEXT_MESSAGES)
            utterances = [(record.source, record.text) for record in messages]
        context = "\n".join(f"{role}: {text}" for role, text in utterances)
        return _Material(tuple(candidates), context, tuple(messages))

    async def _apply_judgement(
        self, feedback: Feedback, verdict: FeedbackVerdict, material: _Material
    ) -> FeedbackResult:
        """Apply the part of a model's answer that the feedback supports.

        Adds new versions and new facts, then archives superseded and forgotten memories. Raises MemoryUnavailable if a
        record that the model has seen was changed meanwhile.
        """
        comment = self._remember.make(feedback.turn, feedback.scope, "user", feedback.text)
        check = partial(
            check_judgement, verdict.updates, verdict.additions, verdict.forgotten, comment, material.sources
        )
        answer_texts = [*verdict.additions, *(text for _, text in verdict.updates)]
        judgement = await offload(check, len(feedback.text) + sum(map(len, answer_texts)))
        corrections = [self._build_correction(feedback, new, [old]) for old, new in judgement.updates]
        corrections = [with_lineage(record, supersedes=record.links) for record in corrections]
        corrections += [self._build_correction(feedback, addition, []) for addition in judgement.additions]
        stored = await self._store_corrections(feedback, corrections, material)
        replacements = [(old, new) for old, _ in judgement.updates for new in stored if _is_replacement(new, old)]
        for old, new in replacements:
            with contextlib.suppress(NotFound):  # deleted meanwhile: nothing to archive
                await self._memories.supersede(old, new.id)
        forgotten = await self._archive_all(judgement.forgotten)
        added = tuple(record for record in stored if not record.lineage.supersedes)
        is_covered = judgement.is_covered and bool(stored)
        return FeedbackResult(added, tuple(replacements), forgotten, verdict.answer, is_covered)

    async def _store_corrections(
        self, feedback: Feedback, corrections: Sequence[Record], material: _Material
    ) -> list[Record]:
        linked = [_link_sources(record, feedback.text, material) for record in corrections]
        if not linked:
            return []
        try:
            async with self._memories.unchanged(material.sources):
                return await self._memories.add(feedback.turn, linked)
        except Outdated as error:
            raise MemoryUnavailable(
                "the memories that the feedback is about were changed meanwhile; try again"
            ) from error

    def _build_correction(self, feedback: Feedback, text: str, corrected: Sequence[Record]) -> Record:
        """Build the record of a fact stated by the user; it outranks the records that it corrects."""
        base = self._remember.make(feedback.turn, feedback.scope, "user", text)
        return replace(
            base,
            id=memory_id(base.scope, base.id, text),
            kind="fact",
            links=tuple(record.id for record in corrected),
            is_feedback=True,
            is_correction=bool(corrected),
        )


def _is_plain_forget_request(text: str, targets: Sequence[Record]) -> bool:
    """True for a request to forget these memories that says nothing else."""
    match = _FORGET.match(text)
    if match is None or not targets or _FURTHER_CLAUSE.search(text.strip()):
        return False
    target_words = set[str]().union(*(content_words(record.text) for record in targets))
    return content_words(text) - content_words(match.group()) - _FORGETTING_TERMS <= target_words


def _is_replacement(new: Record, old: Record) -> bool:
    """True for the first chunk of the text that supersedes a memory; a plugin may have dropped that chunk."""
    return not new.part and old.id in new.lineage.supersedes


def _link_sources(record: Record, feedback: str, material: _Material) -> Record:
    """Link a record that a model derived from feedback to the memories that contributed words to it.

    A record in the user's own words is independent: it is returned unchanged. A linked one is deleted with its sources.
    """
    sources = find_contributors(record.text, [replace(record, text=feedback)], material.sources)
    if not sources:
        return record
    links = tuple(source.id for source in sources)
    return replace(record, links=links, is_extracted=True, is_correction=False)
