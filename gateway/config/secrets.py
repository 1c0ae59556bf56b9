"""Cleaning of pasted keys: surrounding line ends, `Bearer `, and Unicode white space are removed. Pure."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, SecretStr

__all__ = ["HeaderValue", "OptionalKey", "RequiredKey", "clean_key"]

# Unicode white space and invisible characters
_BLANKS = (
    " \t\r\n\v\f\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u200b\u200c\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
_BEARER = re.compile(r"bearer[ \t\xa0]+", re.IGNORECASE)
_UNSENDABLE = re.compile(r"[^\x20-\x7e]")
_UNSENDABLE_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def clean_key(value: str) -> str:
    """Strip white space and a `Bearer ` prefix from a key. Raises ValueError if it cannot be sent in a header."""
    key = value.strip(_BLANKS)
    if scheme := _BEARER.match(key):
        key = key[scheme.end() :].strip(_BLANKS)
    odd = _UNSENDABLE.search(key)
    if odd is not None:
        raise ValueError(f"a key cannot hold the character U+{ord(odd[0]):04X}, which no header can carry")
    return key


def _clean(value: Any) -> Any:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return clean_key(value) if isinstance(value, str) else value


def _clean_or_none(value: Any) -> Any:
    return _clean(value) or None


def _clean_header(value: Any) -> Any:
    """Strip white space from a header value. Raises ValueError if it cannot be sent in a header."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        return value
    text = text.strip(_BLANKS)
    odd = _UNSENDABLE_VALUE.search(text)
    if odd is not None:
        raise ValueError(f"a header cannot carry the character U+{ord(odd[0]):04X}")
    return text


RequiredKey = Annotated[SecretStr, BeforeValidator(_clean)]
OptionalKey = Annotated[SecretStr | None, BeforeValidator(_clean_or_none)]
HeaderValue = Annotated[SecretStr, BeforeValidator(_clean_header)]
