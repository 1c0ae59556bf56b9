"""The stores that the policy is fitted on: the people of the corpus, alone, among many tasks, and as newcomers."""

import random
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from gateway.evaluate.conversations import Conversations, Question
from gateway.text.form import read_form
from tests.eval.corpus import Person, as_json
from tests.eval.tasks import tasks

__all__ = ["NO_NEED", "stores", "unanswered_questions"]

_TASKS = (1000, 4000)
_NEWCOMER_SESSIONS = 24
_SMALL_TALK, _SMALL_TALK_LENGTH = 6, 160  # every so many questions; characters
_OTHERS_QUESTIONS, _FOREIGN_QUESTIONS = 90, 15
NO_NEED = ("new_task", "general", "small")
"""The categories of requests that need no memory."""


def stores(people: Sequence[Person]) -> Iterator[tuple[Conversations, list[Question]]]:
    """Each person's conversations with questions of others that need no memory; of every third person also the same
    among many tasks, of every second one the first weeks alone."""
    for number, person in enumerate(people):
        others = unanswered_questions(person, people)
        yield _conversations(_with_small_talk(as_json(person.id, [person]))), others
        if number % 3 == 0:
            count = _TASKS[number // 3 % len(_TASKS)]
            yield _conversations(_among_tasks(person, count)), others[: len(others) // 3]
        if number % 2 == 0:
            yield _conversations(_as_newcomer(person)), others[: len(others) // 3]


def unanswered_questions(person: Person, people: Sequence[Person]) -> list[Question]:
    """Requests of other people that need no memory, most of them in the person's language."""
    pick = random.Random(person.id)
    language = person.id[:2]
    found = [
        (other.id[:2] == language, question)
        for other in people
        if other.id != person.id
        for question in other.questions
        if question.category in NO_NEED
    ]
    same = [question for is_same, question in found if is_same]
    foreign = [question for is_same, question in found if not is_same]
    chosen = pick.sample(same, min(len(same), _OTHERS_QUESTIONS))
    chosen += pick.sample(foreign, min(len(foreign), _FOREIGN_QUESTIONS))
    return [
        Question.model_validate(
            {
                "id": f"of-{question.id}",
                "question": question.question,
                "category": question.category,
                "before": [{"role": role, "content": content} for role, content in question.before],
            }
        )
        for question in chosen
    ]


def _conversations(data: dict[str, Any]) -> Conversations:
    return Conversations.model_validate(data)


def _with_small_talk(data: dict[str, Any]) -> dict[str, Any]:
    """The person's conversations; every sixth question is asked again behind something else that the person said."""
    user = data["users"][0]
    pick = random.Random(user["user_id"])
    turns = [turn for session in user["sessions"] for turn in session["turns"]]
    talk = [turn for turn in turns if turn["role"] == "user" and _is_small_talk(turn["content"])]
    for question in user["questions"][::_SMALL_TALK]:
        known = {passage["turn"] for group in question["evidence"] for passage in group}
        others = [turn["content"] for turn in talk if turn["id"] not in known]
        if known and others and not question["before"]:
            asked = {"id": f"talk-{question['id']}", "question": f"{pick.choice(others)} {question['question']}"}
            user["questions"].append(question | asked)
    return data


def _is_small_talk(text: str) -> bool:
    form = read_form(text)
    return len(text) <= _SMALL_TALK_LENGTH and form.tells > 0 and form.asks == form.orders == form.code == 0


def _among_tasks(person: Person, count: int) -> dict[str, Any]:
    """The person's sessions, spread among many tasks."""
    data = as_json(f"{person.id}-tasks", [person])
    sessions = data["users"][0]["sessions"]
    language = "zh" if person.id.startswith("zh") else "en"
    begin = person.sessions[0][0].time
    for number, (task, answer) in enumerate(tasks(count, language, seed=len(sessions))):
        time = begin + timedelta(hours=number * 8)
        sessions.append(
            {
                "session_id": f"task{number}",
                "turns": [
                    {"id": f"task{number}.1", "role": "user", "content": task, "time": time.isoformat()},
                    {"id": f"task{number}.2", "role": "assistant", "content": answer, "time": time.isoformat()},
                ],
            }
        )
    sessions.sort(key=lambda session: str(session["turns"][0]["time"]) if session["turns"] else "")
    return data


def _as_newcomer(person: Person) -> dict[str, Any]:
    """A few of the person's sessions, with the questions that they answer."""
    data = as_json(f"{person.id}-new", [person])
    user = data["users"][0]
    pick = random.Random(person.id)
    kept = set(pick.sample([session["session_id"] for session in user["sessions"]], _NEWCOMER_SESSIONS))
    user["sessions"] = [session for session in user["sessions"] if session["session_id"] in kept]
    turns = {turn["id"] for session in user["sessions"] for turn in session["turns"]}
    questions = []
    for question in user["questions"]:
        groups = [[passage for passage in group if passage["turn"] in turns] for group in question["evidence"]]
        outdated = [passage for passage in question["outdated"] if passage["turn"] in turns]
        if all(groups):
            questions.append(question | {"evidence": groups, "outdated": outdated})
    user["questions"] = questions
    return data
