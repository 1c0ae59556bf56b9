"""Feedback in a user's own words: it corrects memories, adds to them, or has them forgotten.

A plain wish to forget archives what is clearly meant. Else, with a model: what the feedback contradicts is archived and
a new version takes its place, what is new is added, and what is to be forgotten is archived, as far as that rests on
the feedback. Without a model, and where its answer does not contain the feedback, the feedback itself is kept as a
memory that outranks those it is about. Nothing is overwritten, and all of it can be undone.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gateway.asking import Judged, judge_feedback
from gateway.errors import MemoryUnavailable, NotFound
from gateway.identity import may_touch
from gateway.learn.judgement import check_judgement
from gateway.learn.support import content_words, givers
from gateway.offload import offload
from gateway.recall.library import Outdated
from gateway.store.lineage import CORRECTS, LEARNT, REPLACES
from gateway.store.registry import Task
from gateway.store.terms import terms
from gateway.turn import Record, Scope, Turn, Wanted, derived_id
from gateway.wire.dialects.chat import text_of
from gateway.wire.guard import request_id_of
from gateway.wire.memos.envelope import Access, Call, Operation, client, native
from gateway.wire.memos.items import native_item
from gateway.wire.memos.manage_models import FeedbackRequest, NativeFeedbackRequest
from gateway.wire.places import place_of

__all__ = ["Changed", "feedback_operations", "give_feedback"]

_ABOUT = 0.45  # relevance from which a memory is taken to be what the feedback is about
_MEANT = 0.7  # relevance from which a memory is taken to be what is to be forgotten
_FORGET = re.compile(
    r"\s*(?:please\s+|could you\s+|can you\s+)?(?:forget|delete|erase|remove|drop)\s+"
    r"(?:that|what|about|everything|the|my|all|it)\b"
    r"|\s*(?:请你?|麻烦你?|帮我)*(?:忘记|忘掉|忘了|删除|删掉|不要再记)(?!告诉|说|跟|和你)",
    re.IGNORECASE,
)
_MORE = re.compile(r"[,;:.!?，。；：！？]\s*\S|\b(?:but|instead|rather|now|anymore)\b|而是|其实|现在", re.IGNORECASE)
_ABOUT_FORGETTING = frozenset(
    terms("forget delete please everything anything thing about memory note 这件事 请忘 忘记 忘掉")
)
_CANDIDATES = 10
_CORRECTED = 3  # memories that feedback outranks where no model says which
_CONVERSATION = 6


@dataclass(frozen=True, slots=True)
class Changed:
    """What feedback did. `answer` is the corrected answer, "" if there is none; `is_covered`: all that the feedback
    says is kept."""

    added: tuple[Record, ...] = ()
    updated: tuple[tuple[Record, Record], ...] = ()
    forgotten: tuple[Record, ...] = ()
    answer: str = ""
    is_covered: bool = True


@dataclass(frozen=True, slots=True)
class _Material:
    """What a model is shown: the feedback, the memories that it may be about, with their relevance, and what was said
    before it."""

    text: str
    about: tuple[tuple[Record, float], ...]
    context: str
    said: tuple[Record, ...] = ()

    @property
    def shown(self) -> tuple[Record, ...]:
        return (*(record for record, _ in self.about), *self.said)


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


async def add_feedback(call: Call, asked: FeedbackRequest) -> dict[str, Any]:
    access = await call.access(asked)
    is_sync = asked.async_mode in (False, "sync")
    task_id = request_id_of(call.request)
    if is_sync or not call.desk.asker.has_model:  # without a model there is nothing to wait for
        metadata = {"feedback_time": asked.feedback_time} if asked.feedback_time else {}
        await give_feedback(
            call, access, asked.feedback_content, metadata=metadata, agent_id=asked.agent, app_id=asked.app_id
        )
        await call.begin_task(task_id, access.identity.user_id, access.identity.writes[0].cube_id)
        if is_sync:
            await call.wait_until_found()
        return {"success": True, "task_id": task_id, "status": "completed" if is_sync else "running"}
    await _in_background(call, access, task_id, asked)
    return {"success": True, "task_id": task_id, "status": "running"}


async def feedback(call: Call, asked: NativeFeedbackRequest) -> list[dict[str, Any]]:
    access = await call.access(asked)
    task_id = asked.task_id or request_id_of(call.request)
    is_background = asked.async_mode == "async" and not asked.corrected_answer and call.desk.asker.has_model
    if is_background:
        await _in_background(call, access, task_id, asked)
        return []
    changed = await give_feedback(
        call,
        access,
        asked.feedback_content,
        history=asked.history,
        memory_ids=asked.retrieved_memory_ids,
        metadata=asked.metadata,
    )
    await call.begin_task(task_id, access.identity.user_id, access.identity.writes[0].cube_id)
    if asked.async_mode == "sync":
        await call.wait_until_found()
    record = {
        "add": [native_item(one) for one in changed.added],
        "update": [{**native_item(new), "old": native_item(old)} for old, new in changed.updated],
        "delete": [native_item(one) for one in changed.forgotten],
    }
    answer = {"answer": changed.answer} if asked.corrected_answer else {}
    return [{"record": record, **answer}]


async def _in_background(
    call: Call, access: Access, task_id: str, asked: FeedbackRequest | NativeFeedbackRequest
) -> None:
    """Keep the feedback as it is, durably; what a model makes of it takes its place later."""
    desk, native = call.desk, asked if isinstance(asked, NativeFeedbackRequest) else None
    history, memory_ids = (native.history, native.retrieved_memory_ids) if native else ((), ())
    metadata = native.metadata if native else {}
    turn = replace(call.turn(access.identity), metadata=metadata, agent_id=asked.agent, app_id=asked.app_id)
    about = await _about(call, access, asked.feedback_content, memory_ids)
    if await _forgotten(call, asked.feedback_content, about):
        await call.begin_task(task_id, access.identity.user_id, access.identity.writes[0].cube_id)
        return
    plain = await _kept_plainly(call, access, turn, asked.feedback_content, about)
    user, cube_id = access.identity.user_id, access.identity.writes[0].cube_id
    task = Task(id=task_id, user=user, cube_id=cube_id, status="in_progress")
    await desk.registry.put_task(call.tenant, task)

    async def work() -> None:
        status = "failed"
        try:
            material = await _material(call, access, asked.feedback_content, about, history)
            judged = await _judged(call, material)
            changed = None if judged is None else await _applied(call, access, turn, judged, material)
            if changed is not None and changed.is_covered:
                await desk.library.delete(plain)
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
) -> Changed:
    """Change what the feedback is about. Raises MemoryUnavailable; then nothing was changed."""
    about = await _about(call, access, text, memory_ids)
    turn = replace(call.turn(access.identity), metadata=dict(metadata or {}), agent_id=agent_id, app_id=app_id)
    forgotten = await _forgotten(call, text, about)  # asked for in so many words: no model is needed
    if forgotten:
        return Changed(forgotten=forgotten)
    material = await _material(call, access, text, about, history)
    judged = await _judged(call, material)
    changed = None if judged is None else await _applied(call, access, turn, judged, material)
    if changed is not None and changed.is_covered:
        return changed
    plain = await _kept_plainly(call, access, turn, text, about)
    return Changed(tuple(plain)) if changed is None else replace(changed, added=(*changed.added, *plain))


async def _judged(call: Call, material: _Material) -> Judged | None:
    limit, records = call.desk.config.memory.extraction.timeout, [record for record, _ in material.about]
    return await judge_feedback(call.desk.asker, material.text, material.context, records, limit)


async def _kept_plainly(
    call: Call, access: Access, turn: Turn, text: str, about: Sequence[tuple[Record, float]]
) -> list[Record]:
    """The feedback itself as a memory, before those that it is about."""
    corrected = [record for record, relativity in about if relativity >= _ABOUT][:_CORRECTED]
    return await call.keep(turn, [_correction(call, turn, access.identity.writes[0], text, corrected)])


async def _forgotten(call: Call, text: str, about: Sequence[tuple[Record, float]]) -> tuple[Record, ...]:
    """Archived, where somebody asks to forget and no model says what: the memories that are clearly meant."""
    meant = [record for record, relativity in about if relativity >= _MEANT][:_CORRECTED]
    if not await offload(partial(_is_plain, text, meant), len(text)):
        return ()
    found = []
    for record in meant:
        with contextlib.suppress(NotFound):
            found.append(await call.desk.library.update(record, status="archived"))
    return tuple(found)


def _is_plain(text: str, meant: Sequence[Record]) -> bool:
    """True for a wish to forget these memories that says nothing else."""
    match = _FORGET.match(text)
    if match is None or not meant or _MORE.search(text.strip()):
        return False
    known = set[str]().union(*(content_words(record.text) for record in meant))
    return content_words(text) - content_words(match.group()) - _ABOUT_FORGETTING <= known


async def _applied(call: Call, access: Access, turn: Turn, judged: Judged, material: _Material) -> Changed:
    """New versions beside what they replace, which is archived; what is new; and what is forgotten, archived too; of
    all that, what rests on the feedback. Raises MemoryUnavailable if what the model was shown is another now."""
    scope, library = access.identity.writes[0], call.desk.library
    comment = call.desk.remember.make(turn, scope, "user", material.text, {})
    check = partial(check_judgement, judged.updates, judged.additions, judged.forgotten, comment, material.shown)
    answered = [*judged.additions, *(text for _, text in judged.updates)]
    holding = await offload(check, len(material.text) + sum(map(len, answered)))
    made = [_correction(call, turn, scope, new, [old]) for old, new in holding.updates]
    made = [replace(one, info={**one.info, REPLACES: list(one.links)}) for one in made]
    made += [_correction(call, turn, scope, addition, []) for addition in holding.additions]
    made = [_resting(one, material) for one in made]
    kept: list[Record] = []
    if made:
        try:
            async with library.unchanged(material.shown):
                kept = await call.keep(turn, made)
        except Outdated as error:
            raise MemoryUnavailable("what the feedback is about was changed meanwhile; try again") from error
    replaced = [(old, new) for old, _ in holding.updates for new in kept if _replaces(new, old)]
    forgotten = []
    for old, new in replaced:
        with contextlib.suppress(NotFound):  # deleted meanwhile: there is nothing to archive
            await library.update(old, status="archived", by=new.id)
    for old in holding.forgotten:
        with contextlib.suppress(NotFound):
            forgotten.append(await library.update(old, status="archived"))
    added = tuple(one for one in kept if REPLACES not in one.info)
    return Changed(added, tuple(replaced), tuple(forgotten), judged.answer, holding.is_covered and bool(kept))


def _replaces(new: Record, old: Record) -> bool:
    """The first piece of a text that takes a memory's place; a plugin may have dropped it."""
    return not new.part and old.id in new.info.get(REPLACES, ())


