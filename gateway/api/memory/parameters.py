"""Parses the query parameters of the memory API, and its bodies. Errors name the parameter or field."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from gateway.config import LimitsConfig
from gateway.errors import BadRequest
from gateway.memory.kinds import KINDS
from gateway.memory.record import Record
from gateway.memory.versions import is_valid_at
from gateway.server.guard import read_json
from gateway.server.query_time import moment_in

__all__ = [
    "MAX_LIMIT",
    "Position",
    "build_filter",
    "decode_cursor",
    "decode_position",
    "encode_cursor",
    "read_filter",
    "read_flag",
    "read_kinds",
    "read_limit",
    "read_model",
]

MAX_LIMIT: Final = 1000
_DEFAULT_LIMIT: Final = 100
_MAX_CURSOR: Final = 400  # characters
_MAX_NAME: Final = 256  # characters
_B = TypeVar("_B", bound=BaseModel)

Position = tuple[float, int, str]
"""A place in a list of memories: a time, the number of a part, and an id."""


def read_kinds(text: str, name: str = "kind") -> Sequence[str]:
    """The kinds in a list with commas; all kinds if it is empty. Raises BadRequest."""
    requested = tuple(kind for kind in text.split(",") if kind)
    if any(kind not in KINDS for kind in requested):
        raise BadRequest(f"{name}: there are {', '.join(KINDS)}", param=name)
    return requested or tuple(KINDS)


def read_limit(query: Mapping[str, str]) -> int:
    """The number of items of a page. Raises BadRequest."""
    text = query.get("limit", str(_DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LIMIT))) or not 0 < int(text) <= MAX_LIMIT:
        raise BadRequest(f"limit: a number from 1 to {MAX_LIMIT}", param="limit")
    return int(text)


def read_flag(query: Mapping[str, str], name: str) -> bool:
    """A flag of a query; False if it is not given. Raises BadRequest."""
    text = query.get(name, "false").lower()
    if text not in ("true", "false", "1", "0"):
        raise BadRequest(f"{name}: true or false", param=name)
    return text in ("true", "1")


def read_filter(query: Mapping[str, str]) -> Callable[[Record], bool]:
    """The filter of a list: by status, kind, conversation, cube and time. Raises BadRequest."""
    return build_filter(
        query.get("kind", ""),
        query.get("as_of", ""),
        is_archived=read_flag(query, "archived"),
        session=_read_name(query, "session"),
        cube=_read_name(query, "cube"),
    )


def build_filter(
    kind: str, as_of_text: str, *, is_archived: bool, session: str = "", cube: str = ""
) -> Callable[[Record], bool]:
    """The filter of a list: kinds with commas, the time at which memories were valid, else their status; an empty text
    sets no condition. Raises BadRequest."""
    kinds = frozenset(read_kinds(kind))
    as_of = moment_in(as_of_text, 0.0, "as_of") if as_of_text else None
    status = "archived" if is_archived else "activated"

    def allows(record: Record) -> bool:
        is_selected = record.status == status if as_of is None else is_valid_at(record, as_of)
        is_of_place = session in ("", record.session_id) and cube in ("", record.cube_id)
        return is_selected and is_of_place and record.kind in kinds

    return allows


def _read_name(query: Mapping[str, str], name: str) -> str:
    text = query.get(name, "")
    if len(text) > _MAX_NAME:
        raise BadRequest(f"{name}: has at most {_MAX_NAME} characters", param=name)
    return text


def encode_cursor(position: Position) -> str:
    """A position as text that fits into a URL."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def decode_cursor(query: Mapping[str, str]) -> Position | None:
    """The position in the parameter `after`; None if there is none. Raises BadRequest."""
    text = query.get("after", "")
    return decode_position(text, "after", "the `next` of an earlier answer") if text else None


def decode_position(text: str, name: str, expected: str) -> Position:
    """The position in a cursor. Raises BadRequest with the parameter's name and what is expected."""
    try:
        if len(text) > _MAX_CURSOR:
            raise ValueError
        at, part, id_ = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return float(at), int(part), str(id_)
    except (ValueError, TypeError, OverflowError, binascii.Error) as error:
        raise BadRequest(f"{name}: {expected}", param=name) from error


async def read_model(model: type[_B], request: web.Request, limits: LimitsConfig) -> _B:
    """Read a body and validate it. Raises the errors of `read_json`, and BadRequest with the path of the first invalid
    field."""
    _, body = await read_json(request, limits)
    try:
        return model.model_validate(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))
        message = problem["msg"].removeprefix("Value error, ")
        raise BadRequest(f"`{where or 'body'}`: {message}", param=where or None) from error
