"""Request bodies of the MemOS routes that manage memories: read, update, delete, knowledge bases, profiles."""

from typing import Any, Literal, Self

from pydantic import Field, RootModel, field_validator, model_validator

from gateway.api.memos.models import Body, Ids, ScopedRequest
from gateway.memory.filters import BUILT_IN

__all__ = [
    "AddFilesRequest",
    "BindProfileRequest",
    "CreateCubeRequest",
    "CreateKnowledgeBaseRequest",
    "CubeRequest",
    "DashboardRequest",
    "DeleteFilesRequest",
    "DeleteKnowledgeBaseRequest",
    "DeleteRequest",
    "ExtractRequest",
    "FeedbackRequest",
    "GetAllRequest",
    "GetCubeRequest",
    "GetFilesRequest",
    "GetMessageRequest",
    "GetRequest",
    "MemoryIdsRequest",
    "NativeFeedbackRequest",
    "ProfileRequest",
    "RecordRequest",
    "RegisterCubeRequest",
    "RerankRequest",
    "SuggestionRequest",
    "TaskRequest",
    "UpdateRequest",
]

_Status = Literal["activated", "resolving", "archived", "deleted"]


class GetRequest(ScopedRequest):
    """`/get/memory`: page through a user's or an agent's memories, newest first."""

    include_preference: bool = True
    include_tool_memory: bool = True
    include_skill_memory: bool = True
    page: int = Field(1, ge=1)
    page_size: int = Field(10, ge=1, le=50, description="`size`")

    @model_validator(mode="after")
    def _check_single_subject(self) -> Self:
        if bool(self.user_id) == bool(self.agent_id):
            raise ValueError("exactly one of user_id and agent_id is needed")
        return self


class GetCubeRequest(ScopedRequest):
    """`/product/get_memory`: page through one cube; without a size, all of it."""

    mem_cube_id: str | None = Field(None, min_length=1, max_length=256)
    include_preference: bool = True
    include_tool_memory: bool = True
    include_skill_memory: bool = True
    page: int = Field(1, ge=1)
    page_size: int | None = Field(None, ge=1, le=10_000)

    @model_validator(mode="after")
    def _check_subject(self) -> Self:
        if not self.mem_cube_id and not self.user_id:
            raise ValueError("mem_cube_id: is needed")
        return self


class DashboardRequest(GetCubeRequest):
    """As `/product/get_memory`; the cube may be left out if a user is named."""


class GetAllRequest(ScopedRequest):
    user_id: str = Field(min_length=1)
    memory_type: Literal["text_mem", "act_mem", "param_mem", "para_mem"]
    mem_cube_ids: Ids | None = Field(None, max_length=50)
    search_query: str | None = None
    search_type: Literal["embedding", "fulltext"] = "fulltext"


class MemoryIdsRequest(Body):
    memory_ids: Ids = Field(max_length=1000)


class IdListRequest(RootModel[list[str]]):
    """A bare list of memory ids."""


class UpdateRequest(Body):
    memory_id: str = Field(min_length=1)
    content: str | None = Field(None, min_length=1, max_length=65_536)
    title: str | None = None
    status: _Status | None = None

    @model_validator(mode="after")
    def _check_change(self) -> Self:
        if self.content is None and self.title is None and self.status is None:
            raise ValueError("at least one of content, title and status is needed")
        return self


class DeleteRequest(Body):
    """Both families: exactly one of ids, file ids, or user, agent, session and filter together."""

    memory_ids: Ids = Field((), max_length=1000)
    file_ids: Ids = Field((), max_length=1000)
    user_id: str | None = None
    user_ids: Ids = Field((), max_length=100)
    agent_id: str | None = None
    session_id: str | None = None
    filter: dict[str, Any] | None = None
    writable_cube_ids: Ids | None = Field(None, max_length=50)
    mem_cube_id: str | None = None
    memory_type: str | None = None

    @model_validator(mode="after")
    def _check_single_mode(self) -> Self:
        if self.filter == {}:
            raise ValueError("filter: an empty filter would delete everything; name what is to go")
        by_condition = bool(self.agent_id or self.session_id or self.filter or (self.user_id and not self.memory_ids))
        by_condition = by_condition or bool(self.user_ids and not self.memory_ids)
        modes = [bool(self.memory_ids), bool(self.file_ids), by_condition]
        if sum(modes) != 1:
            raise ValueError(
                "exactly one of memory_ids, file_ids, or user_id, agent_id, session_id and filter is needed"
            )
        return self


class GetMessageRequest(ScopedRequest):
    user_id: str = Field(min_length=1)
    conversation_limit_number: int = Field(6, ge=1, le=50)
    message_limit_number: int = Field(6, ge=1, le=50)


