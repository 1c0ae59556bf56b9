"""A user's memory against a dictionary: whatever is remembered, changed and deleted, in whatever order."""

import asyncio
import itertools
import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.conftest import Scale
from tests.fakes.running import configuration, running_gateway

_NUMBERS = itertools.count()
_WORDS = st.sampled_from("boat cat garden violin 猫 生日 train 红酒 invoice Lisbon".split())


@contextmanager
def gateway_in_a_thread(folder: Path) -> Iterator[str]:
    """The URL of a gateway whose loop runs in another thread."""
    started, over = threading.Event(), threading.Event()
    found: list[str] = []

    async def serve() -> None:
        async with running_gateway(configuration(folder, "http://127.0.0.1:9/v1")) as gateway:
            found.append(gateway.url)
            started.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(60)
        yield found[0]
    finally:
        over.set()
        thread.join(60)


class MemoryOfOneUser(RuleBasedStateMachine):
    url: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__()
        self.user = f"user{next(_NUMBERS)}"
        self.held: dict[str, str] = {}  # text by id

    @rule(words=st.lists(_WORDS, min_size=1, max_size=4))
    def remember(self, words: list[str]) -> None:
        text = f"{' '.join(words)} number{next(_NUMBERS)}"
        body = {"user_id": self.user, "messages": [{"role": "user", "content": text}], "async_mode": "sync"}
        self._post("/product/add", body)
        (new,) = {id_: said for id_, said in self._listed().items() if id_ not in self.held}.items()
        assert new[1] == text
        self.held |= dict([new])

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99))
    def change(self, which: int) -> None:
        id_ = self._one(which)
        text = f"changed number{next(_NUMBERS)}"
        self._post("/product/update/memory", {"memory_id": id_, "content": text, "user_id": self.user})
        self.held[id_] = text

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99))
    def delete(self, which: int) -> None:
        id_ = self._one(which)
        self._post("/product/delete_memory", {"memory_ids": [id_], "writable_cube_ids": [self.user]})
        del self.held[id_]

    @rule()
    def forget_all(self) -> None:
        assert self._post("/v1/memory/forget", {"user": self.user})["deleted"] >= len(self.held)  # and earlier texts
        self.held.clear()

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99))
    def recall(self, which: int) -> None:
        text = self.held[self._one(which)]
        found = self._post("/product/search", {"user_id": self.user, "query": text, "relativity": 0, "top_k": 25})
        texts = [item["memory"] for group in found["data"]["text_mem"] for item in group["memories"]]
        assert texts[:1] == [text]
        assert set(texts) <= set(self.held.values())

    @invariant()
    def what_is_listed_is_what_is_held(self) -> None:
        assert self._listed() == self.held

    def _one(self, which: int) -> str:
        return sorted(self.held)[which % len(self.held)]

    def _listed(self) -> dict[str, str]:
        with urllib.request.urlopen(f"{self.url}/v1/memory/export?user={self.user}", timeout=30) as response:  # noqa: S310 — loopback
            records = [json.loads(line) for line in response.read().splitlines()]
        return {record["id"]: record["text"] for record in records if "edit_of" not in record["info"]}  # its history

    def _post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(  # noqa: S310 — loopback
            self.url + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 — as above
            return json.loads(response.read())


@pytest.mark.timeout(3_000)
def test_a_memory_is_what_a_dictionary_would_be(tmp_path: Path, scale: Scale) -> None:
    with gateway_in_a_thread(tmp_path) as url:
        MemoryOfOneUser.url = url
        run_state_machine_as_test(
            MemoryOfOneUser,
            settings=settings(
                max_examples=scale(12, 500),
                stateful_step_count=scale(12, 50),
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
