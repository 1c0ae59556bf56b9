"""Numbers of a configuration: what YAML writes as a number, or an environment variable that holds one."""

import math
import re
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationInfo

__all__ = ["FromEnvironment", "check_number", "check_numbers"]


_EXPONENT = re.compile(r"[-+]?\d{1,20}(?:\.\d{0,20})?[eE][-+]?\d{1,3}")


class FromEnvironment(str):
    """A value of the file in which an environment variable was replaced: text that may stand for a number."""

    __slots__ = ()


def check_number(value: Any) -> Any:
    """The value itself, if it may stand for a number. Raises ValueError: pydantic would take `true` for 1, "1" for 1,
    and an endless number for seconds."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}")
    if isinstance(value, str) and not isinstance(value, FromEnvironment):
        if not _EXPONENT.fullmatch(value):  # which YAML 1.1 reads as text, unlike everybody
            raise ValueError("must be a number, without quotes")
        value = float(value)
    if isinstance(value, int | float | FromEnvironment) and not _is_finite(value):
        raise ValueError("must be a finite number")
    return value


def check_numbers(model: type[BaseModel], value: Any, info: ValidationInfo) -> Any:
    """A `field_validator("*", mode="before")`: the check for each field that is a number."""
    field = model.model_fields[info.field_name or ""]
    return check_number(value) if value is not None and _is_number(field.annotation) else value


def _is_finite(value: float | str) -> bool:
    try:
        return math.isfinite(float(value))
    except (ValueError, OverflowError):
        return not isinstance(value, int)  # text that is no number: pydantic says so


def _is_number(annotation: Any) -> bool:
    """True for int, float, and either of them or None."""
    if get_origin(annotation) is Annotated:
        return _is_number(get_args(annotation)[0])
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not type(None)]
    plain: list[Any] = [get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in kinds]
    return bool(plain) and all(kind in (int, float) for kind in plain)
