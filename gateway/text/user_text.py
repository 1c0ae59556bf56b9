"""Separates a user's own words from the text that front ends and agents write into the same messages. Pure.

The marks of known clients are data (`clients.toml`); for others the structure decides: tags that only programs write,
requests for titles and the like, messages that repeat a conversation line by line. The time is linear in the length of
the text.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import groupby
from typing import NamedTuple

import orjson

from gateway.text.clients import CLIENTS
from gateway.text.media import without_media
from gateway.text.task_forms import TASK_FORMS, TASK_SYSTEM_FORMS

__all__ = ["Author", "UserText", "is_program_request", "read_user_parts", "read_user_text"]

_READ = 4000  # characters of a message or system prompt that patterns of beginnings are matched with
_COMPARED = 300  # characters of a text that are compared with literal marks
_EDGE = 20_000  # characters at either end of a last message that are searched for marks of a task
_MAX_READ_CHARACTERS = 131_072  # characters of a message that are read; twice as many as are stored
_TAIL = 16_384  # characters of these at the end, where a question may follow a document
_INDENT = 200  # characters before a tag that are searched for the beginning of its line
_SHORT_TASK_CHARACTERS = 40  # characters of a message that may be a task as a whole
_KEPT_NAMES = r"(?:user|human|customer)[-_ ]?(?:message|query|request|input|prompt|question|text|says?|words)"


class Author(StrEnum):
    """Who wrote a message with the role `user`: the user, a program on its own account, or a tool that answers."""

    USER = "user"
    PROGRAM = "program"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class UserText:
    """The user's words in a message, and its author. `text` is empty where a program or a tool wrote it."""

    text: str
    author: Author = Author.USER


def _all(field: str) -> list[str]:
    return [mark for client in CLIENTS for mark in getattr(client, field)]


def _normalise(text: str) -> str:
    """The beginning of a text for comparison with literal marks: in lower case, white space as single blanks."""
    return " ".join(text[:_COMPARED].split()).lower()


