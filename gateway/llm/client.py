"""Client for the gateway's own requests to a model that answers in JSON: judging feedback, suggesting questions,
extracting facts.

Small models wrap JSON in prose and fences, truncate it or answer something else. Readable objects are recovered; an
unreadable answer gives None, as does every failure. No caller depends on an answer.
"""

import asyncio
import json
import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson

from gateway.concurrency.offload import offload
from gateway.concurrency.reading import TooLong, read_bounded
from gateway.errors import GatewayError
from gateway.formats.json_read import count_in, loaded_object, object_in
from gateway.upstream.forward import Forwarder

__all__ = ["ModelAnswer", "ModelClient", "read_cut_object", "read_object"]

_log = logging.getLogger("gateway.asker")
_MAX_ANSWER = 1 << 20
_MAX_TOKENS = 1500
_BAD_REQUEST = (400, 413, 422)  # statuses that blame the request
_STARTS = 20  # opening braces at which parsing is attempted
_SCHEMA = "response_format"
_TOKENS = "max_tokens"
_OPTIONAL_FIELDS = (_TOKENS, "temperature", _SCHEMA)
_REFUSAL = 500  # characters of an error message that are searched for field names
_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_THINKING = 4  # factor on the token limit for models that count reasoning tokens


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """The result of a request: the JSON object, or the reason for its absence (`failure`: no_model, timeout,
    unreachable, unavailable, refused, unreadable), the tokens used, and their cost in US dollars if the price is known.
    `is_cut`: the answer was truncated at the token limit; the object has the complete entries only."""

    found: dict[str, Any] | None
    failure: str = ""
    is_cut: bool = False
    tokens: int = 0
    cost: float = 0.0


class ModelClient:
    """Sends the gateway's own requests to a model, never to the offline upstream.

    `model` returns the model's name. `note` records the usage of each request (upstream, model, tokens of prompt and
    answer) and returns its cost, or None if the price is unknown.
    """

    def __init__(
        self, forwarder: Forwarder, model: Callable[[], str], note: Callable[[str, str, int, int], float | None]
    ) -> None:
        self._forwarder = forwarder
        self._model = model
        self._note = note
        self._unsupported: dict[str, frozenset[str]] = {}  # by model: request fields that it rejects

    @property
    def has_model(self) -> bool:
        try:
            return self._forwarder.route(self._model()).upstream.config.rules.is_language_model
        except GatewayError:
            return False

    async def ask(
        self, instructions: str, material: str, schema: Mapping[str, Any], *, timeout: float
    ) -> dict[str, Any] | None:
        """The model's JSON object for this material; None if there is no model or no usable answer."""
        return (await self.consult(instructions, material, schema, timeout=timeout)).found

    async def consult(
        self, instructions: str, material: str, schema: Mapping[str, Any], *, timeout: float, most: int = _MAX_TOKENS
    ) -> ModelAnswer:
        """Like `ask`, with the cost and the reason of a failure. `most`: maximum tokens of the answer."""
        if not self.has_model:
            return ModelAnswer(None, "no_model")
        try:
            async with asyncio.timeout(timeout):
                text, result = await self._request_answer(instructions, material, schema, most)
        except (GatewayError, TimeoutError) as error:
            _log.warning("model_request_failed", extra={"cause": str(error) or "timeout"})
            return ModelAnswer(None, "timeout" if isinstance(error, TimeoutError) else "unreachable")
        if result.failure:
            return result
        names = frozenset(schema.get("properties", ()))
        content, is_repaired = await offload(partial(_read, text, names), len(text))
        is_cut = result.is_cut or is_repaired
        if content is None:
            _log.warning("model_answer_unreadable", extra={"characters": len(text), "cut": result.is_cut})
            return replace(result, failure="unreadable")
        if is_cut:
            _log.warning("model_answer_cut", extra={"characters": len(text)})
        return replace(result, found=content, is_cut=is_cut)

    async def _request_answer(
        self, instructions: str, material: str, schema: Mapping[str, Any], most: int
    ) -> tuple[str, ModelAnswer]:
        """The text of the model's answer and its usage; retries without the fields that the model rejects."""
        route = self._forwarder.route(self._model())
        body = {
            "model": route.model,
            "messages": [{"role": "system", "content": instructions}, {"role": "user", "content": material}],
            "temperature": 0,
            "max_tokens": most,
            "stream": False,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)},
            },
        }
        cached = unsupported = self._unsupported.get(route.asked, frozenset())
        status, raw, result = await self._send(route.asked, _without(body, unsupported))
        while status == 400 and (field := _refused_field(raw, unsupported)):
            unsupported |= {field}
            status, raw, result = await self._send(route.asked, _without(body, unsupported))
        if status == 200 and unsupported != cached:
            self._unsupported[route.asked] = unsupported
        if status != 200:
            _log.warning("model_refused", extra={"status": status})
            return "", replace(result, failure="refused" if status in _BAD_REQUEST else "unavailable")
        try:
            choice = orjson.loads(raw)["choices"][0]
            content = choice["message"]["content"]
        except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
            return "", result
        result = replace(result, is_cut=choice.get("finish_reason") == "length")
        return (content, result) if isinstance(content, str) else ("", result)

    async def _send(self, model: str, body: Mapping[str, Any]) -> tuple[int, bytes, ModelAnswer]:
        served = await self._forwarder.send_chat(
            self._forwarder.route(model),
            path="/chat/completions",
            query_string="",
            client_headers={},
            raw=orjson.dumps(body),
        )
        incoming = served.incoming
        try:
            raw = await read_bounded(incoming.chunks(), _MAX_ANSWER)
        except TooLong:
            raw = b""  # unreadable, as JSON that breaks off
        finally:
            incoming.close()
        result = ModelAnswer(None)
        if incoming.status == 200:
            usage = object_in(loaded_object(raw), "usage")
            tokens = count_in(usage, "prompt_tokens"), count_in(usage, "completion_tokens")
            cost = self._note(served.upstream.name, served.target.model, *tokens)
            result = ModelAnswer(None, tokens=sum(tokens), cost=cost or 0.0)
        return incoming.status, raw, result