async def _about(call: Call, access: Access, text: str, memory_ids: Sequence[str]) -> list[tuple[Record, float]]:
    """Memories of this user that the feedback may be about, with their relevance."""
    own = {scope.value for scope in access.identity.writes if may_touch(call.principal, scope)}
    if memory_ids:
        found = await call.desk.library.find(call.principal, memory_ids)
        return [(record, 1.0) for record in found if record.scope in own and record.status == "activated"]
    wanted = Wanted(text=_CANDIDATES, preference=3, min_relativity=0.2, allows=access.by_scope)
    memories = await call.search(access, text, wanted)
    ordered = sorted(memories, key=lambda memory: -memory.relativity)
    return [(memory.record, memory.relativity) for memory in ordered if memory.record.scope in own]


async def _material(
    call: Call,
    access: Access,
    text: str,
    about: Sequence[tuple[Record, float]],
    history: Sequence[Mapping[str, Any]],
) -> _Material:
    """With the conversation that was commented on: as it was sent, else as it is stored."""
    if history:
        told = [(str(message.get("role")), text_of(message.get("content"))) for message in history[-_CONVERSATION:]]
        said: list[Record] = []
    else:
        identity = access.identity
        said = await call.desk.library.conversation(identity.writes[0], identity.session_id, _CONVERSATION)
        told = [(record.source, record.text) for record in said]
    return _Material(text, tuple(about), "\n".join(f"{role}: {words}" for role, words in told), tuple(said))


def _resting(made: Record, material: _Material) -> Record:
    """What a model made of feedback. In the user's own words it stands by itself; else it goes with the memories that
    gave it a word."""
    given = givers(made.text, [replace(made, text=material.text)], material.shown)
    if not given:
        return made
    info = {name: value for name, value in made.info.items() if name != CORRECTS}
    return replace(made, links=tuple(record.id for record in given), info={**info, LEARNT: True})


def _correction(call: Call, turn: Turn, scope: Scope, text: str, corrected: Sequence[Record]) -> Record:
    """A fact that the user states; it outranks what it corrects."""
    made = call.desk.remember.make(turn, scope, "user", text, {})
    name = derived_id(made.id, text)
    marks = {"feedback": True, **({CORRECTS: True} if corrected else {})}
    links = tuple(record.id for record in corrected)
    return replace(made, id=name, kind="fact", links=links, info={**made.info, **marks})
