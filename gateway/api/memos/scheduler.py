"""Routes for the status of background tasks, and for waiting until they are finished."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from gateway.api.memos.envelope import Call, Operation, client, native
from gateway.api.memos.events import CHAT_HEADERS, event
from gateway.api.memos.manage_models import TaskRequest
from gateway.errors import BadRequest, NotFound
from gateway.storage.values import Task

__all__ = ["scheduler_operations"]

_FINAL_STATES: Final = ("completed", "failed", "cancelled")
_LONGEST_WAIT = 600.0
_WAIT_QUERY: Final = {"user_name": True, "timeout_seconds": False, "poll_interval": False}
_STATES: Final = ("waiting", "in_progress", "pending", "completed", "failed", "cancelled")


def scheduler_operations() -> list[Operation]:
    status = "Memory get status successfully"
    return [
        client("/get/status", get_status, "Get the status of a task", TaskRequest, data="array"),
        native(
            "/scheduler/status",
            scheduler_status,
            "Get the tasks of a user",
            query={"user_id": True, "task_id": False},
            method="GET",
            message=status,
        ),
        native(
            "/scheduler/allstatus",
            scheduler_all,
            "Get statistics of all tasks of the tenant",
            method="GET",
            message="Scheduler status summary retrieved successfully",
        ),
        native(
            "/scheduler/task_queue_status",
            scheduler_queue,
            "Get the waiting tasks of a user",
            query={"user_id": True},
            method="GET",
            message="Scheduler task queue status retrieved successfully",
        ),
        native("/scheduler/wait", scheduler_wait, "Wait until the tasks of a user are completed", query=_WAIT_QUERY),
        native(
            "/scheduler/wait/stream",
            scheduler_wait_stream,
            "Wait until the tasks of a user are completed, as a stream",
            query=_WAIT_QUERY,
            method="GET",
            data="events",
        ),
    ]


async def get_status(call: Call, request: TaskRequest) -> list[dict[str, Any]]:
    (task,) = await _refresh_tasks(call, [await _load_task(call, request.task_id)])
    status = {"waiting": "running", "in_progress": "running", "cancelled": "failed"}.get(task.status, task.status)
    return [{"task_id": task.id, "status": status, "memory_views": {"added": [], "updated": [], "deleted": []}}]


async def _load_task(call: Call, id_: str, user: str | None = None) -> Task:
    task = await call.services.registry.task(call.tenant, id_, user or call.principal.user)
    if task is None:
        raise NotFound("there is no task of this id", param="task_id")
    return task


async def _refresh_tasks(call: Call, tasks: Sequence[Task]) -> list[Task]:
    """Update the status of tasks: one is completed when the journal up to its position can be found."""
    if all(task.status in _FINAL_STATES or not task.seq for task in tasks):
        return list(tasks)
    _, first_pending = await call.services.journal.position()
    current_tasks = []
    for task in tasks:
        current = task
        is_awaited = task.status not in _FINAL_STATES and task.seq > 0
        if is_awaited and (task.seq < first_pending or await call.services.searchable(0, task.seq)):
            current = replace(task, status="completed")
            await call.services.registry.put_task(call.tenant, current)
        current_tasks.append(current)
    return current_tasks


async def scheduler_status(call: Call, _: None) -> list[dict[str, Any]]:
    user = call.user(_required_query(call, "user_id"))
    task_id = call.request.query.get("task_id")
    tasks = (
        [await _load_task(call, task_id, user)] if task_id else await call.services.registry.tasks(call.tenant, user)
    )
    return [{"task_id": task.id, "status": task.status} for task in await _refresh_tasks(call, tasks)]


async def scheduler_all(call: Call, _: None) -> dict[str, Any]:
    tasks = await call.services.registry.tasks(call.tenant, call.principal.user)
    states = [task.status for task in await _refresh_tasks(call, tasks)]
    counts: dict[str, int] = {state: states.count(state) for state in _STATES} | {"total": len(states)}
    return {"scheduler_summary": counts, "all_tasks_summary": counts}


async def scheduler_queue(call: Call, _: None) -> dict[str, Any]:
    user = call.user(_required_query(call, "user_id"))
    waiting = await _unfinished_tasks(call, user)
    details = [{"task_id": task.id, "status": task.status, "cube_id": task.cube_id} for task in waiting]
    return {
        "user_id": user,
        "user_name": user,
        "mem_cube_id": user,
        "stream_keys": [],
        "users_count": 1,
        "pending_tasks_count": 0,
        "remaining_tasks_count": len(waiting),
        "pending_tasks_detail": [],
        "remaining_tasks_detail": details,
    }


async def _unfinished_tasks(call: Call, user: str) -> list[Task]:
    tasks = await _refresh_tasks(call, await call.services.registry.tasks(call.tenant, user))
    return [task for task in tasks if task.status not in _FINAL_STATES]


async def scheduler_wait(call: Call, _: None) -> web.Response:
    """Wait until a user's tasks are finished. The response has no `code`, as in MemOS."""
    user, timeout, interval = _parse_wait_query(call)
    began = time.monotonic()
    # MemOS polls
    while (waiting := await _unfinished_tasks(call, user)) and time.monotonic() - began < timeout:  # noqa: ASYNC110
        await asyncio.sleep(min(interval, max(0.0, began + timeout - time.monotonic())))
    data = {
        "running_tasks": len(waiting),
        "waited_seconds": round(time.monotonic() - began, 3),
        "timed_out": bool(waiting),
        "user_name": user,
    }
    return call.whole({"message": "timeout" if waiting else "idle", "data": data})


async def scheduler_wait_stream(call: Call, _: None) -> web.StreamResponse:
    user, timeout, interval = _parse_wait_query(call)
    response = web.StreamResponse(headers=CHAT_HEADERS)
    await response.prepare(call.request)
    began = time.monotonic()
    while True:
        waiting = await _unfinished_tasks(call, user)
        elapsed = time.monotonic() - began
        status = "idle" if not waiting else "timeout" if elapsed >= timeout else "running"
        payload = {
            "user_name": user,
            "active_tasks": len(waiting),
            "elapsed_seconds": round(elapsed, 3),
            "status": status,
        }
        await response.write(event({**payload, "timed_out": status == "timeout", "instance_id": "gateway"}))
        if status != "running":
            break
        await asyncio.sleep(min(interval, max(0.0, timeout - elapsed)))
    await response.write_eof()
    return response


def _parse_wait_query(call: Call) -> tuple[str, float, float]:
    user = call.user(_required_query(call, "user_name"))
    try:
        timeout = float(call.request.query.get("timeout_seconds", "120"))
        interval = float(call.request.query.get("poll_interval", "0.5"))
    except ValueError as error:
        raise BadRequest("timeout_seconds and poll_interval must be numbers of seconds") from error
    if not 0 <= timeout <= _LONGEST_WAIT or not 0 < interval <= _LONGEST_WAIT:
        raise BadRequest(f"timeout_seconds must be 0 to {_LONGEST_WAIT:g}, poll_interval more than 0")
    return user, timeout, max(interval, 0.05)


def _required_query(call: Call, name: str) -> str:
    value = call.request.query.get(name)
    if not value:
        raise BadRequest(f"{name}: is needed in the query string", param=name)
    return value
