"""Drive a gateway with conversations and questions, as clients would: over HTTP, through the whole path.

A gateway of its own is started on a free port and an empty folder, with the configuration under test; only where it
listens, where the memory lies, who may call and which model answers (the stand-in) are replaced. Messages are added
with their times, questions are asked as chats that do not write, and what was injected is read from their explanation.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from gateway.app import Gateway
from gateway.config import Config
from gateway.evaluate.conversations import Alternatives, Conversations, Person, Question, Said
from gateway.evaluate.measure import Score, is_current, recalled_share

__all__ = ["Client", "Failed", "evaluate", "running", "steps", "tell"]

_BATCH = 200  # messages of one request
_PATIENCE = 600.0  # seconds until all that was added can be found
_LOADING = 120.0
_DEADLINE_MS = 10_000  # what is measured is what is found, not how busy this machine is


class Failed(Exception):
    """The gateway did not do its part; the message says what it answered."""


def steps(sets: Sequence[Conversations], budgets: Sequence[int], *, everything: bool) -> int:
    """How often `progress` will be called."""
    people = [person for conversations in sets for person in conversations.users]
    said = sum(len(session.turns) for person in people for session in person.sessions)
    return said + len(budgets) * sum(len(_asked(person, everything)) for person in people)


async def evaluate(
    config: Config,
    sets: Sequence[Conversations],
    budgets: Sequence[int],
    progress: Callable[[int], None],
    *,
    everything: bool = False,
) -> list[Score]:
    """All scores. `everything`: also the questions that are not headline. Raises Failed."""
    scores: list[Score] = []
    async with running(config) as (client, _):
        for number, conversations in enumerate(sets):
            for person in conversations.users:
                user = f"{number}/{person.user_id}"
                await tell(client, user, person, progress)
                for question in _asked(person, everything):
                    for budget in budgets:
                        injected = await _ask(client, user, question, budget)
                        scores.append(_score(conversations.dataset, person, question, budget, injected))
                        progress(1)
    return scores


class Client:
    """Sends JSON to a gateway. Raises Failed where it does not answer with 200."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def post(self, path: str, body: Any, **headers: str) -> tuple[Any, str]:
        """The answer, and the request's id."""
        told = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        async with self._session.post(self._url + path, data=orjson.dumps(body), headers=told) as response:
            if response.status != 200:
                raise Failed(f"{path} answered {response.status}: {(await response.text())[:300]}")
            return orjson.loads(await response.read()), response.headers["x-gateway-request-id"]

    async def get(self, path: str) -> Any:
        async with self._session.get(self._url + path) as response:
            if response.status != 200:
                raise Failed(f"{path} answered {response.status}: {(await response.text())[:300]}")
            return orjson.loads(await response.read())


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[tuple[Client, Gateway]]:
    """A gateway under test that answers, and a client of it. Raises Failed."""
    folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="gateway-eval-")
    gateway = await asyncio.to_thread(Gateway, _under_test(config, Path(folder.name)))
    try:
        started = await gateway.start()
        if not await gateway.memory.ready(_LOADING):
            raise Failed("the memory could not be loaded; `gateway serve` with this configuration tells why")
        timeout = aiohttp.ClientTimeout(total=_PATIENCE)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            yield Client(started.url, session), gateway
    finally:
        await gateway.stop()
        await asyncio.to_thread(folder.cleanup)


def _under_test(config: Config, folder: Path) -> Config:
    recall = config.memory.recall.model_copy(
        update={"deadline_ms": _DEADLINE_MS, "cold_deadline_ms": _DEADLINE_MS, "explain_turns": 10}
    )
    return config.alone(uri=str(folder / "data"), recall=recall)


def _asked(person: Person, everything: bool) -> list[Question]:
    return [question for question in person.questions if question.headline or everything]


async def tell(client: Client, user: str, person: Person, progress: Callable[[int], None]) -> None:
    """Add what a person said, and wait until it can be found. Raises Failed."""
    for session in person.sessions:
        for begin in range(0, len(session.turns), _BATCH):
            turns = session.turns[begin : begin + _BATCH]
            messages = [{"role": one.role, "content": one.text, "chat_time": one.time.isoformat()} for one in turns]
            body = {"user_id": user, "session_id": session.session_id, "messages": messages, "async_mode": "async"}
            await client.post("/product/add", body)
            progress(len(turns))
    async with asyncio.timeout(_PATIENCE):
        while (await client.get("/ready"))["journal_backlog"]:  # noqa: ASYNC110 — it is another program's state
            await asyncio.sleep(0.05)


async def _ask(client: Client, user: str, question: Question, budget: int) -> Any:
    """What was injected for a question."""
    told = {"x_memory_user": user, "x_memory_session": f"eval/{question.id}", "x_memory_mode": "read"}
    earlier = [{"role": message.role, "content": message.content} for message in question.before]
    body = {"model": "default", "messages": [*earlier, {"role": "user", "content": question.question}]}
    _, request_id = await client.post("/v1/chat/completions", body, x_memory_budget=str(budget), **told)
    injected = (await client.get(f"/v1/memory/explain/{request_id}"))["injected"]
    if injected["tokens"] > budget:
        raise Failed(f"question {question.id}: {injected['tokens']} tokens were injected, the budget is {budget}")
    return injected


def _score(dataset: str, person: Person, question: Question, budget: int, injected: Any) -> Score:
    turns = {turn.id: turn for session in person.sessions for turn in session.turns}
    evidence, outdated = _texts(question.evidence, turns), _texts(question.outdated, turns)
    return Score(
        dataset=dataset,
        user_id=person.user_id,
        question_id=question.id,
        category=question.category,
        budget=budget,
        recall=recalled_share(injected["text"], evidence) if evidence else None,
        current=is_current(injected["text"], evidence, outdated) if outdated else None,
        tokens=injected["tokens"],
        memories=injected["count"],
        standing_tokens=injected["standing_tokens"],
        standing_memories=injected["standing_count"],
    )


def _texts(passages: Sequence[Alternatives], turns: Mapping[str, Said]) -> list[list[list[str]]]:
    """Passages as the texts that are looked for: alternatives in chunks."""
    return [
        [[passage.quote] if passage.quote else turns[passage.turn].chunks for passage in group] for group in passages
    ]
