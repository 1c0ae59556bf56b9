"""Removes encoded data from a text: data URLs, base64, hex dumps, minified code. Pure.

Encoded bytes and generated code cannot be recalled by a question, and cost thousands of tokens in a prompt. Each is
replaced by a short label. All searches take time in proportion to the text.
"""

import re

__all__ = ["without_media"]

_LONG_WORD = 200  # characters without white space; the longest words of natural languages have fewer than 100
_ENCODED_WORD = 40  # characters of a line of base64 at least
_DUMP_DIGITS = 12  # decimal digits that a dump has at least
_MINIFIED = 400  # characters of a line of generated code or data, at least
_FOREIGN = 0.2  # share of letters outside ASCII from which a run of characters is a language without spaces
_SPACES, _MARKS = 0.08, 0.12  # share of spaces in a minified line at most, of punctuation at least
_DATA_URL = re.compile(
    r"data:(?P<kind>[a-z]+)/[a-z0-9.+-]+(?:;[a-z0-9-]{1,40}=[^;,\s\"']{1,100}){0,4}+(?:;base64,\s{0,2}[a-z0-9+/=_%-]*+"
    r"(?:\r?\n[a-z0-9+/=_-]{40,}+)*+|,[^\s\"'<>)\]}]*+)",
    re.IGNORECASE,
)
_LONGEST_URL = 2000  # characters
_LIST = re.compile(r"[\w.,;:/|'&+-]+")
_SEPARATORS = re.compile(r"[\W_]")
_WORD = re.compile(rf"\S{{{_LONG_WORD},}}+")
_ENCODED = r"[A-Za-z0-9+/_=-]"
# lines of base64 or of long hashes, as mail programs and key files wrap them
_WRAPPED = re.compile(
    rf"(?<![^\s>|]){_ENCODED}{{40,}}+(?:[ \t]*\r?\n[>| \t]*{_ENCODED}{{40,}}+){{2,}}+"
    rf"(?:\s+(?:{_ENCODED}{{1,80}}=|(?=\S*\d)(?=\S*[A-Z])(?=\S*[a-z]){_ENCODED}{{8,80}}(?=\r?\n|\Z)))?"
)
# a dump: an optional offset, then bytes in groups of 2 to 8 digits; or bytes joined by colons
_DUMP = re.compile(r"(?<![\w.,:])(?:(?:0x)?[0-9A-Fa-f]{2,8}[:,]?(?:[ \t]+|\r?\n|:|$)){16,}+")
# the same as tools print it, with the offset before and the characters behind
_DUMP_LINES = re.compile(
    r"(?m)(?:^[ \t]*(?:0x)?[0-9A-Fa-f]{4,16}:?[ \t]+(?:[0-9A-Fa-f]{2,8}[ \t]+){4,}+[^\r\n]{0,24}+(?:\r?\n|\Z)){3,}+"
)
_HEX_LETTER = re.compile("[A-Fa-f]")
_LABELS = {"image": "[image]", "audio": "[audio]"}
_DATA = "[data]"
_CODE_MARKS = re.compile(r"[{}()\[\];:=,.<>&|!?\"'/+*\\-]")


def without_media(text: str) -> str:
    """The text with `[image]`, `[audio]`, `[file]` or `[data]` in place of encoded data; most texts unchanged."""
    if "ata:" in text or "ATA:" in text:
        text = _DATA_URL.sub(lambda match: _LABELS.get(match["kind"].lower(), "[file]"), text)
    if len(text) < _LONG_WORD // 2:
        return text
    if len(text) >= _MINIFIED:
        text = "\n".join(map(_readable_line, text.split("\n")))
    longest = max(map(len, text.split()), default=0)  # most texts are done with after this and the count of digits
    if longest >= _LONG_WORD:
        text = _WORD.sub(_readable_word, text)
    if longest >= _ENCODED_WORD:
        text = _WRAPPED.sub(_readable_block, text)
    if sum(map(text.count, "0123456789")) >= _DUMP_DIGITS:
        text = _DUMP_LINES.sub(_readable_dump, text)
        text = _DUMP.sub(_readable_dump, text)
    return text


def _readable_line(line: str) -> str:
    if len(line) < _MINIFIED or line.count(" ") > _SPACES * len(line) or _is_foreign(line):
        return line
    return _DATA if len(_CODE_MARKS.findall(line)) >= _MARKS * len(line) else line


def _readable_word(match: re.Match[str]) -> str:
    word = match[0]
    if _is_foreign(word) or ("://" in word and len(word) <= _LONGEST_URL):
        return word
    is_list = _LIST.fullmatch(word) is not None and max(map(len, _SEPARATORS.split(word))) < _ENCODED_WORD
    return word if is_list else _DATA


def _readable_block(match: re.Match[str]) -> str:
    """Paths, names and rules stay: encoded bytes have few separators, and letters of both cases or digits."""
    block = match[0]
    marks = len(_SEPARATORS.findall(block))
    digits = sum(map(block.count, "0123456789"))
    is_mixed = any(map(str.isupper, block)) and any(map(str.islower, block))
    is_encoded = marks * 12 < len(block) and digits * 40 > len(block) and (is_mixed or digits * 4 > len(block))
    return _DATA if is_encoded else block


def _readable_dump(match: re.Match[str]) -> str:
    """A table of decimal numbers has no hexadecimal letters, and stays."""
    if len(_HEX_LETTER.findall(match[0])) < 8:
        return match[0]
    return _DATA + match[0][len(match[0].rstrip()) :]


def _is_foreign(text: str) -> bool:
    """True for a language that may be written without spaces: enough of its letters are outside ASCII."""
    beginning = text[:4000]
    return sum(not character.isascii() and character.isalpha() for character in beginning) > _FOREIGN * len(beginning)
