"""The OpenAPI description of the memory API and of self-service. Pure."""

from functools import partial
from typing import Any, Final

from gateway.api.describing import body_of, describe_operation, path_parameter, query_parameter
from gateway.api.memory.bodies import AddBody, DeletionBody, EraseBody, ForgetRequest, PatchBody
from gateway.memory.kinds import KINDS

__all__ = ["me_paths", "memory_paths"]

_LINES: Final = "application/x-ndjson"
_ID: Final = path_parameter("id", "The id of a memory, or a beginning of it that no other memory has.")
_USER: Final = query_parameter("user", "Whose memories; else the default user's.")
_PAGE_SIZE: Final = query_parameter("limit", "How many, 1 to 1000.")
_AFTER: Final = query_parameter("after", "The `next` of the previous page.")
_ARCHIVED: Final = query_parameter("archived", "`true`: those that hold no more.")
_AS_OF: Final = query_parameter("as_of", "What was known and held then: a date, a time or seconds since 1970.")
_TENANT: Final = query_parameter("tenant", "The tenant; other than that of the key only without keys.")
_VECTORS: Final = query_parameter(
    "vectors", "`true`: with the vector of each memory, for an import by the same embedder."
)
_PREVIEW: Final = query_parameter("preview", "`true`: only say what would be deleted.")
_operation = partial(describe_operation, "Memory")


def _kind() -> dict[str, Any]:
    return query_parameter("kind", f"{', '.join(KINDS)}; several with commas.")


def _list_parameters() -> list[dict[str, Any]]:
    return [
        _kind(),
        _ARCHIVED,
        _PAGE_SIZE,
        _AS_OF,
        query_parameter("session", "Only of this conversation."),
        query_parameter("cube", "Only of this cube."),
        query_parameter("standing", "`true`: only standing preferences and facts about the user."),
        _AFTER,
    ]


def memory_paths(schemas: dict[str, Any]) -> dict[str, Any]:
    """The paths under `/v1/memory`."""
    return {**_reading_paths(), **_changing_paths(schemas), **_admin_paths(schemas)}


def _reading_paths() -> dict[str, Any]:
    listed = _operation("List the memories of a user, also as of a point in time", _USER, *_list_parameters())
    query = query_parameter("query", "What to search for.", is_needed=True)
    return {
        "/v1/memory/list": {"get": listed},
        "/v1/memory/search": {
            "get": _operation("Search the memories of a user", query, _USER, _kind(), _ARCHIVED, _PAGE_SIZE)
        },
        "/v1/memory/timeline": {
            "get": _operation(
                "List all versions by the start of their validity", _USER, _kind(), _PAGE_SIZE, _AS_OF, _AFTER
            )
        },
        "/v1/memory/history/{id}": {"get": _operation("Get the version history of a memory", _ID)},
        "/v1/memory/user-export": {
            "get": _operation("Export the memories of a user as JSON lines", _USER, _VECTORS, kind=_LINES)
        },
        "/v1/memory/explain/{id}": {
            "get": _operation("Explain the recall of a chat", path_parameter("id", "The id of the request."))
        },
    }


def _changing_paths(schemas: dict[str, Any]) -> dict[str, Any]:
    return {
        "/v1/memory": {"post": _operation("Add a memory", body=body_of(AddBody, schemas), status="201")},
        "/v1/memory/{id}": {
            "get": _operation("Get a memory with the message that it comes from", _ID),
            "patch": _operation("Change, archive or restore a memory", _ID, body=body_of(PatchBody, schemas)),
            "delete": _operation("Delete a memory and those derived from it", _ID, _PREVIEW),
        },
        "/v1/memory/delete": {
            "post": _operation("Delete memories of a user, or preview that", body=body_of(DeletionBody, schemas))
        },
        "/v1/memory/undo/{id}": {"post": _operation("Undo the last change of a memory", _ID)},
    }


def _admin_paths(schemas: dict[str, Any]) -> dict[str, Any]:
    containing = query_parameter("query", "Only users whose ids contain this.")
    selection = [
        query_parameter("user", "Only of this user."),
        query_parameter("session", "Only of this conversation."),
    ]
    lines = {"required": True, "content": {_LINES: {"schema": {"type": "string"}}}}
    return {
        "/v1/memory/users": {"get": _operation("List the users of a tenant", containing, _PAGE_SIZE, _AFTER, _TENANT)},
        "/v1/memory/reindex": {
            "get": _operation("Get the progress of reindexing"),
            "post": _operation("Start reindexing for the configured embedder", status="202"),
        },
        "/v1/memory/forget": {
            "post": _operation("Delete memories, with `purge` from the disk too", body=body_of(ForgetRequest, schemas))
        },
        "/v1/memory/export": {
            "get": _operation("Export memories as JSON lines", _TENANT, *selection, _VECTORS, kind=_LINES)
        },
        "/v1/memory/import": {"post": _operation("Import memories from JSON lines", _TENANT, body=lines)},
    }


def me_paths(schemas: dict[str, Any]) -> dict[str, Any]:
    """The paths under `/v1/me`."""
    confirmation = query_parameter("confirm", "The id of the user, unless it is in the body.")
    return {
        "/v1/me": {
            "get": _operation("Get the tenant, the user and the rights of the key"),
            "delete": _operation(
                "Erase all memories of the key's user, from the disk too",
                confirmation,
                body=body_of(EraseBody, schemas, is_needed=False),
            ),
        },
        "/v1/me/memories": {"get": _operation("List the memories of the key's user", *_list_parameters())},
        "/v1/me/export": {
            "get": _operation("Export the memories of the key's user as JSON lines", _VECTORS, kind=_LINES)
        },
    }
