from pathlib import Path

import pytest

from gateway.evaluate.conversations import Conversations
from tests.eval.corpus import ANSWERED, CATEGORIES, FOLDER, SPLITS, CorpusError, as_json, read_person
from tests.eval.tasks import tasks

FILES = sorted(FOLDER.glob("*.txt"))
BEGIN = "# a01 Ann\n=== s001 2025-01-07 08:14\nU> my sister Hannah\nA> noted\n### questions\n"


def test_each_person_is_in_one_split() -> None:
    members = [person for split in SPLITS.values() for person in split]
    assert sorted(members) == [file.stem for file in FILES]
    assert len(members) >= 24


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_person_is_as_the_corpus_promises(file: Path) -> None:
    person = read_person(file)
    assert 40 <= len(person.sessions) <= 200
    assert 60 <= len(person.questions) <= 100
    times = [session[0].time for session in person.sessions]
    assert times == sorted(times)
    for question in person.questions:
        assert question.category in CATEGORIES
        assert bool(question.evidence) == (question.category in ANSWERED)
    Conversations.model_validate(as_json("life", [person]))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('? direct | s001.9 "Hannah" | Who?', "no message s001.9"),
        ('? direct | s001.1 "Anna" | Who?', "does not contain"),
        ("? direct | s001.1 | Who?", "evidence is"),
        ('? small | s001.1 "Hannah" | Hi', "with 1 passages"),
        ("? direct | - | Who?", "with 0 passages"),
        ("what?", "not a question"),
    ],
)
def test_a_wrong_label_is_refused_with_its_place(line: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "a01.txt"
    file.write_text(BEGIN + line + "\n", encoding="utf-8")
    with pytest.raises(CorpusError, match=reason):
        read_person(file)


def test_evidence_has_alternatives_and_what_is_outdated(tmp_path: Path) -> None:
    file = tmp_path / "a01.txt"
    label = '? changed | s001.1 "my sister" / s001.1 "Hannah"; s001.2 "noted" ! s001.1 "my" | Who?\n= Hannah\n< U> hi\n'
    file.write_text(BEGIN + label, encoding="utf-8")
    (question,) = read_person(file).questions
    assert [len(group) for group in question.evidence] == [2, 1]
    assert [passage.quote for passage in question.outdated] == ["my"]
    assert (question.answer, question.before) == ("Hannah", (("user", "hi"),))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_tasks_are_different_and_always_the_same(language: str) -> None:
    made = list(tasks(300, language))
    assert made == list(tasks(300, language))
    assert len({task for task, _ in made}) == 300
