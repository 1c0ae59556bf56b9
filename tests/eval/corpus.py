"""The project's own evaluation corpus: people who use an assistant every day, as plain text files.

One file is one person. It holds dated sessions and, after them, labelled questions:

    # en01 Dana, a nurse in Leeds
    === s001 2025-01-07 08:14
    U> Can you shorten this? I have to send it to my sister Hannah tonight.
    A> ...
    === s002 2025-01-09 19:30
    ...
    ### questions
    ? direct | s001.1 "my sister Hannah" | What's my sister called?
    = Hannah

`U>`, `A>` and `T>` open a message of the user, of the assistant and of a tool; a message goes on until the next mark.
The id of a message is its session's and its number in it, tools counted (`s001.2`). Evidence names messages, with the
words that answer: `;` separates what is needed together, `/` alternatives of which one is enough, `!` precedes what is
outdated; `-` means that nothing that was said answers. `< U>` and `< A>` lines under a question are messages of the
same conversation before it. Where two people write to each other, the second line names them, the first one `U>`:
`## speakers: Anna, Tom`.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

__all__ = [
    "CATEGORIES",
    "FOLDER",
    "LANGUAGES",
    "SPLITS",
    "CorpusError",
    "Person",
    "as_json",
    "read_person",
    "read_split",
]

FOLDER = Path(__file__).parent / "life"
LANGUAGES = {"en": "English", "zh": "Chinese", "de": "German", "es": "Spanish"}
SPLITS = {
    "fit": (
        *("en01", "en02", "en03", "en04", "en05", "en06", "zh01", "zh02", "zh03", "zh04"),
        *("en15", "en16", "en17", "zh09", "zh10"),  # letters of two people, one with long answers, a notebook
    ),
    "dev": ("en07", "en08", "en09", "zh05", "zh06", "de01"),
    "test": ("en11", "en12", "en13", "zh07", "es01"),
}
ANSWERED = ("direct", "need", "earlier", "changed", "list", "asked_before", "followup", "feeling")
UNANSWERED = ("abstain", "new_task", "general", "small")
CATEGORIES = (*ANSWERED, *UNANSWERED)

_ROLES = {"U": "user", "A": "assistant", "T": "tool"}
_SESSION = re.compile(r"=== (s\d{3}) (\d{4}-\d\d-\d\d \d\d:\d\d)$")
_MARK = re.compile(r"([UAT])> ?(.*)$")
_QUESTION = re.compile(r"\? (\w+) \| (.+?) \| (.+)$")
_PASSAGE = re.compile(r'(s\d{3}\.\d+) "(.+?)"(?=\s*(?:[;/!]|$))')
_SPEAKERS = "## speakers:"
_SECONDS_BETWEEN_MESSAGES = 40


class CorpusError(Exception):
    """A file is not of this form; the message names file and line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    id: str
    role: str
    content: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Passage:
    message: str
    quote: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`evidence`: groups of alternatives; one passage of each group is needed."""

    id: str
    category: str
    question: str
    answer: str
    evidence: tuple[tuple[Passage, ...], ...]
    outdated: tuple[Passage, ...]
    before: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    id: str
    description: str
    speakers: tuple[str, ...]
    sessions: tuple[tuple[Message, ...], ...]
    questions: tuple[Question, ...]


def read_split(name: str, folder: Path = FOLDER) -> list[Person]:
    """The people of `fit`, `dev` or `test`. Raises CorpusError."""
    return [read_person(folder / f"{id_}.txt") for id_ in SPLITS[name]]


def read_person(path: Path) -> Person:
    """Raises CorpusError."""
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        end = lines.index("### questions")
    except ValueError:
        raise CorpusError(f"{path.name}: there is no line `### questions`") from None
    speakers = (
        tuple(map(str.strip, lines[1].removeprefix(_SPEAKERS).split(","))) if lines[1].startswith(_SPEAKERS) else ()
    )
    sessions = tuple(_sessions(path.name, ["", *lines[2:end]] if speakers else lines[1:end]))
    messages = {message.id: message.content for session in sessions for message in session}
    return Person(
        id=path.stem,
        description=lines[0].removeprefix("#").strip(),
        speakers=speakers,
        sessions=sessions,
        questions=tuple(_questions(path.name, path.stem, lines[end + 1 :], end + 2, messages)),
    )


def _sessions(name: str, lines: Sequence[str]) -> Iterator[tuple[Message, ...]]:
    session, begin, blocks = "", datetime.min, list[tuple[str, list[str]]]()
    last = ""
    for number, line in enumerate([*lines, "=== s999 9999-01-01 00:00"], 2):
        if header := _SESSION.match(line):
            if session:
                yield tuple(_messages(session, begin, blocks))
            session, begin, blocks = header[1], datetime.strptime(header[2], "%Y-%m-%d %H:%M"), []
            if session <= last:
                raise CorpusError(f"{name}:{number}: session {session} is not after {last}")
            last = session
        elif line.startswith("==="):
            raise CorpusError(f"{name}:{number}: a session opens with `=== s001 2025-01-07 08:14`")
        elif mark := _MARK.match(line):
            blocks.append((mark[1], [mark[2]]))
        elif blocks:
            blocks[-1][1].append(line)
        elif line.strip():
            raise CorpusError(f"{name}:{number}: text outside of a message")


def _messages(session: str, begin: datetime, blocks: Sequence[tuple[str, list[str]]]) -> Iterator[Message]:
    for number, (mark, lines) in enumerate(blocks):
        yield Message(
            id=f"{session}.{number + 1}",
            role=_ROLES[mark],
            content="\n".join(lines).strip(),
            time=begin + timedelta(seconds=_SECONDS_BETWEEN_MESSAGES * number),
        )


def _questions(
    name: str, person: str, lines: Sequence[str], first: int, messages: dict[str, str]
) -> Iterator[Question]:
    pending: dict[str, Any] | None = None
    count = 0
    for number, line in enumerate([*lines, "? end | - | end"], first):
        place = f"{name}:{number}"
        if line.startswith("? "):
            if pending:
                yield Question(**pending | {"before": tuple(pending["before"])})
            if not (parts := _QUESTION.match(line)):
                raise CorpusError(f"{place}: a question is `? category | evidence | question`")
            count += 1
            evidence, outdated = _evidence(place, parts[2], messages)
            pending = {"id": f"{person}-q{count:03}", "category": parts[1], "question": parts[3].replace("\\n", "\n")}
            pending |= {"answer": "", "evidence": evidence, "outdated": outdated, "before": []}
            if (parts[1] in ANSWERED) != bool(evidence) and parts[1] != "end":
                raise CorpusError(f"{place}: category {parts[1]!r} with {len(evidence)} passages of evidence")
        elif line.startswith("= ") and pending:
            pending["answer"] = line[2:].strip()
        elif (said := re.match(r"< ([UA])> (.+)$", line)) and pending:
            pending["before"].append((_ROLES[said[1]], said[2].replace("\\n", "\n")))
        elif line.strip():
            raise CorpusError(f"{place}: not a question, an answer (`= `) or an earlier message (`< U> `)")


def _evidence(
    place: str, text: str, messages: dict[str, str]
) -> tuple[tuple[tuple[Passage, ...], ...], tuple[Passage, ...]]:
    if text.strip() == "-":
        return (), ()
    current, _, outdated = _split_outdated(text)
    groups, rest = [list[Passage]()], current
    while rest:
        if not (match := _PASSAGE.match(rest)):
            raise CorpusError(f'{place}: evidence is `s001.1 "words of it"`, not {rest[:60]!r}')
        groups[-1].append(_checked(place, Passage(match[1], match[2]), messages))
        rest = rest[match.end() :].lstrip()
        if rest[:1] == ";":
            groups.append([])
        rest = rest[1:].lstrip()
    replaced = [_checked(place, Passage(*match), messages) for match in _PASSAGE.findall(outdated)]
    if outdated and not replaced:
        raise CorpusError(f'{place}: what is outdated is `! s001.1 "words of it"`')
    return tuple(map(tuple, groups)), tuple(replaced)


def _split_outdated(text: str) -> tuple[str, str, str]:
    match = re.search(r'"\s*!\s*(?=s\d{3}\.\d)', text)
    return (text[: match.start() + 1], "!", text[match.end() :]) if match else (text.strip(), "", "")


def _checked(place: str, passage: Passage, messages: dict[str, str]) -> Passage:
    if passage.message not in messages:
        raise CorpusError(f"{place}: there is no message {passage.message}")
    if " ".join(passage.quote.split()) not in " ".join(messages[passage.message].split()):
        raise CorpusError(f"{place}: {passage.message} does not contain {passage.quote!r}")
    return passage


def as_json(name: str, people: Sequence[Person]) -> dict[str, Any]:
    """The people in the form that `gateway eval` reads."""
    return {"dataset": name, "users": [_person_as_json(person) for person in people]}


def _person_as_json(person: Person) -> dict[str, Any]:
    return {
        "user_id": person.id,
        "sessions": [
            {
                "session_id": session[0].id.partition(".")[0],
                "turns": [
                    {
                        "id": message.id,
                        "role": message.role,
                        "speaker": _speaker(person, message),
                        "content": message.content,
                        "time": message.time.isoformat(),
                    }
                    for message in session
                    if message.role != "tool" and re.search(r"\w", message.content)
                ],
            }
            for session in person.sessions
        ],
        "questions": [
            {
                "id": question.id,
                "question": question.question,
                "category": question.category,
                "before": [{"role": role, "content": content} for role, content in question.before],
                "evidence": [
                    [{"turn": passage.message, "quote": passage.quote} for passage in group]
                    for group in question.evidence
                ],
                "outdated": [{"turn": passage.message, "quote": passage.quote} for passage in question.outdated],
            }
            for question in person.questions
        ],
    }


def _speaker(person: Person, message: Message) -> str:
    return person.speakers[message.role == "assistant"] if person.speakers else ""


def _summary(person: Person) -> str:
    messages = [message for session in person.sessions for message in session]
    categories = Counter(question.category for question in person.questions)
    counts = ", ".join(f"{name} {categories[name]}" for name in CATEGORIES)
    size = sum(len(message.content) for message in messages)
    return (
        f"{person.id}: {len(person.sessions)} sessions, {len(messages)} messages, {size} characters; "
        f"{len(person.questions)} questions: {counts}"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--json"]:
        print(json.dumps(as_json(f"life-{sys.argv[2]}", read_split(sys.argv[2])), ensure_ascii=False))
    else:
        for file in sys.argv[1:]:
            print(_summary(read_person(Path(file))))
