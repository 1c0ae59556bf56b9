"""The tools of the MCP server: one table of their names, schemas, annotations and functions."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from mcp_types import Tool, ToolAnnotations
from pydantic import BaseModel, ValidationError

from gateway.api.mcp.caller import Caller
from gateway.api.mcp.memories import UserMemories
from gateway.api.mcp.messages import problem_of
from gateway.api.mcp.schemas import (
    AddArguments,
    AddMessagesArguments,
    DeleteArguments,
    DeleteResult,
    HistoryArguments,
    ListArguments,
    MemoryItem,
    MemoryPage,
    MemoryResult,
    ProfileArguments,
    SearchArguments,
    UpdateArguments,
    argument_schema,
    result_schema,
)
from gateway.api.mcp.texts import fenced, item_of, profile_text
from gateway.concurrency.offload import offload
from gateway.errors import BadRequest
from gateway.memory.record import Record

__all__ = ["TOOLS", "ToolAnswer", "ToolSpec", "arguments_of", "described", "tool_named"]


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """The result of a tool: structured, and as a text in which memories are fenced as data."""

    result: BaseModel
    text: str


RunTool = Callable[[UserMemories, Caller, Any], Awaitable[ToolAnswer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool. `is_additive`: it changes no memory that is there. `is_idempotent`: a second call changes nothing."""

    name: str
    title: str
    description: str
    arguments: type[BaseModel]
    result: type[BaseModel]
    run: RunTool
    is_read_only: bool = False
    is_additive: bool = False
    is_idempotent: bool = False


def tool_named(name: str, arguments: Mapping[str, Any]) -> ToolSpec | None:
    """The tool of a name, which may be one of MemOS' names; None if there is none."""
    if name == "add_memory" and arguments.get("messages"):
        return _ADD_MESSAGES
    return _BY_NAME.get(name)


def arguments_of(tool: ToolSpec, arguments: Mapping[str, Any]) -> Any:
    """Validate the arguments of a call; null is the same as absent. Raises BadRequest."""
    if arguments.get("doc_path"):
        raise BadRequest("doc_path: files are not read; send their text", param="doc_path")
    given = {name: value for name, value in arguments.items() if value is not None}
    given.pop("doc_path", None)
    try:
        return tool.arguments.model_validate(given)
    except ValidationError as error:
        raise BadRequest(problem_of(error), code="invalid_parameter") from error


@lru_cache(maxsize=4)
def described(without: tuple[str, ...] = ()) -> tuple[Tool, ...]:
    """The list of tools for a client, whose schemas lack the arguments in `without`. Cached: schemas take long."""
    return tuple(
        Tool(
            name=tool.name,
            title=tool.title,
            description=tool.description,
            input_schema=argument_schema(tool.arguments, without),
            output_schema=result_schema(tool.result),
            annotations=ToolAnnotations(
                title=tool.title,
                read_only_hint=tool.is_read_only,
                destructive_hint=not (tool.is_read_only or tool.is_additive),
                idempotent_hint=tool.is_read_only or tool.is_idempotent,
                open_world_hint=False,
            ),
        )
        for tool in TOOLS
    )


async def _search(memories: UserMemories, caller: Caller, arguments: SearchArguments) -> ToolAnswer:
    matches = await memories.search(caller, arguments)
    user = memories.user_of(caller, arguments.user)

    def build() -> ToolAnswer:
        items = [item_of(memory.record, memory.relativity) for memory in matches]
        text = fenced(memory.record for memory in matches)
        none = "No memory matches. A lower min_relevance, or other words, may find more."
        answer = f"{_counted(len(items))}, best match first:\n{text}" if items else none
        return ToolAnswer(MemoryResult(user=user, memories=items), answer)

    return await _built(build, [memory.record for memory in matches])


async def _list(memories: UserMemories, caller: Caller, arguments: ListArguments) -> ToolAnswer:
    records, cursor = await memories.page(caller, arguments)
    user = memories.user_of(caller, arguments.user)

    def build() -> ToolAnswer:
        items = [item_of(record) for record in records]
        more = f"\nThere are more: call again with cursor {cursor}" if cursor else ""
        text = f"{_counted(len(items))}, newest first:\n{fenced(records)}{more}"
        return ToolAnswer(
            MemoryPage(user=user, memories=items, next=cursor), text if items else "There are no memories."
        )

    return await _built(build, records)


async def _profile(memories: UserMemories, caller: Caller, arguments: ProfileArguments) -> ToolAnswer:
    records = await memories.profile(caller, arguments)
    user = memories.user_of(caller, arguments.user)

    def build() -> ToolAnswer:
        text = profile_text(records) or "Nothing is known that applies to every request."
        return ToolAnswer(_result(user, records), text)

    return await _built(build, records)


