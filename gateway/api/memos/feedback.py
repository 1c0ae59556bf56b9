"""Routes for feedback in natural language: see `service/feedback.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.api.memos.envelope import Access, Call, Operation, client, native
from gateway.api.memos.items import native_item
from gateway.api.memos.manage_models import FeedbackRequest, NativeFeedbackRequest
from gateway.formats.chat import text_of
from gateway.server.guard import request_id_of
from gateway.server.limits import slot_of
from gateway.service.feedback import CONTEXT_MESSAGES, Feedback
from gateway.storage.values import Task
from gateway.turn import Turn

__all__ = ["feedback_operations", "read_history"]


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
    metadata = {"feedback_time": request.feedback_time} if request.feedback_time else {}
    turn = _turn_of(call, access, request, metadata)
    comment = Feedback(text=request.feedback_content, turn=turn, allows=access.by_scope)
    if not is_sync and call.services.feedback.has_model:
        await _process_in_background(call, task_id, comment)
        return {"success": True, "task_id": task_id, "status": "running"}
    await call.services.feedback.give(comment)
    await call.begin_task(task_id, access.identity.user_id, access.identity.writes[0].cube_id)
    if is_sync:
        await call.wait_until_found()
    return {"success": True, "task_id": task_id, "status": "completed" if is_sync else "running"}


async def feedback(call: Call, request: NativeFeedbackRequest) -> list[dict[str, Any]]:
    access = await call.access(request)
    task_id = request.task_id or request_id_of(call.request)
    comment = Feedback(
        text=request.feedback_content,
        turn=_turn_of(call, access, request, request.metadata),
        allows=access.by_scope,
        memory_ids=request.retrieved_memory_ids,
        history=read_history(request.history),
    )
    if request.async_mode == "async" and not request.corrected_answer and call.services.feedback.has_model:
        await _process_in_background(call, task_id, comment)
        return []
    result = await call.services.feedback.give(comment)
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


def read_history(messages: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The last messages of a conversation as pairs of role and text."""
    return [(str(message.get("role")), text_of(message.get("content"))) for message in messages[-CONTEXT_MESSAGES:]]


def _turn_of(
    call: Call, access: Access, request: FeedbackRequest | NativeFeedbackRequest, metadata: Mapping[str, Any]
) -> Turn:
    turn = call.turn(access.identity)
    return replace(turn, metadata=dict(metadata), agent_id=request.agent, app_id=request.app_id)


async def _process_in_background(call: Call, task_id: str, comment: Feedback) -> None:
    """Store the feedback verbatim now; replace it later by the changes that a model derives from it."""
    services, user, cube_id = call.services, comment.identity.user_id, comment.scope.cube_id
    finish = await services.feedback.begin(comment)
    if finish is None:
        await call.begin_task(task_id, user, cube_id)
        return
    task = Task(id=task_id, user=user, cube_id=cube_id, status="in_progress")
    await services.registry.put_task(call.tenant, task)

    async def work() -> None:
        status = "failed"
        try:
            await finish()
            await services.searchable(10)
            status = "completed"
        finally:
            await services.registry.put_task(call.tenant, replace(task, status=status))

    slot_of(call.request).keep_for(services.tasks.start(work()))