class FeedbackRequest(ScopedRequest):
    """`/add/feedback`"""

    feedback_content: str = Field(min_length=1, max_length=65_536)
    feedback_time: str | None = None
    async_mode: bool | Literal["async", "sync"] = True

    @model_validator(mode="after")
    def _check_subject(self) -> Self:
        if not self.user_id and not self.agent_id:
            raise ValueError("user_id or agent_id is needed")
        return self


class NativeFeedbackRequest(ScopedRequest):
    """`/product/feedback`"""

    user_id: str = Field(min_length=1)
    feedback_content: str = Field(min_length=1, max_length=65_536)
    history: list[dict[str, Any]] = Field([])
    task_id: str | None = Field(None, max_length=128)
    retrieved_memory_ids: Ids = Field((), max_length=100)
    feedback_time: str | None = None
    async_mode: Literal["async", "sync"] = "async"
    corrected_answer: bool = False
    info: dict[str, Any] = Field({})

    @property
    def metadata(self) -> dict[str, Any]:
        """`info` without the names of built-in fields of a memory."""
        return {name: value for name, value in self.info.items() if name not in BUILT_IN}

    @field_validator("async_mode", mode="before")
    @classmethod
    def _normalize_mode(cls, value: Any) -> Any:
        return ("async" if value else "sync") if isinstance(value, bool) else value


class TaskRequest(Body):
    task_id: str = Field(min_length=1, max_length=128)


class CreateKnowledgeBaseRequest(Body):
    knowledgebase_name: str = Field(min_length=1, max_length=256)
    knowledgebase_description: str = Field("", max_length=4096)


class DeleteKnowledgeBaseRequest(Body):
    knowledgebase_id: str = Field(min_length=1, max_length=256)


class _File(Body):
    name: str = Field(min_length=1, max_length=256)
    type: Literal["document", "skill"] = "document"
    content: str = Field(min_length=1, description="Base64, or a web address if the operator allows it.")


class AddFilesRequest(Body):
    knowledgebase_id: str = Field(min_length=1, max_length=256)
    file: list[_File] = Field(min_length=1, max_length=20)


class GetFilesRequest(Body):
    file_ids: Ids = Field((), max_length=200)
    knowledgebase_id: str | None = None
    type: Literal["document", "skill"] | None = None
    page: int = Field(1, ge=1)
    page_size: int = Field(10, ge=1, le=200)

    @model_validator(mode="after")
    def _check_selector(self) -> Self:
        if bool(self.file_ids) == bool(self.knowledgebase_id):
            raise ValueError("exactly one of file_ids and knowledgebase_id is needed")
        return self


class DeleteFilesRequest(Body):
    file_ids: Ids = Field(min_length=1, max_length=200)


class ExtractRequest(Body):
    messages: list[dict[str, Any]] = Field(min_length=1, max_length=500)
    extraction_types: tuple[Literal["memory", "preference"], ...] = ("memory", "preference")
    model: str | None = None


class RerankRequest(Body):
    query: str = Field(min_length=1, max_length=65_536)
    documents: Ids = Field(min_length=1, max_length=500)
    model: str | None = None
    top_n: int | None = Field(None, ge=1)


class BindProfileRequest(Body):
    bind_list: list[dict[str, Any]] = Field(min_length=1, max_length=100)


class ProfileRequest(Body):
    """`/edit/profile` and `/delete/profile`"""

    profile_template_id: str = Field(min_length=1, max_length=256)
    user_id: str | None = None
    agent_id: str | None = None
    metadata: dict[str, Any] = Field({}, max_length=200)
    remove_fields: Ids = Field((), max_length=200)

    @model_validator(mode="after")
    def _check_single_subject(self) -> Self:
        if bool(self.user_id) == bool(self.agent_id):
            raise ValueError("exactly one of user_id and agent_id is needed")
        return self


class SuggestionRequest(ScopedRequest):
    user_id: str = Field(min_length=1)
    language: Literal["zh", "en"] = "zh"
    message: list[dict[str, Any]] | None = None


class CreateCubeRequest(Body):
    cube_name: str = Field(min_length=1, max_length=256)
    owner_id: str = Field(min_length=1, max_length=256)
    cube_id: str | None = Field(None, min_length=1, max_length=256)


class RegisterCubeRequest(Body):
    mem_cube_name_or_path: str = Field(min_length=1, max_length=256)
    mem_cube_id: str | None = Field(None, min_length=1, max_length=256)
    user_id: str | None = None


class CubeRequest(Body):
    mem_cube_id: str = Field(min_length=1, max_length=256)


class RecordRequest(Body):
    """Delete or recover by record id."""

    mem_cube_id: str = Field(min_length=1, max_length=256)
    record_id: str | None = None
    delete_record_id: str | None = None
    hard_delete: bool = False
