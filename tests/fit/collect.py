"""Collects what recall sees of each labelled question: candidates with their signals, and which of them are evidence.

The memory is filled through a gateway as clients fill it; then its working sets are searched directly.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.app import Gateway
from gateway.config import Config
from gateway.dialect import UserTurn
from gateway.evaluate.conversations import Conversations, Earlier, Person, Question
from gateway.evaluate.measure import letters
from gateway.evaluate.run import running, tell
from gateway.identity import scope_of
from gateway.recall.query import Query, make_query
from gateway.recall.rank import RankWeights
from gateway.recall.search import CANDIDATES
from gateway.recall.signals import Match
from gateway.recall.working_set import WorkingSet
from gateway.wire.dialects.conversation import Entry, Role, read_conversation

__all__ = ["Sample", "StoredText", "collect"]

_LAST = Earlier(role="user", content="?")
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One question: its query, how it matches the memory, and the signals of its candidates, best first.

    `groups`: for each passage that is needed, the places of the candidates that hold it. `tokens`: of each candidate.
    """

    dataset: str
    user: str
    id: str
    category: str
    query: Query
    match: Match
    signals: Floats
    groups: tuple[tuple[int, ...], ...]
    tokens: NDArray[np.int32]
    texts: tuple[str, ...]
    vector: Floats | None
    words_only: Floats
    ids: tuple[str, ...] = ()
    answers: NDArray[np.int32] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredText:
    """One stored memory: what its worth is estimated from. `is_evidence`: it answers a question about the user."""

    user: str
    text: str
    form: int
    tokens: int
    is_from_user: bool
    is_evidence: bool
    id: str = ""
    vector: Floats | None = None


async def collect(
    sets: Sequence[Conversations],
    unanswered: Sequence[Question] = (),
    progress: Callable[[str], None] = print,
) -> tuple[list[Sample], list[StoredText]]:
    """All questions of these sets; `unanswered` are asked of each person, too. Raises Failed."""
    samples: list[Sample] = []
    stored: list[StoredText] = []
    async with running(Config()) as (client, gateway):
        for conversations in sets:
            for person in conversations.users:
                user = f"{conversations.dataset}/{person.user_id}"
                await tell(client, user, person, lambda _: None)
                working_set = await _working_set(gateway, user)
                samples += [
                    await _sample(gateway, working_set, conversations.dataset, person, question)
                    for question in (*person.questions, *unanswered)
                ]
                stored += _stored_texts(working_set, person)
                progress(f"{user}: {len(working_set)} memories, {len(person.questions)} questions")
    return samples, stored


async def _working_set(gateway: Gateway, user: str) -> WorkingSet:
    return await gateway.memory._sets.get(scope_of("default", user))


async def _sample(
    gateway: Gateway, working_set: WorkingSet, dataset: str, person: Person, question: Question
) -> Sample:
    now = max(turn.time for session in person.sessions for turn in session.turns).timestamp() + 86_400
    query = make_query(question.question, _context(question), now)
    embedder = gateway.memory._embedders.current
    vector = await embedder.embed_query(query.text) if query.text else None
    found = working_set.candidates(query, vector, CANDIDATES, RankWeights(), scale=embedder.scale)
    records = working_set._at(found.ranked.rows.tolist())
    wordless = working_set.candidates(query, None, CANDIDATES, RankWeights(), scale=embedder.scale)
    by_row = dict(zip(wordless.ranked.rows.tolist(), wordless.signals, strict=True))
    nothing = np.full(found.signals.shape[1], np.nan, np.float32)
    texts = [letters(record.text) for record in records]
    return Sample(
        dataset=dataset,
        user=person.user_id,
        id=question.id,
        category=question.category,
        query=query,
        match=found.match,
        signals=found.signals,
        answers=found.answers,
        groups=tuple(_holders(texts, wanted) for wanted in _wanted(person, question)),
        tokens=found.tokens.copy(),
        texts=tuple(record.text for record in records),
        vector=vector,
        ids=tuple(record.id for record in records),
        words_only=np.asarray([by_row.get(row, nothing) for row in found.ranked.rows.tolist()], np.float32),
    )


def _context(question: Question) -> str:
    """The message before a question, with the beginning of its answer, as the request path reads it."""
    return read_conversation(
        [{"role": message.role, "content": message.content} for message in (*question.before, _LAST)], _entry
    ).context


def _entry(_: int, message: Mapping[str, Any]) -> Entry:
    if message["role"] == "assistant":
        return Entry(Role.ANSWER, answer=message["content"])
    return Entry(Role.USER, UserTurn(message["content"], ()))


def _wanted(person: Person, question: Question) -> list[list[str]]:
    """For each passage that is needed, the texts of which a memory must hold one."""
    turns = {turn.id: turn for session in person.sessions for turn in session.turns}
    return [
        [
            letters(text)
            for passage in group
            for text in ([passage.quote] if passage.quote else turns[passage.turn].chunks)
        ]
        for group in question.evidence
    ]


def _holders(texts: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...]:
    return tuple(place for place, text in enumerate(texts) if any(part in text for part in wanted))


def _stored_texts(working_set: WorkingSet, person: Person) -> list[StoredText]:
    personal = [
        part
        for question in person.questions
        if question.category not in ("earlier", "earlier_answer")
        for wanted in _wanted(person, question)
        for part in wanted
    ]
    columns = working_set._columns
    rows = []
    for record in working_set.records():
        row = working_set._row_of[record.id]
        text = letters(record.text)
        rows.append(
            StoredText(
                user=person.user_id,
                text=record.text,
                form=int(columns["form"][row]),
                tokens=int(columns["tokens"][row]),
                is_from_user=record.source == "user",
                is_evidence=any(part in text for part in personal),
                id=record.id,
                vector=working_set._vectors._rows[row] * working_set._vectors._scales[row],
            )
        )
    return rows
