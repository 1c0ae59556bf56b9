"""Validation of numbers in a configuration."""

import math
import re
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationInfo

__all__ = ["FromEnvironment", "check_number", "check_numbers"]

_EXPONENT = re.compile(r"[-+]?\d{1,20}(?:\.\d{0,20})?[eE][-+]?\d{1,3}")
"""Numbers such as 1e3, which YAML 1.1 reads as text."""
_MAPPINGS = (dict, Mapping)
_LISTS = (list, tuple, set, frozenset, Sequence)


class FromEnvironment(str):
    """Text from an environment variable: the only text that may hold a number."""

    __slots__ = ()


def check_number(value: Any) -> Any:
    """The value, if it is a finite number or text of an environment variable. Raises ValueError.

    Pydantic alone takes `true` for 1, quoted text for numbers, and infinity for seconds.
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


def check_numbers(model: type[BaseModel], value: Any, info: ValidationInfo) -> Any:
    """A `field_validator("*", mode="before")` that checks numbers, also those in lists and mappings."""
    return _check(model.model_fields[info.field_name or ""].annotation, value)


def _check(annotation: Any, value: Any) -> Any:
    if value is None:
        return value
    if _is_number(annotation):
        return check_number(value)
    if get_origin(annotation) is Annotated:
        return _check(get_args(annotation)[0], value)
    arguments = [kind for kind in get_args(annotation) if kind not in (type(None), ...)]
    if get_origin(annotation) in (Union, UnionType) and len(arguments) == 1:
        return _check(arguments[0], value)
    if isinstance(value, Mapping) and get_origin(annotation) in _MAPPINGS:
        return {name: _check(arguments[1], item) for name, item in value.items()}
    if isinstance(value, list) and get_origin(annotation) in _LISTS and len(arguments) == 1:
        return [_check(arguments[0], item) for item in value]
    return value


def _is_finite(value: float | str) -> bool:
    try:
        return math.isfinite(float(value))
    except (ValueError, OverflowError):
        return not isinstance(value, int)  # text that is no number: pydantic says so


def _is_number(annotation: Any) -> bool:
    """True for int, float, and either of them or None."""
    if get_origin(annotation) is Annotated:
        return _is_number(get_args(annotation)[0])
    is_union = get_origin(annotation) in (Union, UnionType)
    kinds = [kind for kind in (get_args(annotation) if is_union else (annotation,)) if kind is not type(None)]
    plain: list[Any] = [get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds]
    return bool(plain) and all(kind in (int, float) for kind in plain)
