"""Routes for knowledge bases with their files, and for cubes."""

import asyncio
import base64
import binascii
from typing import Any

from aiohttp import BodyPartReader
from aiohttp.http_exceptions import HttpProcessingError

from gateway.api.memos.envelope import KNOWLEDGE, Call, Operation, client, native
from gateway.api.memos.manage_models import (
    AddFilesRequest,
    CreateCubeRequest,
    CreateKnowledgeBaseRequest,
    CubeRequest,
    DeleteFilesRequest,
    DeleteKnowledgeBaseRequest,
    GetFilesRequest,
    MemoryIdsRequest,
    RegisterCubeRequest,
)
from gateway.errors import BadRequest, NotFound, TooLarge
from gateway.identity import checked_id, cube_scopes, knowledge_scope
from gateway.memory.filters import plain_id
from gateway.server.limits import slot_of
from gateway.storage.values import DELETING, KnowledgeFile
from gateway.turn import Scope, ScopeKind
from gateway.upstream.fetch import FetchRefused, fetch

__all__ = ["knowledge_operations"]

_MAX_FILES = 20


def knowledge_operations() -> list[Operation]:
    return [
        client("/create/knowledgebase", create_knowledge_base, "Create a knowledge base", CreateKnowledgeBaseRequest),
        client(
            "/delete/knowledgebase",
            delete_knowledge_base,
            "Delete a knowledge base with all its files",
            DeleteKnowledgeBaseRequest,
        ),
        client("/get/knowledgebase", list_knowledge_bases, "List the knowledge bases of the tenant", data="array"),
        client(
            "/add/knowledgebase-file",
            add_files,
            "Add files, as JSON or as a form",
            AddFilesRequest,
            data="array",
            takes_form=True,
        ),
        client("/get/knowledgebase-file", get_files, "Get the ingestion status of files", GetFilesRequest),
        client("/delete/knowledgebase-file", delete_files, "Delete files and their memories", DeleteFilesRequest),
        native(
            "/create_cube",
            create_cube,
            "Create a cube of a user",
            CreateCubeRequest,
            message="Cube created successfully",
        ),
        native(
            "/register_cube",
            register_cube,
            "Register a cube; no path is loaded",
            RegisterCubeRequest,
            message="Cube registered successfully",
        ),
        native("/exist_mem_cube_id", exists_cube, "Check whether a cube exists", CubeRequest, message="Successfully"),
        native(
            "/get_user_names_by_memory_ids",
            names_by_ids,
            "Get the cube of each memory",
            MemoryIdsRequest,
            message="Successfully",
        ),
    ]


async def create_knowledge_base(call: Call, request: CreateKnowledgeBaseRequest) -> dict[str, Any]:
    call.require_project_key()
    id_ = f"kb-{call.request_id[:24]}"
    value = {"name": request.knowledgebase_name, "description": request.knowledgebase_description}
    await call.services.registry.put_item(call.tenant, KNOWLEDGE, id_, value)
    await call.services.registry.add_scopes([knowledge_scope(call.tenant, id_)])
    return {"id": id_, **value}


async def delete_knowledge_base(call: Call, request: DeleteKnowledgeBaseRequest) -> dict[str, Any]:
    call.require_project_key()
    services, scope = call.services, await _require_knowledge_base(call, request.knowledgebase_id)
    for file in await services.registry.files(call.tenant, cube_id=scope.cube_id):
        await services.registry.end_file(call.tenant, file.id, DELETING)
    await services.memory_service.delete(await services.memory_service.records(scope))
    await services.registry.drop_item(call.tenant, KNOWLEDGE, scope.cube_id)
    await services.registry.drop_scope(scope)
    services.ingestion.wake()
    return {"success": True}


async def list_knowledge_bases(call: Call, _: None) -> list[dict[str, Any]]:
    items = await call.services.registry.items(call.tenant, KNOWLEDGE)
    return [{"id": item.id, **item.value} for item in items]


async def add_files(call: Call, request: AddFilesRequest | None) -> list[dict[str, Any]]:
    call.require_project_key()
    files = await (_form_files(call) if request is None else _json_files(call, request))
    services = call.services
    await services.registry.put_files(call.tenant, files)
    services.ingestion.wake()
    return [
        {
            "id": file.id,
            "name": file.name,
            "sizeMB": round(file.size / 2**20, 4),
            "status": file.status,
            "type": file.kind,
        }
        for file, _ in files
    ]


async def _json_files(call: Call, request: AddFilesRequest) -> list[tuple[KnowledgeFile, bytes]]:
    scope = await _require_knowledge_base(call, request.knowledgebase_id)
    files = []
    for index, entry in enumerate(request.file):
        path = f"file[{index}].content"
        if entry.content.startswith(("http://", "https://")):
            content = await _fetch_url(call, entry.content, path)
        else:
            try:
                content = base64.b64decode(entry.content.partition("base64,")[2] or entry.content, validate=True)
            except (binascii.Error, ValueError) as error:
                raise BadRequest(f"{path}: is neither base64 nor a web address", param=path) from error
        files.append(_build_document(call, scope, (entry.name, entry.type, index), content))
    return files


async def _fetch_url(call: Call, url: str, path: str) -> bytes:
    config = call.services.config.memory.documents
    if not config.allow_urls:
        raise BadRequest(f"{path}: web addresses are not allowed here; send the content in base64", param=path)
    try:
        return await fetch(url, config.max_mb * 2**20)
    except FetchRefused as error:
        raise BadRequest(f"{path}: {error}", param=path) from error


