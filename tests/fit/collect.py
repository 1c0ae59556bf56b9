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
from gateway.evaluate.conversations import Conversations, Earlier, Person, Question
from gateway.evaluate.measure import letters
from gateway.evaluate.run import running, tell
from gateway.formats.base import UserTurn
from gateway.formats.conversation import Conversation, ConversationEntry, Role, read_current_turn
from gateway.identity import scope_of
from gateway.recall.query import Query, make_query
from gateway.recall.rank import RankWeights
from gateway.recall.search import CANDIDATES
from gateway.recall.signals import Match
from gateway.recall.working_set import WorkingSet

__all__ = ["Sample", "collect"]

_LAST = Earlier(role="user", content="?")
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One question: its query, how it matches the memory, and the signals of its candidates, best first.

    `groups`: for each passage that is needed, the places of the candidates that hold it. `tokens`: of each candidate.
    """

    user: str
    category: str
    query: Query
    match: Match
    signals: Floats
    groups: tuple[tuple[int, ...], ...]
    tokens: NDArray[np.int32]
    vector: Floats | None
    words_only: Floats
    ids: tuple[str, ...] = ()


async def collect(
    sets: Sequence[Conversations],
    unanswered: Sequence[Question] = (),
    progress: Callable[[str], None] = print,
) -> tuple[list[Sample], dict[str, Floats]]:
    """All questions of these sets, and the vectors of all memories; `unanswered` are asked of each person, too. Raises
    Failed."""
    samples: list[Sample] = []
    vectors: dict[str, Floats] = {}
    async with running(Config()) as (client, gateway):
        for conversations in sets:
            for person in conversations.users:
                user = f"{conversations.dataset}/{person.user_id}"
                await tell(client, user, person, lambda _: None)
                working_set = await _working_set(gateway, user)
                samples += [
                    await _sample(gateway, working_set, person, question)
                    for question in (*person.questions, *unanswered)
                ]
                vectors |= _vectors(working_set)
                progress(f"{user}: {len(working_set)} memories, {len(person.questions)} questions")
    return samples, vectors


async def _working_set(gateway: Gateway, user: str) -> WorkingSet:
    sets = gateway.memory._sets
    assert sets is not None
    return await sets.get(scope_of("default", user))


async def _sample(gateway: Gateway, working_set: WorkingSet, person: Person, question: Question) -> Sample:
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
        user=person.user_id,
        category=question.category,
        query=query,
        match=found.match,
        signals=found.signals,
        groups=tuple(_holders(texts, recall_options) for recall_options in _recall_options(person, question)),
        tokens=found.tokens.copy(),
        vector=vector,
        ids=tuple(record.id for record in records),
        words_only=np.asarray([by_row.get(row, nothing) for row in found.ranked.rows.tolist()], np.float32),
    )


def _context(question: Question) -> str:
    """The message before a question, with the beginning of its answer, as the request path reads it."""
    messages = [{"role": message.role, "content": message.content} for message in (*question.before, _LAST)]
    return read_current_turn(Conversation(messages, _entry)).context


def _entry(_: int, message: Mapping[str, Any]) -> ConversationEntry:
    if message["role"] == "assistant":
        return ConversationEntry(Role.ANSWER, answer=message["content"])
    return ConversationEntry(Role.USER, UserTurn(message["content"], ()))


def _recall_options(person: Person, question: Question) -> list[list[str]]:
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


def _holders(texts: Sequence[str], recall_options: Sequence[str]) -> tuple[int, ...]:
    return tuple(place for place, text in enumerate(texts) if any(part in text for part in recall_options))


def _vectors(working_set: WorkingSet) -> dict[str, Floats]:
    """The vector of each memory, by its id."""
    vectors = working_set._vectors
    return {id_: vectors._rows[row] * vectors._scales[row] for id_, row in working_set._row_of.items()}