async def _add(memories: UserMemories, caller: Caller, arguments: AddArguments | AddMessagesArguments) -> ToolAnswer:
    records = await memories.add(caller, arguments)
    user = memories.user_of(caller, arguments.user)

    def build() -> ToolAnswer:
        text = f"Stored:\n{fenced(records)}" if records else "Nothing was stored: a plugin withheld it."
        return ToolAnswer(_result(user, records), text)

    return await _built(build, records)


async def _update(memories: UserMemories, caller: Caller, arguments: UpdateArguments) -> ToolAnswer:
    record = await memories.update(caller, arguments)
    return ToolAnswer(item_of(record), f"Changed:\n{fenced([record])}")


async def _delete(memories: UserMemories, caller: Caller, arguments: DeleteArguments) -> ToolAnswer:
    record, count = await memories.delete(caller, arguments)
    along = f", and {count - 1} derived from it" if count > 1 else ""
    return ToolAnswer(DeleteResult(id=record.id, deleted=count), f"Deleted the memory {record.id}{along}.")


async def _history(memories: UserMemories, caller: Caller, arguments: HistoryArguments) -> ToolAnswer:
    records = await memories.history(caller, arguments)
    user = memories.user_of(caller, arguments.user)

    def build() -> ToolAnswer:
        return ToolAnswer(_result(user, records), f"{_counted(len(records))}, oldest first:\n{fenced(records)}")

    return await _built(build, records)


async def _get(memories: UserMemories, caller: Caller, arguments: HistoryArguments) -> ToolAnswer:
    record = await memories.find(caller, arguments)
    return ToolAnswer(item_of(record), fenced([record]))


async def _built(build: Callable[[], ToolAnswer], records: Iterable[Record]) -> ToolAnswer:
    """The answer that `build` returns, in a thread if the memories in it are long."""
    return await offload(build, sum(len(record.text) for record in records))


def _result(user: str, records: Iterable[Record]) -> MemoryResult:
    return MemoryResult(user=user, memories=[item_of(record) for record in records])


def _counted(count: int) -> str:
    return f"{count} {'memory' if count == 1 else 'memories'}"


TOOLS: Final = (
    ToolSpec(
        name="search_memory",
        title="Search memories",
        description="Search what is remembered of the user from all earlier conversations. Use it when an answer may "
        "depend on the user's facts, preferences, plans or earlier decisions.",
        arguments=SearchArguments,
        result=MemoryResult,
        run=_search,
        is_read_only=True,
    ),
    ToolSpec(
        name="add_memory",
        title="Add a memory",
        description="Remember a text for later conversations: a fact, preference or decision of the user. Returns what "
        "was stored: a long text in several parts, and the preferences stated in it as memories of their own.",
        arguments=AddArguments,
        result=MemoryResult,
        run=_add,
        is_additive=True,
    ),
    ToolSpec(
        name="list_memories",
        title="List memories",
        description="List the memories of the user, newest first, also those that were valid at an earlier date.",
        arguments=ListArguments,
        result=MemoryPage,
        run=_list,
        is_read_only=True,
    ),
    ToolSpec(
        name="update_memory",
        title="Update a memory",
        description="Correct the text or title of a memory, or archive it. The earlier text stays in its history.",
        arguments=UpdateArguments,
        result=MemoryItem,
        run=_update,
        is_idempotent=True,
    ),
    ToolSpec(
        name="delete_memory",
        title="Delete a memory",
        description="Delete a memory for good, with everything derived from it. To keep it in the history, archive it "
        "with update_memory instead.",
        arguments=DeleteArguments,
        result=DeleteResult,
        run=_delete,
        is_idempotent=True,
    ),
    ToolSpec(
        name="memory_history",
        title="History of a memory",
        description="Show what a memory replaced and what replaced it, oldest first.",
        arguments=HistoryArguments,
        result=MemoryResult,
        run=_history,
        is_read_only=True,
    ),
    ToolSpec(
        name="get_profile",
        title="Profile of the user",
        description="Get the user's standing wishes and statements about themselves, which apply to every request.",
        arguments=ProfileArguments,
        result=MemoryResult,
        run=_profile,
        is_read_only=True,
    ),
)
"""The tools that are listed."""
_ADD_MESSAGES: Final = ToolSpec(
    name="add_memory",
    title="Add messages",
    description="",
    arguments=AddMessagesArguments,
    result=MemoryResult,
    run=_add,
)
_GET: Final = ToolSpec(
    name="get_memory", title="Get a memory", description="", arguments=HistoryArguments, result=MemoryItem, run=_get
)
_BY_NAME: Final = {tool.name: tool for tool in (*TOOLS, _GET)} | {"search_memories": TOOLS[0]}
"""All tools by name, with those that only MemOS has."""
