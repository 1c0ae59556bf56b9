"""Feedback in natural language that corrects, adds or forgets memories.

A plain request to forget archives the memories that clearly match. Otherwise a model decides, and each change must be
supported by the feedback: contradicted memories are superseded (archived and replaced by a new version), new facts are
added, memories to forget are archived. Without a model, or if the model's answer does not cover the feedback, the
feedback itself is stored as a memory that outranks those it is about. Nothing is overwritten; every change can be
undone.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gateway.api.memos.envelope import Access, Call, Operation, client, native
from gateway.api.memos.items import native_item
from gateway.api.memos.manage_models import FeedbackRequest, NativeFeedbackRequest
from gateway.concurrency.offload import offload
from gateway.errors import MemoryUnavailable, NotFound
from gateway.extraction.judgement import check_judgement
from gateway.extraction.support import content_words, givers
from gateway.formats.chat import text_of
from gateway.identity import may_touch
from gateway.llm.questions import Judged, judge_feedback
from gateway.memory.recalled import Wanted
from gateway.memory.record import Record, derived_id, with_lineage
from gateway.server.guard import request_id_of
from gateway.server.limits import place_of
from gateway.service.memories import Outdated
from gateway.storage.values import Task
from gateway.text.terms import terms
from gateway.turn import Scope, Turn

__all__ = ["FeedbackResult", "feedback_operations", "give_feedback"]

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
_CONTEXT_MESSAGES = 6


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
    """Input for the model: the feedback, candidate memories with their relevance, and the conversation before it.

    `context` is the conversation as text; `messages` are its records, as far as they are stored.
    """

    text: str
    candidates: tuple[tuple[Record, float], ...]
    context: str
    messages: tuple[Record, ...] = ()

    @property
    def sources(self) -> tuple[Record, ...]:
        return (*(record for record, _ in self.candidates), *self.messages)


def feedback_operations() -> list[Operation]:
    return [
        client("/add/feedback", add_feedback, "Correct memories in natural language", FeedbackRequest),
        native(
            "/feedback",
            feedback,
            "Correct memories in natural language",
            NativeFeedbackRequest,
            message="Memory feedback successfully",
            data="array",
        ),
    ]


async def add_feedback(call: Call, request: FeedbackRequest) -> dict[str, Any]:
    access = await call.access(request)
    is_sync = request.async_mode in (False, "sync")
    task_id = request_id_of(call.request)
    if is_sync or not call.desk.asker.has_model:  # without a model it takes no time
        metadata = {"feedback_time": request.feedback_time} if request.feedback_time else {}
        await give_feedback(
            call, access, request.feedback_content, metadata=metadata, agent_id=request.agent, app_id=request.app_id
        )
        await call.begin_task(task_id, access.identity.user_id, access.identity.writes[0].cube_id)
        if is_sync:
            await call.wait_until_found()
        return {"success": True, "task_id": task_id, "status": "completed" if is_sync else "running"}
    await _process_in_background(call, access, task_id, request)
    return {"success": True, "task_id": task_id, "status": "running"}


async def feedback(call: Call, request: NativeFeedbackRequest) -> list[dict[str, Any]]:
    access = await call.access(request)
    task_id = request.task_id or request_id_of(call.request)
    is_background = request.async_mode == "async" and not request.corrected_answer and call.desk.asker.has_model
    if is_background:
        await _process_in_background(call, access, task_id, request)
        return []
    result = await give_feedback(
        call,
        access,
        request.feedback_content,
        history=request.history,
        memory_ids=request.retrieved_memory_ids,
        metadata=request.metadata,
    )
    await call.begin_task(task_id, access.identity.user_id, access.identity.writes[0].cube_id)
    if request.async_mode == "sync":
        await call.wait_until_found()
    changes = {
        "add": [native_item(record) for record in result.added],
        "update": [{**native_item(new), "old": native_item(old)} for old, new in result.updated],
        "delete": [native_item(record) for record in result.forgotten],
    }
    answer = {"answer": result.answer} if request.corrected_answer else {}
    return [{"record": changes, **answer}]


async def _process_in_background(
    call: Call, access: Access, task_id: str, request: FeedbackRequest | NativeFeedbackRequest
) -> None:
    """Store the feedback verbatim now; replace it later by the changes that a model derives from it."""
    desk, native_request = call.desk, request if isinstance(request, NativeFeedbackRequest) else None
    history, memory_ids = (native_request.history, native_request.retrieved_memory_ids) if native_request else ((), ())
    metadata = native_request.metadata if native_request else {}
    turn = replace(call.turn(access.identity), metadata=metadata, agent_id=request.agent, app_id=request.app_id)
    candidates = await _find_candidates(call, access, request.feedback_content, memory_ids)
    if await _archive_forgotten(call, request.feedback_content, candidates):
        await call.begin_task(task_id, access.identity.user_id, access.identity.writes[0].cube_id)
        return
    verbatim = await _store_verbatim(call, access, turn, request.feedback_content, candidates)
    user, cube_id = access.identity.user_id, access.identity.writes[0].cube_id
    task = Task(id=task_id, user=user, cube_id=cube_id, status="in_progress")
    await desk.registry.put_task(call.tenant, task)

    async def work() -> None:
        status = "failed"
        try:
            material = await _gather_material(call, access, request.feedback_content, candidates, history)
            verdict = await _judge(call, material)
            result = None if verdict is None else await _apply_judgement(call, access, turn, verdict, material)
            if result is not None and result.is_covered:
                await desk.library.delete(verbatim)
            await desk.drained(10)
            status = "completed"
        finally:
            await desk.registry.put_task(call.tenant, replace(task, status=status))

    place_of(call.request).keep_for(desk.pipeline.owned(work()))


async def give_feedback(
    call: Call,
    access: Access,
    text: str,
    *,
    history: Sequence[Mapping[str, Any]] = (),
    memory_ids: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    agent_id: str = "",
    app_id: str = "",
) -> FeedbackResult:
    """Apply feedback to the memories that it is about. Raises MemoryUnavailable; then nothing was changed."""
    candidates = await _find_candidates(call, access, text, memory_ids)
    turn = replace(call.turn(access.identity), metadata=dict(metadata or {}), agent_id=agent_id, app_id=app_id)
    forgotten = await _archive_forgotten(call, text, candidates)  # an explicit request: no model is needed
    if forgotten:
        return FeedbackResult(forgotten=forgotten)
    material = await _gather_material(call, access, text, candidates, history)
    verdict = await _judge(call, material)
    result = None if verdict is None else await _apply_judgement(call, access, turn, verdict, material)
    if result is not None and result.is_covered:
        return result
    verbatim = await _store_verbatim(call, access, turn, text, candidates)
    return FeedbackResult(tuple(verbatim)) if result is None else replace(result, added=(*result.added, *verbatim))


async def _judge(call: Call, material: _Material) -> Judged | None:
    limit, records = call.desk.config.memory.extraction.timeout, [record for record, _ in material.candidates]
    return await judge_feedback(call.desk.asker, material.text, material.context, records, limit)


async def _store_verbatim(
    call: Call, access: Access, turn: Turn, text: str, candidates: Sequence[tuple[Record, float]]
) -> list[Record]:
    """Store the feedback itself as a memory that outranks those it is about."""
    corrected = [record for record, relativity in candidates if relativity >= _MIN_ABOUT_RELEVANCE][:_MAX_CORRECTED]
    return await call.keep(turn, [_build_correction(call, turn, access.identity.writes[0], text, corrected)])


async def _archive_forgotten(call: Call, text: str, candidates: Sequence[tuple[Record, float]]) -> tuple[Record, ...]:
    """Archive the memories that a plain request to forget clearly matches; no model is needed. Returns those."""
    targets = [record for record, relativity in candidates if relativity >= _MIN_FORGET_RELEVANCE][:_MAX_CORRECTED]
    if not await offload(partial(_is_plain_forget_request, text, targets), len(text)):
        return ()
    archived = []
    for record in targets:
        with contextlib.suppress(NotFound):
            archived.append(await call.desk.library.update(record, status="archived"))
    return tuple(archived)


def _is_plain_forget_request(text: str, targets: Sequence[Record]) -> bool:
    """True for a request to forget these memories that says nothing else."""
    match = _FORGET.match(text)
    if match is None or not targets or _FURTHER_CLAUSE.search(text.strip()):
        return False
    target_words = set[str]().union(*(content_words(record.text) for record in targets))
    return content_words(text) - content_words(match.group()) - _FORGETTING_TERMS <= target_words


async def _apply_judgement(
    call: Call, access: Access, turn: Turn, verdict: Judged, material: _Material
) -> FeedbackResult:
    """Apply the part of a model's answer that the feedback supports.

    Adds new versions and new facts, then archives superseded and forgotten memories. Raises MemoryUnavailable if a
    record that the model has seen was changed meanwhile.
    """
    scope, library = access.identity.writes[0], call.desk.library
    comment = call.desk.remember.make(turn, scope, "user", material.text)
    check = partial(check_judgement, verdict.updates, verdict.additions, verdict.forgotten, comment, material.sources)
    answer_texts = [*verdict.additions, *(text for _, text in verdict.updates)]
    judgement = await offload(check, len(material.text) + sum(map(len, answer_texts)))
    corrections = [_build_correction(call, turn, scope, new, [old]) for old, new in judgement.updates]
    corrections = [with_lineage(record, supersedes=record.links) for record in corrections]
    corrections += [_build_correction(call, turn, scope, addition, []) for addition in judgement.additions]
    corrections = [_link_sources(record, material) for record in corrections]
    stored: list[Record] = []
    if corrections:
        try:
            async with library.unchanged(material.sources):
                stored = await call.keep(turn, corrections)
        except Outdated as error:
            raise MemoryUnavailable("what the feedback is about was changed meanwhile; try again") from error
    replacements = [(old, new) for old, _ in judgement.updates for new in stored if _is_replacement(new, old)]
    forgotten = []
    for old, new in replacements:
        with contextlib.suppress(NotFound):  # deleted meanwhile: nothing to archive
            await library.update(old, status="archived", by=new.id)
    for old in judgement.forgotten:
        with contextlib.suppress(NotFound):
            forgotten.append(await library.update(old, status="archived"))
    added = tuple(record for record in stored if not record.lineage.supersedes)
    return FeedbackResult(
        added, tuple(replacements), tuple(forgotten), verdict.answer, judgement.is_covered and bool(stored)
    )


def _is_replacement(new: Record, old: Record) -> bool:
    """True for the first chunk of the text that supersedes a memory; a plugin may have dropped that chunk."""
    return not new.part and old.id in new.lineage.supersedes


async def _find_candidates(
    call: Call, access: Access, text: str, memory_ids: Sequence[str]
) -> list[tuple[Record, float]]:
    """Find memories of this user that the feedback may be about, with their relevance."""
    scopes = {scope.value for scope in access.identity.writes if may_touch(call.principal, scope)}
    if memory_ids:
        records = await call.desk.library.find(call.principal, memory_ids)
        return [(record, 1.0) for record in records if record.scope in scopes and record.status == "activated"]
    options = Wanted(text=_MAX_CANDIDATES, preference=3, min_relativity=0.2, allows=access.by_scope)
    memories = await call.search(access, text, options)
    ordered = sorted(memories, key=lambda memory: -memory.relativity)
    return [(memory.record, memory.relativity) for memory in ordered if memory.record.scope in scopes]


async def _gather_material(
    call: Call,
    access: Access,
    text: str,
    candidates: Sequence[tuple[Record, float]],
    history: Sequence[Mapping[str, Any]],
) -> _Material:
    """Collect the input for the model; the conversation is the given history, else the stored one."""
    if history:
        utterances = [
            (str(message.get("role")), text_of(message.get("content"))) for message in history[-_CONTEXT_MESSAGES:]
        ]
        messages: list[Record] = []
    else:
        identity = access.identity
        messages = await call.desk.library.conversation(identity.writes[0], identity.session_id, _CONTEXT_MESSAGES)
        utterances = [(record.source, record.text) for record in messages]
    return _Material(
        text, tuple(candidates), "\n".join(f"{role}: {words}" for role, words in utterances), tuple(messages)
    )


def _link_sources(record: Record, material: _Material) -> Record:
    """Link a record that a model derived from feedback to the memories that contributed words to it.

    A record in the user's own words is independent: it is returned unchanged. A linked one is deleted with its sources.
    """
    sources = givers(record.text, [replace(record, text=material.text)], material.sources)
    if not sources:
        return record
    links = tuple(source.id for source in sources)
    return replace(record, links=links, is_extracted=True, is_correction=False)


def _build_correction(call: Call, turn: Turn, scope: Scope, text: str, corrected: Sequence[Record]) -> Record:
    """Build the record of a fact stated by the user; it outranks the records that it corrects."""
    base = call.desk.remember.make(turn, scope, "user", text)
    name = derived_id(base.id, text)
    links = tuple(record.id for record in corrected)
    return replace(base, id=name, kind="fact", links=links, is_feedback=True, is_correction=bool(corrected))
