"""A user's memory against a dictionary: whatever is remembered, changed and deleted, in whatever order.

With the option `--cluster` each step goes to any of the gateways, and all of them show its effect as soon as it is
answered.
"""

import asyncio
import itertools
import json
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.conftest import Scale
from tests.fakes.running import cluster_count, configuration, running_gateway

_NUMBERS = itertools.count()
_WORDS = st.lists(
    st.sampled_from("boat cat garden violin 猫 生日 train 红酒 invoice Lisbon".split()), min_size=1, max_size=4
)
_ANY = st.integers(0, 99)


@contextmanager
def gateway_in_a_thread(folder: Path) -> Iterator[Sequence[str]]:
    """The URLs of a gateway whose loop runs in another thread, or of all gateways of a cluster."""
    started, over = threading.Event(), threading.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with running_gateway(configuration(folder, "http://127.0.0.1:9/v1")) as gateway:
            urls.extend(gateway.urls)
            started.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(60)
        yield urls
    finally:
        over.set()
        thread.join(60)


class MemoryOfOneUser(RuleBasedStateMachine):
    """`active` and `archived` are what is to be there: texts by id. `earlier`: the texts before the last change of
    those memories whose last change can be undone."""

    urls: ClassVar[Sequence[str]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.user = f"user{next(_NUMBERS)}"
        self.active: dict[str, str] = {}
        self.archived: dict[str, str] = {}
        self.earlier: dict[str, str] = {}

    @rule(words=_WORDS, at=_ANY)
    def remember(self, words: list[str], at: int) -> None:
        text = f"{' '.join(words)} number{next(_NUMBERS)}"
        body = {"user_id": self.user, "messages": [{"role": "user", "content": text}], "async_mode": "sync"}
        self._ask(at, "POST", "/product/add", body)
        (new,) = {id_: new for id_, new in self._listed(at).items() if id_ not in self.active}.items()
        assert new[1] == text
        self.active |= dict([new])

    @rule(words=_WORDS, at=_ANY)
    def add(self, words: list[str], at: int) -> None:
        text = f"{' '.join(words)} number{next(_NUMBERS)}"
        (entry,) = self._ask(at, "POST", "/v1/memory", {"user": self.user, "text": text})["data"]
        self.active[entry["id"]] = text

    @precondition(lambda self: self.active)
    @rule(which=_ANY, at=_ANY)
    def update(self, which: int, at: int) -> None:
        id_, text = _choose(self.active, which), f"changed number{next(_NUMBERS)}"
        self._ask(at, "POST", "/product/update/memory", {"memory_id": id_, "content": text, "user_id": self.user})
        self.earlier[id_], self.active[id_] = self.active[id_], text

    @precondition(lambda self: self.active)
    @rule(which=_ANY, at=_ANY)
    def edit(self, which: int, at: int) -> None:
        id_, text = _choose(self.active, which), f"edited number{next(_NUMBERS)}"
        self._ask(at, "PATCH", f"/v1/memory/{id_}", {"text": text})
        self.earlier[id_], self.active[id_] = self.active[id_], text

    @precondition(lambda self: self.earlier)
    @rule(which=_ANY, at=_ANY)
    def undo(self, which: int, at: int) -> None:
        id_ = _choose(self.earlier, which)
        self._ask(at, "POST", f"/v1/memory/undo/{id_}", {})
        self.active[id_] = self.earlier.pop(id_)

    @precondition(lambda self: self.active)
    @rule(which=_ANY, at=_ANY)
    def archive(self, which: int, at: int) -> None:
        id_ = _choose(self.active, which)
        self._ask(at, "PATCH", f"/v1/memory/{id_}", {"status": "archived"})
        self.archived[id_] = self.active.pop(id_)
        self.earlier.pop(id_, None)

    @precondition(lambda self: self.archived)
    @rule(which=_ANY, at=_ANY)
    def restore(self, which: int, at: int) -> None:
        id_ = _choose(self.archived, which)
        self._ask(at, "PATCH", f"/v1/memory/{id_}", {"status": "activated"})
        self.active[id_] = self.archived.pop(id_)

    @precondition(lambda self: self.active)
    @rule(which=_ANY, at=_ANY)
    def delete(self, which: int, at: int) -> None:
        id_ = _choose(self.active, which)
        self._ask(at, "POST", "/product/delete_memory", {"memory_ids": [id_], "writable_cube_ids": [self.user]})
        del self.active[id_]
        self.earlier.pop(id_, None)

    @rule(at=_ANY)
    def forget_all(self, at: int) -> None:
        deleted = self._ask(at, "POST", "/v1/memory/forget", {"user": self.user})["deleted"]
        assert deleted >= len(self.active) + len(self.archived)  # and earlier texts
        for texts in (self.active, self.archived, self.earlier):
            texts.clear()

    @precondition(lambda self: self.active)
    @rule(which=_ANY, at=_ANY)
    def recall(self, which: int, at: int) -> None:
        text = self.active[_choose(self.active, which)]
        found = self._ask(
            at, "POST", "/product/search", {"user_id": self.user, "query": text, "relativity": 0, "top_k": 25}
        )
        texts = [item["memory"] for group in found["data"]["text_mem"] for item in group["memories"]]
        assert texts[:1] == [text]
        assert set(texts) <= set(self.active.values())

    @invariant()
    def all_gateways_list_what_is_to_be_there(self) -> None:
        for at in range(len(self.urls)):
            assert self._listed(at) == self.active
            assert self._listed(at, archived=True).items() >= self.archived.items()

    def teardown(self) -> None:
        """What is exported is what is to be there, without the texts before changes."""
        for at in range(len(self.urls)):
            records = [json.loads(line) for line in self._read(at, "/v1/memory/export").splitlines()]
            texts = {record["id"]: record["text"] for record in records if "edit_of" not in record["info"]}
            assert texts == self.active | self.archived

    def _listed(self, at: int, *, archived: bool = False) -> dict[str, str]:
        page = json.loads(self._read(at, "/v1/memory/list", limit=1000, archived=archived))
        return {entry["id"]: entry["text"] for entry in page["data"]}

    def _read(self, at: int, path: str, **query: Any) -> bytes:
        url = f"{self.urls[at % len(self.urls)]}{path}?{urlencode({'user': self.user, **query})}"
        with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 — loopback
            content: bytes = response.read()
            return content

    def _ask(self, at: int, method: str, path: str, body: Any) -> Any:
        request = urllib.request.Request(  # noqa: S310 — loopback
            self.urls[at % len(self.urls)] + path,
            json.dumps(body).encode(),
            {"content-type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 — as above
            return json.loads(response.read())


def _choose(texts: dict[str, str], which: int) -> str:
    """The id of one of these memories. By their order: ids differ from run to run, and steps must not."""
    return list(texts)[which % len(texts)]


@pytest.mark.timeout(3_000)
def test_a_memory_is_what_a_dictionary_would_be(tmp_path: Path, scale: Scale) -> None:
    with gateway_in_a_thread(tmp_path) as urls:
        MemoryOfOneUser.urls = urls
        run_state_machine_as_test(
            MemoryOfOneUser,
            settings=settings(
                max_examples=scale(12, 500) if cluster_count() == 1 else scale(6, 60),
                stateful_step_count=scale(12, 50),
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
