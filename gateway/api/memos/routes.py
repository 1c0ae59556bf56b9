"""The MemOS API: the operations of both route families. Each module of this package defines its own routes."""

from gateway.api.memos.assistance import assistance_operations
from gateway.api.memos.changes import change_operations
from gateway.api.memos.chat import ChatHandlers
from gateway.api.memos.envelope import Operation
from gateway.api.memos.extracting import extracting_operations
from gateway.api.memos.feedback import feedback_operations
from gateway.api.memos.knowledge import knowledge_operations
from gateway.api.memos.memory import memory_operations
from gateway.api.memos.playground import playground_operations
from gateway.api.memos.profiles import profile_operations
from gateway.api.memos.reading import reading_operations
from gateway.api.memos.scheduler import scheduler_operations

__all__ = ["memos_operations"]


def memos_operations(chats: ChatHandlers) -> list[Operation]:
    """All operations of the MemOS API."""
    return [
        *chats.operations(),
        *playground_operations(),
        *memory_operations(),
        *reading_operations(),
        *feedback_operations(),
        *change_operations(),
        *profile_operations(),
        *assistance_operations(),
        *extracting_operations(),
        *knowledge_operations(),
        *scheduler_operations(),
    ]