def _beginning(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile(r"\s*(?:" + "|".join(patterns) + ")", re.IGNORECASE)


# literal marks are compared, which takes a hundredth of the time of a pattern with as many alternatives
_PROGRAMS = tuple(map(_normalise, _all("program_messages")))
_DOCUMENTS = tuple((_normalise(document.begin), document) for client in CLIENTS for document in client.documents)
_TOOL_RESULT = _beginning(_all("tool_results"))
_TASKS = tuple(map(_normalise, _all("tasks")))
_TASK_FORM = _beginning(TASK_FORMS)
_TASK_MARKS = tuple(_all("task_marks"))
_TASK_TEXTS = frozenset(text.lower() for text in _all("task_texts"))
_TASK_SYSTEMS = tuple(map(_normalise, _all("task_systems"))) + _TASKS
_TASK_SYSTEM_FORM = _beginning([*TASK_SYSTEM_FORMS, *TASK_FORMS])
_MARKED = (*_PROGRAMS, *(begin for begin, _ in _DOCUMENTS), "{")
_SPANS = tuple(span for client in CLIENTS for span in client.cut_spans)
_QUOTED = tuple(pair for client in CLIENTS for pair in client.quoted)
# words of a user in the envelope of a server that keeps its messages as JSON
_ENVELOPE = re.compile(r'\s*\{\s*"type"\s*:\s*"user_message"\s*,\s*"message"\s*:\s*"(?P<words>(?:[^"\\]|\\.)*+)"')
_KEPT = frozenset(name for client in CLIENTS for name in client.kept_tags)
# tags of material, also where a user wrote them; cut if the message has other words
_MATERIAL = frozenset(
    "context document documents source sources file files attachment attachments attached_files search_results "
    "knowledge memory memories history chat_history conversation transcript webpage article".split()
)
_CUT = frozenset(name for client in CLIENTS for name in client.cut_tags) - _MATERIAL
_TAG = re.compile(r"<([A-Za-z][\w-]{0,60}(?: instructions)?)(?:\s[^<>]{0,1000})?>")
_CLOSING = re.compile(r"</([A-Za-z][\w-]{0,60}(?: instructions)?)>")
# names of several words, one of which programs use for inserted text; others are those of web components
_PROGRAM_NAME = re.compile(r"[a-z]+(?:[-_][a-z]+)+\Z|[a-z]+(?:[A-Z][a-z]+)+\Z")
_PROGRAM_WORD = re.compile(
    r"environment|context|reminder|notification|system|session|state|status|info|details?|metadata|config|tools?|command|"
    r"output|stdout|stderr|results?|diagnostics?|selection|opened|files?|workspace|editor|ide|git|repo|hook|instructions?|"
    r"rules|memory|memories|agents?|skills?|permissions?|available|active|recent|current|attached|attachments?|cursor|"
    r"terminal|search|snippets?|policy|budget|mode|date|time|working|directory|open|visible|tabs|plan|todos?|progress|"
    r"events?|notice|warning|caveat|trace|log|logs|prompt|history|summary|knowledge|document|documents|source|sources"
)
_NAME_WORDS = re.compile(r"[A-Z]?[a-z]+")
_KEPT_NAME = re.compile(rf"{_KEPT_NAMES}\Z", re.IGNORECASE)
# a line that names who speaks: `User: hi`, `**Human**: hi`, `### User`, `<|user|>`
_USERS, _MODELS = r"user|human|用户|用戶|ユーザー", r"assistant|ai|bot|chatgpt|claude|助手|助理|アシスタント"
_ROLE_LINE = re.compile(
    rf"(?m)^[ \t>*_\[|\"'-]{{0,8}}(?:(?P<user>{_USERS})|(?P<model>{_MODELS}))[\"'*_\]|)]{{0,6}}[ \t]{{0,2}}[:：]"
    rf"|^#{{1,4}}[ \t]{{1,3}}(?:(?P<user_head>{_USERS})|(?P<model_head>{_MODELS}))[ \t:：]{{0,3}}$"
    r"|^<\|(?:(?P<user_mark>user|human)|(?P<model_mark>assistant))\|>",
    re.IGNORECASE,
)
_JSON_ROLE = re.compile(
    r"[\"']role[\"']\s{0,4}:\s{0,4}[\"'](?:(?P<user>user|human)|(?P<model>assistant|ai|model))[\"']"
)
_JSON_BEGINNING = re.compile(r"\s*[\[{]")


def read_user_text(text: str) -> UserText:
    """The user's words in a message with the role `user`. Of a very long one the beginning and the end are read."""
    if len(text) > _MAX_READ_CHARACTERS:
        text = f"{text[: _MAX_READ_CHARACTERS - _TAIL]}\n{text[-_TAIL:]}"
    is_empty = not text.strip()
    text = _remove_spans(text)
    begin = _normalise(text)
    is_result = _TOOL_RESULT.match(text[:_READ]) is not None
    if "<" not in text and not is_result and not begin.startswith(_MARKED):
        return UserText(without_media(text), Author.USER if begin or is_empty else Author.PROGRAM)
    if begin.startswith(_PROGRAMS):
        words = _inner_words(list(_parts(text)))  # some programs introduce the user's words
        return UserText(without_media(words), Author.USER if words else Author.PROGRAM)
    envelope = _ENVELOPE.match(text)
    text = _unescape(envelope["words"]) if envelope is not None else _question(text, begin)
    parts = list(_parts(text))
    if is_result:
        words = _inner_words(parts)
        return UserText(without_media(words), Author.USER if words else Author.TOOL)
    if len(parts) == 1:
        return UserText(without_media(text))
    words = _words(parts)
    if not words or _normalise(words).startswith(_PROGRAMS):
        return UserText("", Author.PROGRAM)
    if _TOOL_RESULT.match(words[:_READ]):
        return UserText("", Author.TOOL)
    return UserText(without_media(words))


def read_user_parts(texts: Sequence[str]) -> UserText:
    """The user's words in a message of several parts, which may have several authors. All parts after the head of a
    tool's result belong to that result."""
    if len(texts) == 1:
        return read_user_text(texts[0])
    if any(begin in text for text in texts for begin, _ in _SPANS):  # they may reach over several parts
        texts = [_remove_spans("\n".join(texts))]
    first = next((i for i, text in enumerate(texts) if _TOOL_RESULT.match(text[:_READ])), len(texts))
    read = [read_user_text(text) for text in texts[:first]]
    if first < len(texts):
        read.append(read_user_text("\n".join(texts[first:])))
    words = "\n".join(part.text for part in read if part.text)
    authors = {part.author for part in read if part.text or part.author is not Author.USER}
    if words or not authors:
        return UserText(words)
    return UserText("", Author.TOOL if Author.TOOL in authors else Author.PROGRAM)


def is_program_request(texts: Sequence[str], systems: Sequence[str]) -> bool:
    """True if a program makes a request of its own: by the last message, whose parts are `texts`, by a system prompt,
    or because the message repeats the conversation."""
    if any(
        _normalise(system).startswith(_TASK_SYSTEMS) or _TASK_SYSTEM_FORM.match(system[:_READ]) for system in systems
    ):
        return True
    message = "\n".join(texts)
    edges = _edges(message)
    if _begins_task(message) or any(mark in edges for mark in _TASK_MARKS):
        return True
    user_text = read_user_parts(texts)
    words = user_text.text
    if user_text.author is not Author.USER or not words:
        return False
    if words != message and _begins_task(words):
        return True
    edges = _edges(words)
    pattern = _JSON_ROLE if _JSON_BEGINNING.match(words) and "role" in edges else _ROLE_LINE
    return _repeats_conversation(pattern, edges)


def _edges(text: str) -> str:
    """The beginning and the end of a long text; a short text as it is."""
    return text if len(text) <= 2 * _EDGE else f"{text[:_EDGE]}\n{text[-_EDGE:]}"


def _begins_task(message: str) -> bool:
    begin = _normalise(message)
    if begin.startswith(_TASKS) or (len(message) <= _SHORT_TASK_CHARACTERS and begin in _TASK_TEXTS):
        return True
    return _TASK_FORM.match(message[:_READ]) is not None


def _repeats_conversation(pattern: re.Pattern[str], message: str) -> bool:
    """True if both sides of a conversation have lines in a message."""
    sides: set[str] = set()
    for match in pattern.finditer(message):
        sides.add((match.lastgroup or "").partition("_")[0])
        if len(sides) == 2:
            return True
    return False


def _question(text: str, begin: str) -> str:
    """The question of a message that contains material too; the whole text of any other message."""
    for mark, document in _DOCUMENTS:
        if not begin.startswith(mark):
            continue
        _, separator, question = text.rpartition(document.before)
        if separator and document.after:
            question = question.partition(document.after)[0]
        return question.strip() if separator else text
    return text


def _remove_spans(text: str) -> str:
    """The text without spans that programs inserted between marks other than tags."""
    for begin, end in _SPANS:
        if begin not in text:
            continue
        pieces: list[str] = []
        place = 0
        while (start := text.find(begin, place)) >= 0:
            pieces.append(text[place:start])
            stop = text.find(end, start + len(begin)) if end else -1
            place = stop + len(end) if stop >= 0 else len(text)
        text = "".join([*pieces, text[place:]]).strip()
    return text


def _unescape(words: str) -> str:
    try:
        value = orjson.loads(f'"{words}"')
    except orjson.JSONDecodeError:
        return words
    return str(value)


class _Kind(Enum):
    WORDS = 0
    KEPT = 1
    MATERIAL = 2
    CUT = 3


class _Part(NamedTuple):
    kind: _Kind
    raw: str
    inside: str = ""


def _parts(text: str) -> Iterator[_Part]:
    """A text in order: words, and the marked elements between them."""
    place = 0
    last = {match[1]: match.start() for match in _CLOSING.finditer(text)}  # of each name the last one
    for match in _TAG.finditer(text):
        name = match[1]
        if match.start() < place or last.get(name, -1) < match.end():
            continue
        kind = _kind_of(name, text, match.start())
        if kind is _Kind.WORDS:
            continue
        close = f"</{name}>"
        end = text.find(close, match.end())
        yield _Part(_Kind.WORDS, text[place : match.start()])
        place = end + len(close)
        inside = text[match.end() : end]
        words = _quoted_words(inside) if kind is _Kind.CUT else ""
        yield _Part(_Kind.WORDS, words) if words else _Part(kind, text[match.start() : place], inside)
    yield _Part(_Kind.WORDS, text[place:])


def _quoted_words(inside: str) -> str:
    """The user's words within text that a program inserted."""
    for before, behind in _QUOTED:
        _, mark, words = inside.partition(before)
        if mark:
            return words.partition(behind)[0].strip()
    return ""


def _kind_of(name: str, text: str, begin: int) -> _Kind:
    if name in _CUT:
        return _Kind.CUT
    if name in _KEPT or _KEPT_NAME.match(name):
        return _Kind.KEPT
    if name in _MATERIAL:
        return _Kind.MATERIAL
    if not _PROGRAM_NAME.match(name) or not any(
        _PROGRAM_WORD.fullmatch(word.lower()) for word in _NAME_WORDS.findall(name)
    ):
        return _Kind.WORDS
    is_first = text[max(0, begin - _INDENT) : begin].rstrip(" \t\r")[-1:] in ("", "\n", ">")
    is_code = "```" in text and text.count("```", 0, begin) % 2 == 1
    return _Kind.CUT if is_first and not is_code else _Kind.WORDS


def _inner_words(parts: Sequence[_Part]) -> str:
    return "\n".join(part.inside.strip() for part in parts if part.kind is _Kind.KEPT)


def _words(parts: Sequence[_Part]) -> str:
    """The user's words. An element with a tag for the user's words is unwrapped where a message begins with it;
    elsewhere the user wrote the tag. Material counts only in a message without other words."""
    content = [part for part in parts if part.kind is not _Kind.CUT and part.raw.strip()]
    first = next((part.kind for part in content if part.kind is not _Kind.MATERIAL), _Kind.MATERIAL)
    if first is _Kind.KEPT and _is_wrapped(parts):
        return _inner_words(parts)
    dropped = (_Kind.CUT,) if first is _Kind.MATERIAL else (_Kind.CUT, _Kind.MATERIAL)
    runs = groupby(parts, key=lambda part: part.kind in dropped)
    return "\n".join("".join(part.raw for part in run).strip() for is_dropped, run in runs if not is_dropped).strip()


def _is_wrapped(parts: Sequence[_Part]) -> bool:
    """True if a program wrote the elements: there are no words beside them, or it inserted other elements, too."""
    outside = "".join(part.raw for part in parts if part.kind is _Kind.WORDS).strip()
    has_more = any(part.kind in (_Kind.CUT, _Kind.MATERIAL) for part in parts)
    return not outside or has_more or _normalise(outside).startswith(_PROGRAMS)