async def _form_files(call: Call) -> list[tuple[KnowledgeFile, bytes]]:
    request = call.request
    fields = {
        "knowledgebase_id": request.query.get("knowledgebase_id", ""),
        "type": request.query.get("type", "document"),
    }
    if fields["type"] not in ("document", "skill"):
        raise BadRequest("type: must be document or skill", param="type")
    scope = await _require_knowledge_base(call, fields["knowledgebase_id"])
    max_bytes = call.services.config.limits.body_mb * 2**20
    files: list[tuple[KnowledgeFile, bytes]] = []
    size = 0
    try:
        async with asyncio.timeout(call.services.config.limits.body_timeout):
            reader = await request.multipart()
            while (part := await reader.next()) is not None:
                if not isinstance(part, BodyPartReader):
                    raise BadRequest("file: a part must be a file, not a form in the form", param="file")
                content = bytearray()
                while chunk := await part.read_chunk(65_536):
                    content += chunk
                    size += len(chunk)
                    slot_of(request).take_bytes(len(chunk))
                    if size > max_bytes:
                        raise TooLarge(f"the form has more than {call.services.config.limits.body_mb} MiB")
                if part.filename is not None:
                    files.append(
                        _build_document(call, scope, (part.filename, fields["type"], len(files)), bytes(content))
                    )
                if len(files) > _MAX_FILES:
                    raise BadRequest(f"file: at most {_MAX_FILES} files at once", param="file")
    except TimeoutError as error:
        raise BadRequest("the body did not arrive in time", code="body_timeout") from error
    except (ValueError, HttpProcessingError) as error:
        raise BadRequest("the form cannot be read", code="bad_body") from error
    if not files:
        raise BadRequest("file: there is no file in the form; each part is named `file`", param="file")
    return files


def _build_document(
    call: Call, scope: Scope, file_info: tuple[str, str, int], content: bytes
) -> tuple[KnowledgeFile, bytes]:
    """Build the document of a file to ingest. `file_info`: its name, its kind and its index in the request."""
    name, kind, index = file_info
    max_mb = call.services.config.memory.documents.max_mb
    if len(content) > max_mb * 2**20:
        raise TooLarge(f"file[{index}]: has more than {max_mb} MiB")
    if not content:
        raise BadRequest(f"file[{index}]: is empty", param="file")
    id_ = f"file-{call.request_id[:24]}-{index}"
    return (
        KnowledgeFile(
            id=id_,
            cube_id=scope.cube_id,
            name=name.encode("utf-8", "replace").decode("utf-8")[:256],
            size=len(content),
            kind=kind,
            status="running",
            at=call.received_at,
        ),
        content,
    )


async def get_files(call: Call, request: GetFilesRequest) -> dict[str, Any]:
    if request.knowledgebase_id:
        scope = await _require_knowledge_base(call, request.knowledgebase_id)
        files = await call.services.registry.files(call.tenant, cube_id=scope.cube_id)
    else:
        files = await call.services.registry.files(call.tenant, ids=request.file_ids)
    files = [file for file in files if request.type in (None, file.kind)]
    start = (request.page - 1) * request.page_size
    details = [
        {
            "id": file.id,
            "name": file.name,
            "size": file.size,
            "status": file.status,
            "type": file.kind,
            "error": file.error,
        }
        for file in files[start : start + request.page_size]
    ]
    return {"file_detail_list": details, "total": len(files), "page": request.page, "page_size": request.page_size}


async def delete_files(call: Call, request: DeleteFilesRequest) -> dict[str, Any]:
    call.require_project_key()
    services = call.services
    files = await services.registry.files(call.tenant, ids=request.file_ids)
    if not files:
        raise NotFound("there is no file of these ids", param="file_ids")
    for file in files:
        await services.registry.end_file(call.tenant, file.id, DELETING)
        await services.memory_service.delete_file(knowledge_scope(call.tenant, file.cube_id), file.id)
    services.ingestion.wake()  # ingestion checks the file once more, then drops it
    return {"success": True}


async def _require_knowledge_base(call: Call, id_: str) -> Scope:
    if await call.services.registry.item(call.tenant, KNOWLEDGE, id_) is None:
        raise NotFound("knowledgebase_id: there is no knowledge base of this id", param="knowledgebase_id")
    return knowledge_scope(call.tenant, id_)


async def create_cube(call: Call, request: CreateCubeRequest) -> dict[str, Any]:
    owner = call.user(request.owner_id)
    cube_id = checked_id(request.cube_id or request.cube_name, "cube_id")
    await call.services.registry.add_scopes(cube_scopes(call.tenant, owner, [cube_id]))
    return {"cube_id": cube_id, "cube_name": request.cube_name, "owner_id": owner}


async def register_cube(call: Call, request: RegisterCubeRequest) -> dict[str, Any]:
    cube_id = checked_id(request.mem_cube_id or request.mem_cube_name_or_path, "mem_cube_id")
    if request.user_id:
        await call.services.registry.add_scopes(cube_scopes(call.tenant, call.user(request.user_id), [cube_id]))
    return {"cube_id": cube_id, "cube_name_or_path": request.mem_cube_name_or_path}


async def exists_cube(call: Call, request: CubeRequest) -> dict[str, bool]:
    scopes = await call.services.registry.scopes_of_cube(call.tenant, request.mem_cube_id)
    pinned = call.principal.user
    return {
        request.mem_cube_id: any(
            pinned is None or scope.owner == pinned or scope.kind is ScopeKind.KNOWLEDGE for scope in scopes
        )
    }


async def names_by_ids(call: Call, request: MemoryIdsRequest) -> dict[str, str | None]:
    records = await call.services.memory_service.find(call.principal, request.memory_ids)
    names = {record.id: record.cube_id for record in records}
    return {id_: names.get(plain_id(id_)) for id_ in request.memory_ids}
