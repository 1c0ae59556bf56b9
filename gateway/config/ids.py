"""Validation of ids of users, tenants, conversations and cubes: two different ids must not look alike. Pure."""

import hashlib
import unicodedata
from typing import Final

__all__ = ["problem_of_id", "usable_id"]

_MAX_ID: Final = 256  # characters
# Default_Ignorable_Code_Point of Unicode 16 (DerivedCoreProperties.txt), and the blank pattern of Braille
_IGNORABLE = (
    *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x2800, 0x2800), (0x3164, 0x3164), (0xFE00, 0xFE0F)),
    *((0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A)),
    (0xE0000, 0xE0FFF),
)


def problem_of_id(value: str) -> str:
    """The reason why an id cannot be used, as the end of a sentence; empty for 1 to 256 visible characters in NFC."""
    if not 0 < len(value) <= _MAX_ID:
        return f"must have 1 to {_MAX_ID} characters"
    if not (value.isascii() and value.isprintable()) and any(map(_is_invisible, value)):
        return "must not hold control or invisible characters"
    if not unicodedata.is_normalized("NFC", value):
        return "must be in Unicode normal form NFC"
    if value != value.strip():
        return "must not begin or end with a space"
    return ""


def usable_id(value: str) -> str:
    """Convert an id sent by a front end to a valid one: in normal form, or its digest where it is too long or contains
    invisible characters. Empty for a blank id."""
    normal = unicodedata.normalize("NFC", value).strip()
    if not normal or not problem_of_id(normal):
        return normal
    return "id-" + hashlib.sha256(normal.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _is_invisible(character: str) -> bool:
    """True for a character rendered as nothing or as a space: ids that differ only by it look alike."""
    code = ord(character)
    is_ignorable = any(first <= code <= last for first, last in _IGNORABLE)
    category = unicodedata.category(character)
    return is_ignorable or category in ("Cc", "Cs", "Cf", "Zl", "Zp") or (code > 0x7F and category == "Zs")
