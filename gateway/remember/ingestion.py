"""Background ingestion of knowledge-base files as memories, one file at a time.

A file is in the registry with its content before its upload is answered; files left unfinished at a stop are finished
after the next start. Ids are derived from the file's id, so that a repeated ingestion is idempotent.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from gateway.concurrency.progress import wait_until_set
from gateway.concurrency.worker import Backoff, RepeatingWorker
from gateway.errors import MemoryUnavailable, PluginUnavailable
from gateway.formats.base import ParsedRequest
from gateway.formats.chat import ChatFormat
from gateway.identity import knowledge_scope
from gateway.memory.record import Origin, Record, memory_id, message_id
from gateway.remember.documents import Piece, UnreadableFile, read_pieces
from gateway.remember.remember import Remember
from gateway.storage.errors import StorageError
from gateway.storage.protocols import Registry
from gateway.storage.values import DELETING, KnowledgeFile
from gateway.text.media import without_media
from gateway.turn import Identity, Principal, Scope, Turn

__all__ = ["Ingestion", "background_turn", "document_records"]

_log = logging.getLogger("gateway.intake")
_PAUSE = 5.0
_TIME = 120.0  # seconds: timeout of reading one file
_BATCH = 200


class Ingestion:
    """Background worker that ingests uploaded files.

    `searchable` waits until all writes can be found: only then a file is `completed`. `discard` deletes the memories of
    a file, by its scope and id. `owns` is true for the digests of files that this process ingests; `look_every`:
    seconds after which it looks for new ones of other processes (None: there are none).
    """

    def __init__(
        self,
        registry: Registry,
        remember: Remember,
        searchable: Callable[[float], Awaitable[bool]],
        discard: Callable[[Scope, str], Awaitable[int]],
        *,
        owns: Callable[[str], bool] = lambda digest: True,
        look_every: float | None = None,
    ) -> None:
        self._registry = registry
        self._remember = remember
        self._wait_searchable = searchable
        self._discard = discard
        self._owns = owns
        self._look_every = look_every
        self._wake = asyncio.Event()
        self._worker = RepeatingWorker("intake", self._work, _log, "ingestion_backoff", pauses=Backoff(_PAUSE))

    def wake(self) -> None:
        """There is a new file."""
        self._wake.set()

    def screened(self, scope: Scope, records: Sequence[Record]) -> Awaitable[Sequence[Record]]:
        """Pass memories that come without a chat through the plugins' store hook. Raises PluginUnavailable."""
        turn = background_turn(scope, records[0].session_id, records[0].created_at)
        return self._remember.screened(turn, records)

    def start(self) -> None:
        self._worker.start()

    async def stop(self) -> None:
        await self._worker.stop()

    async def _work(self) -> None:
        self._wake.clear()
        for tenant, id_ in await self._registry.unfinished_files():
            if self._owns(hashlib.sha256(id_.encode()).hexdigest()):
                await self._ingest_safely(tenant, id_)
        await wait_until_set(self._wake, self._look_every)

    async def _ingest_safely(self, tenant: str, id_: str) -> None:
        """Ingest one file; if it fails, the next ones are not blocked."""
        try:
            await self._ingest(tenant, id_)
        except (StorageError, MemoryUnavailable):
            raise
        except Exception:  # noqa: BLE001 — the worker's loop: one bad file must not stop the others; logged whole
            _log.exception("document_failed", extra={"file": id_})
            await self._registry.end_file(tenant, id_, "failed", "the file could not be taken in")

    async def _ingest(self, tenant: str, id_: str) -> None:
        files = await self._registry.files(tenant, ids=[id_], with_deleting=True)
        content = await self._registry.file_content(tenant, id_)
        if not files:
            return
        file = files[0]
        if file.status == DELETING or content is None:
            await self._discard(knowledge_scope(tenant, file.cube_id), id_)
            await self._registry.drop_files(tenant, [id_])
            return
        try:
            async with asyncio.timeout(_TIME):
                chunks = await asyncio.to_thread(read_pieces, file.name, content)
        except UnreadableFile as error:
            await self._registry.end_file(tenant, id_, "failed", str(error))
            return
        except TimeoutError:
            await self._registry.end_file(tenant, id_, "failed", "reading the file took too long")
            return
        scope = knowledge_scope(tenant, file.cube_id)
        if await self._store(scope, file, chunks):
            await self._registry.end_file(tenant, id_, "completed")
        else:
            await self._discard(scope, id_)
            await self._registry.drop_files(tenant, [id_])

    async def _store(self, scope: Scope, file: KnowledgeFile, chunks: Sequence[Piece]) -> bool:
        """Store the chunks of a file in batches, so that chats are not delayed. False if it was deleted meanwhile."""
        turn = background_turn(scope, file.id, file.at)
        records = document_records(scope, file, chunks, turn.received_at)
        for begin in range(0, len(records), _BATCH):
            while True:
                try:
                    await self._remember.add(turn, records[begin : begin + _BATCH])
                except (StorageError, PluginUnavailable, TimeoutError) as error:
                    _log.warning("document_deferred", extra={"cause": str(error) or "timeout"})
                    await asyncio.sleep(_PAUSE)
                else:
                    break
            while not await self._wait_searchable(_TIME):
                _log.warning("document_deferred", extra={"cause": "store"})
            if not await self._registry.files(scope.tenant, ids=[file.id]):
                return False
        return True


def background_turn(scope: Scope, id_: str, at: float) -> Turn:
    """The turn that plugins see for memories stored without a chat: documents, imports, extracted items."""
    return Turn(
        id=id_,
        started=time.perf_counter(),
        received_at=at,
        principal=Principal(scope.tenant, frozenset()),
        path="",
        headers={},
        raw=b"",
        body={},
        ask=ParsedRequest(model="", stream=False),
        wire_format=ChatFormat(),
        identity=Identity(scope.owner or scope.cube_id, id_, reads=(scope,), writes=(scope,)),
    )


def document_records(scope: Scope, file: KnowledgeFile, chunks: Sequence[Piece], now: float) -> list[Record]:
    """The memories of a file, in order, with the file, page and heading that they come from."""
    records = []
    for index, chunk in enumerate(chunks):
        text = without_media(chunk.text)
        records.append(
            Record(
                id=memory_id(scope.value, file.id, str(index)),
                scope=scope.value,
                cube_id=scope.cube_id,
                user_id=scope.owner,
                session_id=file.id,
                kind="skill" if file.kind == "skill" else "document",
                source="document",
                text=text,
                event_time=now,
                created_at=now,
                updated_at=now,
                message_id=message_id(text),
                origin=Origin(
                    file_ids=(file.id,),
                    file_name=file.name,
                    chunk=index,
                    page=chunk.page or None,
                    heading=chunk.heading or "",
                ),
            )
        )
    return records
