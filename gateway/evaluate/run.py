"""Runs an evaluation: drives a gateway with conversations and questions over HTTP, as clients would.

A temporary gateway is started on a free port and an empty folder, with the configuration under test; only address,
data folder, keys and model (the offline one) are replaced. Messages are added with their times, questions are sent as
chats that do not write, and the injected block is read from their explanation.
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
from gateway.evaluate.conversations import Alternatives, Conversations, Message, Person, Question
from gateway.evaluate.measure import Score, is_current, recalled_share

__all__ = ["Client", "Failed", "evaluate", "running", "steps", "tell"]

_BATCH = 200  # messages of one request
_PATIENCE = 600.0  # seconds until all added messages are searchable
_LOAD_TIMEOUT = 120.0
_DEADLINE_MS = 10_000  # the load of this machine must not affect the measurement


class Failed(Exception):
    """The gateway did not answer as expected; the message contains its answer."""


def steps(sets: Sequence[Conversations], budgets: Sequence[int], *, everything: bool) -> int:
    """The total number of steps that `progress` is called with."""
    people = [person for conversations in sets for person in conversations.users]
    messages = sum(len(session.turns) for person in people for session in person.sessions)
    return messages + len(budgets) * sum(len(_selected_questions(person, everything)) for person in people)


async def evaluate(
    config: Config,
    sets: Sequence[Conversations],
    budgets: Sequence[int],
    progress: Callable[[int], None],
    *,
    everything: bool = False,
) -> list[Score]:
    """Run the evaluation and return all scores. `everything`: also questions that are not headline. Raises Failed."""
    scores: list[Score] = []
    async with running(config) as (client, _):
        for number, conversations in enumerate(sets):
            for person in conversations.users:
                user = f"{number}/{person.user_id}"
                await tell(client, user, person, progress)
                for question in _selected_questions(person, everything):
                    for budget in budgets:
                        injected = await _ask(client, user, question, budget)
                        scores.append(_score(conversations.dataset, person, question, budget, injected))
                        progress(1)
    return scores


class Client:
    """JSON client of a gateway. Raises Failed for any status but 200."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def post(self, path: str, body: Any, **headers: str) -> tuple[Any, str]:
        """Send a POST; return the answer and the request's id."""
        all_headers = {
            "content-type": "application/json",
            **{name.replace("_", "-"): text for name, text in headers.items()},
        }
        async with self._session.post(self._url + path, data=orjson.dumps(body), headers=all_headers) as response:
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
    """Start a gateway under test; yield a client and the gateway. Raises Failed."""
    folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="gateway-eval-")
    gateway = await asyncio.to_thread(Gateway, _test_config(config, Path(folder.name)))
    try:
        started = await gateway.start()
        if not await gateway.memory.ready(_LOAD_TIMEOUT):
            raise Failed("the memory could not be loaded; `gateway serve` with this configuration tells why")
        timeout = aiohttp.ClientTimeout(total=_PATIENCE)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            yield Client(started.url, session), gateway
    finally:
        await gateway.stop()
        await asyncio.to_thread(folder.cleanup)


def _test_config(config: Config, folder: Path) -> Config:
    recall = config.memory.recall.model_copy(
        update={"deadline_ms": _DEADLINE_MS, "cold_deadline_ms": _DEADLINE_MS, "explain_turns": 10}
    )
    return config.alone(uri=str(folder / "data"), recall=recall)


def _selected_questions(person: Person, everything: bool) -> list[Question]:
    return [question for question in person.questions if question.headline or everything]


async def tell(client: Client, user: str, person: Person, progress: Callable[[int], None]) -> None:
    """Add the messages of a person, and wait until they are searchable. Raises Failed."""
    for session in person.sessions:
        for begin in range(0, len(session.turns), _BATCH):
            turns = session.turns[begin : begin + _BATCH]
            messages = [{"role": turn.role, "content": turn.text, "chat_time": turn.time.isoformat()} for turn in turns]
            body = {"user_id": user, "session_id": session.session_id, "messages": messages, "async_mode": "async"}
            await client.post("/product/add", body)
            progress(len(turns))
    async with asyncio.timeout(_PATIENCE):
        while (await client.get("/ready"))["journal_backlog"]:  # noqa: ASYNC110 — the state is another program's
            await asyncio.sleep(0.05)


async def _ask(client: Client, user: str, question: Question, budget: int) -> Any:
    """Send a question; return the injected block from its explanation. Raises Failed if it exceeds the budget."""
    headers = {"x_memory_user": user, "x_memory_session": f"eval/{question.id}", "x_memory_mode": "read"}
    earlier = [{"role": message.role, "content": message.content} for message in question.before]
    body = {"model": "default", "messages": [*earlier, {"role": "user", "content": question.question}]}
    _, request_id = await client.post("/v1/chat/completions", body, x_memory_budget=str(budget), **headers)
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


def _texts(passages: Sequence[Alternatives], turns: Mapping[str, Message]) -> list[list[list[str]]]:
    """The texts of passages: alternatives as lists of chunks."""
    return [
        [[passage.quote] if passage.quote else turns[passage.turn].chunks for passage in group] for group in passages
    ]
