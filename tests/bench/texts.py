"""Texts that people write: questions about themselves, tasks, memories and answers, drawn from the evaluation corpus.

Everything is made by a seeded generator, so that all servers of a round get the same texts, and each text only once.
Sentences are those of the corpus with some of their words replaced: by words as frequent as they are in the corpus, and
by invented names. Template sentences would flatter the embedder, which caches tokens.
"""

import random
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from tests.bench.tasks import TASKS
from tests.eval.corpus import FOLDER, Person, read_person

__all__ = ["PEOPLE", "Texts", "is_task"]

PEOPLE = ("en01", "en02", "en03", "en05", "en07", "zh01", "de01")
"""The people whose messages are the memories of a user."""
_PERSONAL = ("direct", "list", "changed")
_TASKS = ("new_task", "general")
_DOCS = Path(__file__).parents[2] / "docs"
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s*|\n+")
_SYLLABLES = "ka lo ven tri mar osh bel qui dra nu fen sol ta rix hal omi zer pla go wyn est bru cia jo lem".split()
_REPLACED = 0.1  # share of the words
_INVENTED = 0.2  # share of the replacements
_LEADS = (
    "Please remind me, {name} asks: ",
    "I was thinking about {name} and the {word} today. ",
    "Sorry to ask again, {name}, ",
    "{name} wants to know because of the {word}: ",
    "Can you help me remember, {name}? ",
    "For the form from {name}: ",
    "Before I forget the {word} of {name}, ",
)
_PASSAGE_TASKS = (
    "Shorten this to two sentences:\n{passage}",
    "Fix the grammar, keep the tone:\n{passage}",
    "Translate into plain German:\n{passage}",
    "Turn this into five bullet points for the {word} meeting:\n{passage}",
    "Give me a subject line for this mail to {name}:\n{passage}",
    "Which of these sentences is the clearest, and why?\n{passage}",
)


def is_task(number: int) -> bool:
    """True for nine of ten numbers of the everyday mix."""
    return number % 10 != 9


class Texts:
    """The texts of one seed."""

    def __init__(self, seed: object) -> None:
        self._random = random.Random(f"bench {seed}")

    def question(self) -> str:
        """A question whose answer is among the memories."""
        return self._fill(self._random.choice(_LEADS)) + self._random.choice(_corpus().questions)

    def task(self) -> str:
        """A task that needs no memory; most have a passage to work on."""
        corpus = _corpus()
        if self._random.random() < 0.4:
            passage = self.document(self._random.randint(200, 600))
            return self._fill(self._random.choice(_PASSAGE_TASKS), passage)
        greeting = self._random.choice(("Hi", "Hello", "Dear", "OK", "Thanks"))
        task = self._fill(self._random.choice(corpus.tasks), self.document(250))
        return f"{greeting} {self.invented_name()}, {task}"

    def everyday(self, count: int) -> Iterator[str]:
        """A personal question after nine tasks each."""
        for number in range(count):
            yield self.task() if is_task(number) else self.question()

    def questions(self, count: int) -> Iterator[str]:
        for _ in range(count):
            yield self.question()

    def note(self) -> str:
        """A message of one to three sentences about the user."""
        return self.passage(self._random.randint(60, 220))

    def passage(self, length: int) -> str:
        """Sentences of personal conversations, about `length` characters together."""
        return self._join(_corpus().sentences, length)

    def document(self, length: int) -> str:
        """Sentences of documents, about `length` characters together."""
        return self._join(_corpus().prose, length)

    def _join(self, sentences: Sequence[str], length: int) -> str:
        pieces: list[str] = []
        size = 0
        while size < length:
            pieces.append(self._vary(self._random.choice(sentences)))
            size += len(pieces[-1]) + 1
        return " ".join(pieces)[:length].rstrip()

    def invented_name(self) -> str:
        return "".join(self._random.choices(_SYLLABLES, k=self._random.choice((2, 3, 3, 4)))).capitalize()

    def _vary(self, sentence: str) -> str:
        words = sentence.split()
        for number, word in enumerate(words):
            if len(word) > 3 and self._random.random() < _REPLACED:
                words[number] = self._word()
        return " ".join(words)

    def _word(self) -> str:
        is_invented = self._random.random() < _INVENTED
        return self.invented_name() if is_invented else self._random.choice(_corpus().words)

    def _fill(self, template: str, passage: str = "") -> str:
        word = self._random.choice(_corpus().words)
        fields = {"{name}": self.invented_name(), "{word}": word, "{passage}": passage}
        for field, value in fields.items():
            template = template.replace(field, value)
        return template


class _Corpus:
    """The parts of the corpus that texts are made of."""

    @cached_property
    def _people(self) -> Sequence[Person]:
        return [read_person(FOLDER / f"{name}.txt") for name in PEOPLE]

    @cached_property
    def messages(self) -> Sequence[tuple[str, str]]:
        """Role and text of all messages."""
        sessions = (session for person in self._people for session in person.sessions)
        return [(message.role, message.content) for session in sessions for message in session]

    @cached_property
    def questions(self) -> Sequence[str]:
        return self._questions_of(_PERSONAL)

    @cached_property
    def tasks(self) -> Sequence[str]:
        return [*TASKS, *self._questions_of(_TASKS)]

    @cached_property
    def sentences(self) -> Sequence[str]:
        pieces = (piece.strip() for _, text in self.messages for piece in _SENTENCE_END.split(text))
        return list(dict.fromkeys(piece for piece in pieces if 12 <= len(piece) <= 300))

    @cached_property
    def prose(self) -> Sequence[str]:
        """The sentences of the project's documentation, without code and tables."""
        lines = (line for path in sorted(_DOCS.glob("*/*.md")) for line in path.read_text("utf-8").splitlines())
        pieces = (piece.strip() for line in lines if line[:1].isalpha() for piece in _SENTENCE_END.split(line))
        return list(dict.fromkeys(piece for piece in pieces if 30 <= len(piece) <= 300))

    @cached_property
    def words(self) -> Sequence[str]:
        """All words of some length, each as often as it occurs."""
        return [word.strip(".,:;!?()\"'") for piece in self.sentences for word in piece.split() if 4 <= len(word) <= 16]

    def _questions_of(self, categories: Sequence[str]) -> list[str]:
        questions = (question for person in self._people for question in person.questions)
        return [question.question for question in questions if question.category in categories]


_CORPUS = _Corpus()


def _corpus() -> _Corpus:
    return _CORPUS


def corpus_messages() -> Sequence[tuple[str, str]]:
    """Role and text of all messages of the people in `PEOPLE`."""
    return _CORPUS.messages


def corpus_sentences(text: str) -> list[str]:
    """The sentences of a text."""
    return [piece.strip() for piece in _SENTENCE_END.split(text) if piece.strip()]
