"""Validation of numbers in a configuration."""

import math
import re
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationInfo

__all__ = ["FromEnvironment", "check_numbers"]

_EXPONENT = re.compile(r"[-+]?\d{1,20}(?:\.\d{0,20})?[eE][-+]?\d{1,3}")
"""Numbers such as 1e3, which YAML 1.1 parses as text."""
_MAPPINGS = (dict, Mapping)
_LISTS = (list, tuple, set, frozenset, Sequence)
_UNIONS = (Union, UnionType)
_NUMBERS = (int, float)


class FromEnvironment(str):
    """Text from an environment variable: the only text that is accepted as a number."""

    __slots__ = ()


def check_numbers(model: type[BaseModel], value: Any, info: ValidationInfo) -> Any:
    """A `field_validator("*", mode="before")` that checks numbers, also those in lists and mappings."""
    return _check(model.model_fields[info.field_name or ""].annotation, value)


def _check(annotation: Any, value: Any) -> Any:
    origin = get_origin(annotation)
    if value is None:
        return value
    if origin is Annotated:
        return _check(get_args(annotation)[0], value)
    if annotation in _NUMBERS:
        return _check_number(value)
    arguments = [kind for kind in get_args(annotation) if kind not in (type(None), ...)]
    if origin in _UNIONS:
        is_number = all(_without_metadata(kind) in _NUMBERS for kind in arguments)
        return _check(arguments[0], value) if is_number or len(arguments) == 1 else value
    if origin in _MAPPINGS and isinstance(value, Mapping):
        return {name: _check(arguments[1], item) for name, item in value.items()}
    if origin in _LISTS and isinstance(value, list) and len(arguments) == 1:
        return [_check(arguments[0], item) for item in value]
    return value


def _check_number(value: Any) -> Any:
    """The value, if it is a finite number or text of an environment variable. Raises ValueError.

    Pydantic alone accepts `true` as 1, quoted text as numbers, and infinity as seconds.
    """
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}")
    if isinstance(value, str) and not isinstance(value, FromEnvironment):
        if not _EXPONENT.fullmatch(value):
            raise ValueError("must be a number, without quotes")
        value = float(value)
    if isinstance(value, int | float | FromEnvironment) and not _is_finite(value):
        raise ValueError("must be a finite number")
    return value


def _is_finite(value: float | str) -> bool:
    try:
        return math.isfinite(float(value))
    except (ValueError, OverflowError):
        return not isinstance(value, int)  # text that is no number: pydantic reports it


def _without_metadata(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
