"""Keeps secrets out of the memory: what is stored has them replaced, before the journal sees it.

It looks for what has a form of its own: keys of known makers, bearer and JSON web tokens, private keys, passwords that
are called so, and card numbers that pass the Luhn check. What was found is counted by kind, never logged. All patterns
take time in proportion to the text, whatever the text is.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from gateway.hooks import Plugin, PluginConfigModel, Services
from gateway.turn import Record, Turn

Kind = Literal["api_keys", "tokens", "cards", "private_keys"]

_CHARACTER = "[A-Za-z0-9!@#$%^&*+/=_.-]"
_PATTERNS: dict[str, tuple[re.Pattern[str], ...]] = {
    "private_keys": (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----|\Z)",
            re.DOTALL,
        ),
    ),
    "api_keys": (
        re.compile(r"(?<![A-Za-z0-9_-])sk-(?=[A-Za-z_-]{0,200}[0-9])[A-Za-z0-9_-]{16,}"),
        re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
        re.compile(r"\bAIza[A-Za-z0-9_-]{35}"),
        re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,})"),
        re.compile(r"\bxox[abeprs]-(?=[A-Za-z-]{0,64}[0-9])[A-Za-z0-9-]{10,}"),
        re.compile(r"\b(?:hf|npm|pypi|gsk|pplx|r8|xai|shpat|rk_live|sk_live|sk_test|pk_live)[_-][A-Za-z0-9_-]{20,}"),
        re.compile(r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
        re.compile(
            r"(?i)(?<![A-Za-z])(?:api[_ -]?key|secret[_ -]?(?:access[_ -]?)?key|access[_ -]?key|client[_ -]?secret"
            r"|passw(?:or)?d|密码|口令)"
            r"['\"]?\s*(?:is|=|:|：|是|为)\s*"
            # without quotes, an expression that makes or names one is no secret
            r"(?:['\"]|(?![A-Za-z_][\w.]{0,128}[(\[]|\$?\{|<))"
            r"(?=[^\s'\"]{0,64}[0-9!@#$%^&*+-])[^\s'\",;，。；]{6,256}"
        ),
        # some words between the name and the secret, which then must look like one: "the AWS secret for item X: …"
        re.compile(
            r"(?i:(?<![A-Za-z])(?:secret|passw(?:or)?d|passphrase|api[_ -]?key|access[_ -]?key|credentials?|密码|口令"
            r"|密钥)[^\n:=：]{0,60}(?:\s(?:is|was)\s|=|:|：|是|为)\s{0,8})['\"]?"
            rf"(?={_CHARACTER}{{0,64}}[0-9])(?={_CHARACTER}{{0,64}}[a-z])(?={_CHARACTER}{{0,64}}[A-Z!@#$%^&*+/]){_CHARACTER}{{8,256}}"
        ),
    ),
    "tokens": (
        re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
        re.compile(r"(?i)\b(?:bearer|token)\s+(?=[A-Za-z0-9._~+/-]*\d)[A-Za-z0-9._~+/-]{20,}=*"),
        re.compile(r"(?<=://)[^\s/:@]{1,64}:[^\s/@]{3,256}(?=@)"),
    ),
}
_SMALL = 4096  # characters that are looked through at once; more are in a thread
# digits in the midst of Latin letters are part of a name or of a hexadecimal id
_CARD = re.compile(r"(?<![A-Za-z0-9_.-])(?:\d[ -]?){12,18}\d(?![A-Za-z0-9_-])")


class Redact(Plugin):
    """Replaces secrets in what is about to be stored."""

    critical = True

    class Config(PluginConfigModel):
        kinds: tuple[Kind, ...] = ("api_keys", "tokens", "cards", "private_keys")
        replace_with: str = "[redacted]"

    config: Config

    async def start(self, services: Services) -> None:
        self._count = services.count
        self._patterns = [
            (kind, pattern)
            for kind in ("private_keys", "api_keys", "tokens")
            if kind in self.config.kinds
            for pattern in _PATTERNS[kind]
        ]

    async def on_store(self, turn: Turn, records: Sequence[Record]) -> Sequence[Record] | None:
        size = sum(len(record.text) + 100 * len(record.info) + 100 * len(record.metadata) for record in records)
        clean = self._clean_all
        cleaned = clean(records) if size < _SMALL else await asyncio.to_thread(clean, records)
        return cleaned if any(one is not record for one, record in zip(cleaned, records, strict=True)) else None

    def _clean_all(self, records: Sequence[Record]) -> list[Record]:
        return [self._clean_record(record) for record in records]

    def _clean_record(self, record: Record) -> Record:
        """The record itself if there is nothing to hide in it."""
        text, tags = self._clean(record.text), tuple(map(self._clean, record.tags))
        info, metadata = self._clean_value(record.info), self._clean_value(record.metadata)
        if (text, tags, info, metadata) == (record.text, record.tags, record.info, record.metadata):
            return record
        return replace(record, text=text, tags=tags, info=info, metadata=metadata)

    def _clean_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._clean(value)
        if isinstance(value, Mapping):
            return {self._clean(str(key)): self._clean_value(item) for key, item in value.items()}
        return [self._clean_value(item) for item in value] if isinstance(value, list | tuple) else value

    def _clean(self, text: str) -> str:
        for kind, pattern in self._patterns:
            text, found = pattern.subn(self.config.replace_with, text)
            if found:
                self._count(kind)
        if "cards" in self.config.kinds:
            text = _CARD.sub(self._card, text)
        return text

    def _card(self, match: re.Match[str]) -> str:
        if not _passes_luhn([int(digit) for digit in match.group() if digit.isdigit()]):
            return match.group()
        self._count("cards")
        return self.config.replace_with


def _passes_luhn(digits: list[int]) -> bool:
    """ISO/IEC 7812-1, annex B."""
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[-2::-2]]
    return sum(digits[-1::-2] + doubled) % 10 == 0
