import asyncio
import dataclasses

from gateway.config import RecallConfig
from gateway.embedding.embedders import EmbedFailed, LocalEmbedder
from gateway.recall.recall import Recall
from gateway.recall.startup import Startup
from gateway.recall.working_sets import WorkingSets
from gateway.storage.rows import LoadedRows
from gateway.telemetry import Telemetry
from gateway.turn import MemoryMode, MemoryStatus, Scope
from tests.fakes.made import SCOPE, turn
from tests.unit.recall.test_working_sets import Store

SHORT = RecallConfig(deadline_ms=200, cold_deadline_ms=200)


class BrokenStore(Store):
    async def load(self, scope: Scope) -> LoadedRows:
        raise ZeroDivisionError


class NoEmbedder(LocalEmbedder):
    async def embed_query(self, text: str):  # type: ignore[no-untyped-def]  # it never returns
        raise EmbedFailed("out")


class Only:
    """Embedders of which there is one."""

    def __init__(self, embedder: LocalEmbedder) -> None:
        self.current = embedder

    def named(self, name: str) -> LocalEmbedder:
        return self.current


async def nothing(scopes: object) -> None:
    pass


def recall(store: Store | None, config: RecallConfig = SHORT) -> Recall:
    made = Recall(Only(NoEmbedder()), config, Telemetry(), Startup(lambda: "loading", 0.0), nothing)  # type: ignore[arg-type]  # of this test's own
    if store is not None:
        options = {"max_rows": 9, "max_bytes": 10**9}
        made.ready(WorkingSets(store, Telemetry(), **options))  # type: ignore[arg-type]  # a store of this test's own
    return made


async def test_it_never_raises_and_tells_what_happened() -> None:
    asked = turn("What is my stored fact?")
    store = Store()
    store.gate.clear()
    cases = [(None, "loading"), (store, "deadline"), (BrokenStore(), "fault")]
    for made, reason in cases:
        recalled = await recall(made).recall(asked)
        assert (recalled.status, recalled.reason) == (MemoryStatus.DEGRADED, reason)


async def test_a_user_whose_memories_are_loaded_first_is_waited_for_longer() -> None:
    store = Store()
    store.gate.clear()
    made = recall(store, RecallConfig(deadline_ms=50, cold_deadline_ms=10_000))
    asyncio.get_running_loop().call_later(0.2, store.gate.set)
    assert (await made.recall(turn("What is my stored fact?"))).memories
    assert made.deadline([SCOPE]) == 0.05, "and then no more"


async def test_without_vectors_it_is_partial() -> None:
    recalled = await recall(Store()).recall(turn("What is my stored fact?"))
    assert recalled.status is MemoryStatus.PARTIAL
    assert recalled.memories[0].record.text == "stored fact"


async def test_who_does_not_read_recalls_nothing() -> None:
    made = recall(Store())
    assert (await made.recall(turn("x", identity=None))).status is MemoryStatus.OFF
    assert (await made.recall(turn("x", mode=MemoryMode.WRITE))).status is MemoryStatus.OFF
    assert (await made.recall(turn(""))).reason == "no_query"


async def test_a_step_of_a_tool_loop_gets_what_its_turn_got() -> None:
    store = Store()
    made = recall(store)
    first = turn("stored fact?", {"messages": [{"role": "user", "content": "stored fact?"}], "tools": []})
    recalled = await made.recall(first)
    store.rows = []
    step = dataclasses.replace(first, ask=dataclasses.replace(first.ask, is_step=True))
    assert await made.recall(step) is recalled
