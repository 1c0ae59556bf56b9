"""Extraction of memories from given messages while a caller waits, without the queue of the background worker."""

from collections.abc import Callable, Sequence
from functools import partial

from gateway.concurrency.offload import offload
from gateway.extraction import items
from gateway.extraction.items import Item
from gateway.extraction.reconcile import Decision
from gateway.extraction.result import build_result
from gateway.extraction.window import window_of
from gateway.llm.client import ModelClient
from gateway.memory.kinds import kind_of
from gateway.memory.record import Record
from gateway.text.injection import suspicions
from gateway.turn import Scope

__all__ = ["Extractor"]

_WINDOW_TOKENS = 8000  # tokens of messages in one request to the model
_MAX_WINDOWS = 4  # windows (requests to the model) per call


class Extractor:
    """Extracts items with a model. `count` counts tokens; `timeout`: of one question to the model, in seconds."""

    def __init__(self, model: ModelClient, count: Callable[[str], int], timeout: float) -> None:
        self._model = model
        self._count = count
        self._timeout = timeout

    async def extract(self, records: Sequence[Record]) -> list[Item] | None:
        """Extract items from messages, one window at a time; None if the model gives no answer at all."""
        unique_items = dict[tuple[str, str], Item]()
        size = sum(len(record.text) for record in records)
        previous, remaining = list[Record](), await offload(partial(_drop_suspicious, records), size)
        is_answered = False
        for _ in range(_MAX_WINDOWS):
            if not remaining:
                break
            window = window_of(previous, remaining, _WINDOW_TOKENS, self._count)
            answer = await self._model.ask(items.INSTRUCTIONS, window.text, items.SCHEMA, timeout=self._timeout)
            if answer is None:
                break
            is_answered = True
            for item in (await offload(partial(items.read_items, answer, window), size))[0]:
                unique_items.setdefault((item.kind, item.text), item)
            previous, remaining = list(window.new), remaining[len(window.new) :]
        return list(unique_items.values()) if is_answered else None

    async def build_records(
        self, scope: Scope, session_id: str, messages: Sequence[Record], now: float
    ) -> tuple[tuple[Record, ...], list[Record]]:
        """New records of the facts in stored messages, linked to these; and the messages that they rest on. Facts that
        only repeat a message are left out."""
        sources = [
            record for record in messages if record.scope == scope.value and kind_of(record.kind).is_extraction_source
        ]
        message_texts = {record.text for record in messages}
        decisions = [
            Decision(item, "unrelated") for item in await self.extract(sources) or () if item.text not in message_texts
        ]
        return build_result(scope, session_id, decisions, now).added, sources


def _drop_suspicious(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if not suspicions(record.text)]
