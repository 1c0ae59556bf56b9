"""Redacts secrets in records before they are written to the journal.

Detects secrets with a recognisable form: keys of known vendors, bearer and JSON web tokens, private keys, named
passwords, and card numbers that pass the Luhn check. They are counted by kind, never logged. All patterns take linear
time.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, TypeVar

from gateway.hooks import Plugin, PluginConfigModel, Services
from gateway.turn import Details, Origin, Record, Turn

Kind = Literal["api_keys", "tokens", "cards", "private_keys"]

_QUOTE = r"['\"`*_\s]{0,8}"
"""Quotes, Markdown markers and spaces between a name, its separator and the secret."""
_LOGIN = (
    r"(?i:(?<![A-Za-z])(?:(?:pg|db|mysql_?|redis_?)?passw(?:or)?ds?|pwd|passphrase)(?:['’]s)?(?![A-Za-z])"
    r"(?!\s(?:manager|hash|field|polic|reset|protected|less|length|strength))"
    r"|(?:密码|口令)(?!学|红包|管理|强度|找回|本))"
)
_KEY = (
    r"(?i:(?<![A-Za-z])(?:api[_ -]?key|secret[_ -]?(?:access[_ -]?)?key|access[_ -]?key|account[_ -]?key"
    r"|client[_ -]?secret)(?![A-Za-z])|密钥)"
)
_ANY_KEY = r"(?i:(?<![A-Za-z])(?:secrets?|tokens?|credentials?|keys?)(?![A-Za-z_])|密钥|令牌)"
# an unquoted expression that computes or references a secret is not itself one
_NO_EXPRESSION = r"(?![A-Za-z_][\w.]{0,128}[(\[]|(?:process\.env|os\.environ|env|self|cls)\.|\$?\{|<)"
_VALUE = r"[^\s'\"`,;，。；|\u3000-\u9fff\uff00-\uffef]"
"""A character of a password. Excludes Chinese characters, since Chinese text follows without a space."""
_AFTER_COLON = (
    rf"(?=[^\s'\"]{{0,64}}[0-9!@#$%^&*+]|[A-Za-z]{{1,64}}(?:-[A-Za-z]{{1,64}}){{2}})(?P<value>{_VALUE}{{6,256}})"
)
_STRICT = r"[A-Za-z0-9!@#$%^&*+=_.-]"
_EMAIL = r"[A-Za-z0-9_.+-]{1,64}@[A-Za-z0-9-]{1,64}\.[a-z]"
_LONG = r"[A-Za-z0-9+=_-]"
# each pattern comes with parts in casefolded form, one of which is in every text that it matches: most texts have none
_LOGIN_NAMES = ("passw", "pwd", "passphrase", "密码", "口令")
_NAMES = (*_LOGIN_NAMES, "key", "secret", "密钥")
_ANY_NAMES = ("secret", "token", "credential", "key", "密钥", "令牌")
_PATTERNS: dict[str, tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]] = {
    "private_keys": (
        (
            ("-----begin",),
            re.compile(
                r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----|\Z)",
                re.DOTALL,
            ),
        ),
    ),
    "api_keys": (
        (("sk-",), re.compile(r"(?<![A-Za-z0-9_-])sk-(?=[A-Za-z_-]{0,200}[0-9])[A-Za-z0-9_-]{16,}")),
        (("akia", "asia"), re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")),
        (("aiza",), re.compile(r"\bAIza[A-Za-z0-9_-]{35,}")),
        (("gocspx-", "whsec_", "ya29."), re.compile(r"\b(?:GOCSPX-|whsec_|ya29\.)[A-Za-z0-9_.-]{20,}")),
        (
            ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-"),
            re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,})"),
        ),
        (("xox",), re.compile(r"\bxox[abeprs]-(?=[A-Za-z-]{0,64}[0-9])[A-Za-z0-9-]{10,}")),
        (
            ("hf", "npm", "pypi", "gsk", "pplx", "r8", "xai", "shpat", "_live", "sk_test"),
            re.compile(
                r"\b(?:hf|npm|pypi|gsk|pplx|r8|xai|shpat|rk_live|sk_live|sk_test|pk_live)[_-][A-Za-z0-9_-]{20,}"
            ),
        ),
        (("sg.",), re.compile(r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}")),
        # the name and its value: "password: x", "api_key=x", "the password is x"
        (_NAMES, re.compile(rf"(?:{_LOGIN}|{_KEY}){_QUOTE}(?:=>|->|→|=|:|：){_QUOTE}{_NO_EXPRESSION}{_AFTER_COLON}")),
        (
            _NAMES,
            re.compile(
                rf"(?:{_LOGIN}|{_KEY})\s?(?:=|:|：)\s?(?P<quote>['\"`])(?!\$?\{{)(?=[^'\"`\n]{{0,64}}[0-9!@#$%^&*+])(?P<value>[^'\"`\n]{{6,256}})(?P=quote)"
            ),
        ),
        (
            _NAMES,
            re.compile(
                rf"(?:{_LOGIN}|{_KEY})['\"`]?(?:\s{{1,8}}(?:is|was)\s{{1,8}}|\s?[是为]\s?[:：]?\s?)['\"`]?{_NO_EXPRESSION}"
                rf"(?=[^\s'\"]{{0,64}}[0-9!@#$%^&*+])(?P<value>{_VALUE}{{6,256}})"
            ),
        ),
        # optional words between the name and the value, which must then look like a password
        (
            _LOGIN_NAMES,
            re.compile(
                rf"{_LOGIN}(?:[^\n:=：|→]{{0,60}}(?:\s(?:is|was)\s|=>|->|→|=|:|：|\||是|为))?{_QUOTE}"
                rf"(?!{_EMAIL}){_NO_EXPRESSION}(?={_STRICT}{{0,64}}[0-9])(?={_STRICT}{{0,64}}[a-z])(?={_STRICT}{{0,64}}[A-Z!@#$%^&*+])"
                rf"(?P<value>{_STRICT}{{8,256}})(?![(\[/])"
            ),
        ),
        (
            ("secret", "credential"),
            re.compile(
                rf"(?i:(?<![A-Za-z])(?:secret|credential)s?(?![A-Za-z_]))[^\n:=：]{{0,60}}[:=：]{_QUOTE}(?!{_EMAIL}){_NO_EXPRESSION}"
                rf"(?={_STRICT}{{0,64}}[0-9])(?={_STRICT}{{0,64}}[A-Za-z])(?={_STRICT}{{0,64}}[!@#$%^&*])"
                rf"(?P<value>{_STRICT}{{8,256}})(?![(\[/])"
            ),
        ),
        # a long random value near the name: 40 characters as in AWS keys, 24 mixed ones or 32 hexadecimal digits
        (
            _ANY_NAMES,
            re.compile(
                rf"{_ANY_KEY}[^\n]{{0,80}}?(?<![A-Za-z0-9/+_.-])(?=[A-Za-z/+]{{0,39}}[0-9])(?=[a-z0-9/+]{{0,39}}[A-Z])"
                r"(?=[A-Z0-9/+]{0,39}[a-z])(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+_.-])"
            ),
        ),
        (
            _ANY_NAMES,
            re.compile(
                rf"{_ANY_KEY}(?:(?!commit|\bsha|hash|md5|uuid)[^\n:=：|→]){{0,60}}(?:\s(?:is|was)\s|=>|->|→|=|:|：|\||是|为)"
                rf"{_QUOTE}(?P<value>(?={_LONG}{{0,64}}[0-9])(?={_LONG}{{0,64}}[a-z])(?={_LONG}{{0,64}}[A-Z]){_LONG}{{24,512}}"
                r"|[0-9a-f]{32,128})(?![A-Za-z0-9(\[/.])"
            ),
        ),
    ),
    "tokens": (
        (("eyj",), re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*")),
        (("bearer", "token"), re.compile(r"(?i)\b(?:bearer|token)\s+(?=[A-Za-z0-9._~+/-]*\d)[A-Za-z0-9._~+/-]{20,}=*")),
        (
            ("authorization",),
            re.compile(
                r"(?i:\bauthorization['\"]?\s?[:=]\s?['\"]?basic\s)"
                r"(?P<value>(?=[a-z0-9+/]{0,64}[A-Z])[A-Za-z0-9+/]{8,}={0,2})"
            ),
        ),
        (("://",), re.compile(r"(?<=://)[^\s/:@]{0,64}:[^\s/@]{3,256}(?=@)")),
    ),
}
_Group = TypeVar("_Group", bound=Record | Origin | Details)
_FIELDS_SIZE = 200  # characters of the other texts of a record, roughly
_SHORTEST = 8  # characters of a text with a secret: no pattern matches less
_SMALL = 4096  # characters that are scanned on the loop; more are scanned in a thread
# digits surrounded by Latin letters are part of a name or of a hexadecimal id; an expiry date may follow
_CARD = re.compile(
    r"(?:(?<![A-Za-z0-9.-])|(?i:(?<=card)|(?<=visa)|(?<=amex)))"
    r"(?:\d[ -]?){12,18}\d(?![A-Za-z0-9]|/\d\d|-(?!\d\d/\d\d)[A-Za-z0-9])"
)
_DIGITS = re.compile(r"\d(?:[ -]?\d){12}")  # of a card; much faster than the pattern


class Redact(Plugin):
    """Replaces secrets in records that are about to be stored."""

    critical = True

    class Config(PluginConfigModel):
        kinds: tuple[Kind, ...] = ("api_keys", "tokens", "cards", "private_keys")
        replace_with: str = "[redacted]"

    config: Config

    async def start(self, services: Services) -> None:
        self._count = services.count
        self._patterns = [
            (kind, parts, pattern)
            for kind in ("private_keys", "api_keys", "tokens")
            if kind in self.config.kinds
            for parts, pattern in _PATTERNS[kind]
        ]

    async def on_store(self, turn: Turn, records: Sequence[Record]) -> Sequence[Record] | None:
        size = sum(len(record.text) + _FIELDS_SIZE + 100 * len(record.metadata) for record in records)
        clean = self._clean_all
        cleaned = clean(records) if size < _SMALL else await asyncio.to_thread(clean, records)
        return cleaned if any(new is not record for new, record in zip(cleaned, records, strict=True)) else None

    def _clean_all(self, records: Sequence[Record]) -> list[Record]:
        return [self._clean_record(record) for record in records]

    def _clean_record(self, record: Record) -> Record:
        """A copy of the record without secrets; the record itself if it has none."""
        return self._clean_fields(record, ("text", "tags", "origin", "details", "metadata"))

    def _clean_fields(self, group: _Group, names: Iterable[str]) -> _Group:
        """A copy of a group of fields with clean texts; the group itself if all are clean."""
        values = {name: getattr(group, name) for name in names}
        clean = {name: self._clean_value(value) for name, value in values.items()}
        changes = {name: value for name, value in clean.items() if value != values[name]}
        return replace(group, **changes) if changes else group

    def _clean_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._clean(value)
        if isinstance(value, Origin | Details):
            return self._clean_fields(value, [field.name for field in fields(value)])
        if isinstance(value, Mapping):
            return {self._clean(str(key)): self._clean_value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._clean_value(item) for item in value)
        return value

    def _clean(self, text: str) -> str:
        if len(text) < _SHORTEST:
            return text
        folded = text.casefold()
        for kind, parts, pattern in self._patterns:
            if any(part in folded for part in parts):
                text, replacements = pattern.subn(self._hide, text)
                if replacements:
                    self._count(kind)
        if "cards" in self.config.kinds and _DIGITS.search(text):
            text = _CARD.sub(self._card, text)
        return text

    def _hide(self, match: re.Match[str]) -> str:
        """Replace the secret, but not the name before it."""
        start, end = match.span("value" if "value" in match.re.groupindex else 0)
        before, after = match.string[match.start() : start], match.string[end : match.end()]
        return f"{before}{self.config.replace_with}{after}"

    def _card(self, match: re.Match[str]) -> str:
        is_in_id = match.string.startswith("_", max(match.start() - 1, 0)) and match.string.startswith("_", match.end())
        if is_in_id or not _passes_luhn([int(digit) for digit in match.group() if digit.isdigit()]):
            return match.group()
        self._count("cards")
        return self.config.replace_with


def _passes_luhn(digits: list[int]) -> bool:
    """The Luhn check, ISO/IEC 7812-1, annex B."""
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[-2::-2]]
    return sum(digits[-1::-2] + doubled) % 10 == 0
