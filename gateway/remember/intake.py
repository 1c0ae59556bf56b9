"""The intake: files of knowledge bases become memories, in the background, one after the other.

A file is in the registry with its content before its upload is answered; what a stop leaves undone the next start
finishes. Ids follow from the file's, so doing it twice makes nothing twice.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from gateway.dialect import Dialect
from gateway.errors import MemoryUnavailable, PluginUnavailable
from gateway.identity import knowledge_scope
from gateway.remember.documents import Piece, Unreadable, read_pieces
from gateway.remember.remember import Remember
from gateway.store.journal import JournalFailed
from gateway.store.registry import DELETING, Document, Registry, RegistryFailed
from gateway.text.media import without_media
from gateway.turn import Ask, Identity, Principal, Record, Scope, Turn, derived_id, message_id

__all__ = ["Intake", "background_turn", "document_records"]

_log = logging.getLogger("gateway.intake")
_PAUSE = 5.0
_TIME = 120.0  # seconds that reading one file may take
_BATCH = 200


class Intake:
    """`drained` waits until what was written can be found: only then a file is `completed`. `discard` deletes what came
    of a file, by its scope and id."""

    def __init__(
        self,
        registry: Registry,
        remember: Remember,
        dialect: Dialect,
        drained: Callable[[float], Awaitable[bool]],
        discard: Callable[[Scope, str], Awaitable[int]],
    ) -> None:
        self._registry = registry
        self._remember = remember
        self._dialect = dialect
        self._drained = drained
        self._discard = discard
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There is a new file."""
        self._wake.set()

    def screened(self, scope: Scope, records: Sequence[Record]) -> Awaitable[Sequence[Record]]:
        """Memories that come without a chat, as plugins let them be stored. Raises PluginUnavailable."""
        turn = background_turn(scope, self._dialect, records[0].session_id, records[0].created_at)
        return self._remember.screened(turn, records)

    def start(self) -> None:
        self._task = asyncio.create_task(self._work(), name="intake")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=5)

    async def _work(self) -> None:
        while True:
            try:
                self._wake.clear()
                for tenant, id_ in await self._registry.unfinished_files():
                    await self._guarded(tenant, id_)
                await self._wake.wait()
            except Exception as error:  # noqa: BLE001 — the worker must outlive any fault; it is logged whole
                _log.exception("intake_rests", extra={"cause": type(error).__name__})
                await asyncio.sleep(_PAUSE)

    async def _guarded(self, tenant: str, id_: str) -> None:
        """One file that cannot be taken in does not keep the next ones waiting."""
        try:
            await self._take_in(tenant, id_)
        except (RegistryFailed, MemoryUnavailable):
            raise
        except Exception:  # noqa: BLE001 — the worker's loop: one bad file must not stop the others; logged whole
            _log.exception("document_failed", extra={"file": id_})
            await self._registry.end_file(tenant, id_, "failed", "the file could not be taken in")

    async def _take_in(self, tenant: str, id_: str) -> None:
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
                found = await asyncio.to_thread(read_pieces, file.name, content)
        except Unreadable as error:
            await self._registry.end_file(tenant, id_, "failed", str(error))
            return
        except TimeoutError:
            await self._registry.end_file(tenant, id_, "failed", "reading the file took too long")
            return
        scope = knowledge_scope(tenant, file.cube_id)
        if await self._store(scope, file, found):
            await self._registry.end_file(tenant, id_, "completed")
        else:
            await self._discard(scope, id_)
            await self._registry.drop_files(tenant, [id_])

    async def _store(self, scope: Scope, file: Document, found: Sequence[Piece]) -> bool:
        """False if the file was deleted meanwhile. Batch after batch: what others say comes in between."""
        turn = background_turn(scope, self._dialect, file.id, file.at)
        records = document_records(scope, file, found, turn.received_at)
        for begin in range(0, len(records), _BATCH):
            while True:
                try:
                    await self._remember.add(turn, records[begin : begin + _BATCH])
                except (JournalFailed, PluginUnavailable, TimeoutError) as error:
                    _log.warning("document_waits", extra={"cause": str(error) or "timeout"})
                    await asyncio.sleep(_PAUSE)
                else:
                    break
            while not await self._drained(_TIME):
                _log.warning("document_waits", extra={"cause": "store"})
            if not await self._registry.files(scope.tenant, ids=[file.id]):
                return False
        return True


def background_turn(scope: Scope, dialect: Dialect, id_: str, at: float) -> Turn:
    """What plugins see of memories that come into the store without a chat: documents, imports, what is learnt."""
    return Turn(
        id=id_,
        started=time.perf_counter(),
        received_at=at,
        principal=Principal(scope.tenant, frozenset()),
        path="",
        headers={},
        raw=b"",
        body={},
        ask=Ask(model="", stream=False),
        dialect=dialect,
        identity=Identity(scope.owner or scope.cube_id, id_, reads=(scope,), writes=(scope,)),
    )


def document_records(scope: Scope, file: Document, found: Sequence[Piece], now: float) -> list[Record]:
    """The memories of a file, in order; they know the file, the page and the heading that they come from."""
    records = []
    for index, piece in enumerate(found):
        text = without_media(piece.text)
        place = {"page": piece.page} if piece.page else {}
        heading = {"heading": piece.heading} if piece.heading else {}
        records.append(
            Record(
                id=derived_id(scope.value, file.id, str(index)),
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
                info={"file_ids": [file.id], "file_name": file.name, "chunk": index, **place, **heading},
            )
        )
    return records