def _without(body: Mapping[str, Any], unsupported: frozenset[str]) -> dict[str, Any]:
    """The request body without unsupported fields. A model without `max_tokens` is a reasoning model, which calls that
    field `max_completion_tokens`."""
    supported = {name: value for name, value in body.items() if name not in unsupported}
    if _TOKENS in unsupported:
        supported["max_completion_tokens"] = _THINKING * body[_TOKENS]
    return supported


def _refused_field(raw: bytes, unsupported: frozenset[str]) -> str:
    """The request field that an error rejects: the field that it names, else the schema, for which servers have many
    wordings; "" if the schema is omitted already. An error about the context length never means `max_tokens`."""
    body = loaded_object(raw)
    error = object_in(body, "error") or body
    message = str(error.get("message") or "")[:_REFUSAL]
    fields = [name for name in _OPTIONAL_FIELDS if name == error.get("param") or name in message]
    if "context" in message:
        fields = [name for name in fields if name != _TOKENS]
    field = next((name for name in fields if name not in unsupported), "")
    return field or ("" if _SCHEMA in unsupported else _SCHEMA)


def _read(text: str, names: Collection[str]) -> tuple[dict[str, Any] | None, bool]:
    """The object of an answer, and whether it was truncated and had to be repaired."""
    content = read_object(text, names)
    return (content, False) if content is not None else (read_cut_object(text, names), True)


def read_object(text: str, names: Collection[str] = ()) -> dict[str, Any] | None:
    """The first JSON object in a model's answer that has one of these keys (any object if no keys are given); text
    around it is ignored. None if there is none. Lone surrogates, which cannot be encoded as UTF-8, are replaced."""
    text = _THOUGHT.sub("", text)
    decoder = json.JSONDecoder(strict=False)
    for match in list(re.finditer(r"\{", text))[:_STARTS]:
        try:
            candidate, _ = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(candidate, dict) and (not names or not candidate.keys().isdisjoint(names)):
            return {_replace_surrogates(name): _replace_surrogates(value) for name, value in candidate.items()}
    return None


def read_cut_object(text: str, names: Collection[str]) -> dict[str, Any] | None:
    """The object of a truncated answer, with the complete entries of its lists; None if there are none."""
    text = _THOUGHT.sub("", text)
    start = text.find("{")
    if start < 0:
        return None
    repaired = _repair_json(text[start:])
    return None if repaired is None else read_object(repaired, names)


def _repair_json(text: str) -> str | None:
    """Truncated JSON up to the last complete entry of the outermost object, or of a list in it, with the missing
    closing brackets appended. None if it was not truncated or has no complete entry."""
    stack: list[str] = []
    is_string = is_escaped = False
    end, closing = 0, ""
    for place, character in enumerate(text):
        if is_string:
            is_string = is_escaped or character != '"'
            is_escaped = character == "\\" and not is_escaped
        elif character == '"':
            is_string = True
        elif character in "{[":
            stack.append("}" if character == "{" else "]")
        elif character in "}]" and stack:
            stack.pop()
            if not stack:
                return None
        if not is_string and character in ",}]" and stack in (["}"], ["}", "]"]):
            end, closing = place + (character != ","), "".join(reversed(stack))
    return text[:end] + closing if end else None


def _replace_surrogates(value: Any) -> Any:
    """A JSON value whose strings can be encoded as UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_replace_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_replace_surrogates(name): _replace_surrogates(item) for name, item in value.items()}
    return value
