"""Asks a model for JSON on the gateway's own account: judging feedback, proposing questions, extracting.

Small models wrap JSON in prose and fences, leave the end off or answer something else: what can be read is read, and
whatever cannot is None, as is every failure. Nobody depends on an answer.
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

from gateway.errors import GatewayError
from gateway.offload import offload
from gateway.upstream.forward import Forwarder
from gateway.upstream.translate.json_parts import count_in, loaded_object, object_in

__all__ = ["Asked", "Asker", "read_cut_object", "read_object"]

_log = logging.getLogger("gateway.asker")
_MAX_ANSWER = 1 << 20
_MAX_TOKENS = 1500
_BAD = (400, 413, 422)  # what was asked is at fault
_STARTS = 20  # braces at which an object is tried
_SCHEMA = "response_format"
_TOKENS = "max_tokens"
_NOT_EVERYWHERE = (_TOKENS, "temperature", _SCHEMA)
_REFUSAL = 500  # characters of an error that are looked at
_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_THINKING = 4  # times as many tokens for a model that counts its thoughts among them


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of a question: the object, or why there is none (`failure`: no_model, timeout, unreachable,
    unavailable, refused, unreadable), the tokens that were used, and their cost in US dollars where it is known.
    `is_cut`: the answer ended at its length; the object holds the entries that were complete."""

    found: dict[str, Any] | None
    failure: str = ""
    is_cut: bool = False
    tokens: int = 0
    cost: float = 0.0


class Asker:
    """`model` names the model to ask; the stand-in without a language model is never asked. `note` is told what each
    question used (upstream, model, tokens of prompt and answer), and says what that cost, None if nobody knows."""

    def __init__(
        self, forwarder: Forwarder, model: Callable[[], str], note: Callable[[str, str, int, int], float | None]
    ) -> None:
        self._forwarder = forwarder
        self._model = model
        self._note = note
        self._left_out: dict[str, frozenset[str]] = {}  # by model: what it does not take

    @property
    def has_model(self) -> bool:
        try:
            return self._forwarder.route(self._model()).upstream.config.kind != "offline"
        except GatewayError:
            return False

    async def ask(
        self, instructions: str, material: str, schema: Mapping[str, Any], *, timeout: float
    ) -> dict[str, Any] | None:
        """The model's JSON object for this material; None if there is no model, or no answer worth the name."""
        return (await self.consult(instructions, material, schema, timeout=timeout)).found

    async def consult(
        self, instructions: str, material: str, schema: Mapping[str, Any], *, timeout: float, most: int = _MAX_TOKENS
    ) -> Asked:
        """The same, with what it cost and why it failed. `most`: tokens that the answer may have."""
        if not self.has_model:
            return Asked(None, "no_model")
        try:
            async with asyncio.timeout(timeout):
                text, asked = await self._answer(instructions, material, schema, most)
        except (GatewayError, TimeoutError) as error:
            _log.warning("model_not_asked", extra={"cause": str(error) or "timeout"})
            return Asked(None, "timeout" if isinstance(error, TimeoutError) else "unreachable")
        if asked.failure:
            return asked
        names = frozenset(schema.get("properties", ()))
        found, is_repaired = await offload(partial(_read, text, names), len(text))
        is_cut = asked.is_cut or is_repaired
        if found is None:
            _log.warning("model_answer_unreadable", extra={"characters": len(text), "cut": asked.is_cut})
            return replace(asked, failure="unreadable")
        if is_cut:
            _log.warning("model_answer_cut", extra={"characters": len(text)})
        return replace(asked, found=found, is_cut=is_cut)

    async def _answer(
        self, instructions: str, material: str, schema: Mapping[str, Any], most: int
    ) -> tuple[str, Asked]:
        route = self._forwarder.route(self._model())
        question = {
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
        known = left_out = self._left_out.get(route.asked, frozenset())
        status, raw, asked = await self._send(route.asked, _without(question, left_out))
        while status == 400 and (refused := _refused_field(raw, left_out)):
            left_out |= {refused}
            status, raw, asked = await self._send(route.asked, _without(question, left_out))
        if status == 200 and left_out != known:
            self._left_out[route.asked] = left_out
        if status != 200:
            _log.warning("model_refused", extra={"status": status})
            return "", replace(asked, failure="refused" if status in _BAD else "unavailable")
        try:
            choice = orjson.loads(raw)["choices"][0]
            content = choice["message"]["content"]
        except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
            return "", asked
        asked = replace(asked, is_cut=choice.get("finish_reason") == "length")
        return (content, asked) if isinstance(content, str) else ("", asked)

    async def _send(self, model: str, body: Mapping[str, Any]) -> tuple[int, bytes, Asked]:
        served = await self._forwarder.send_chat(
            self._forwarder.route(model),
            path="/chat/completions",
            query_string="",
            client_headers={},
            raw=orjson.dumps(body),
        )
        incoming = served.incoming
        try:
            raw = bytearray()
            async for chunk in incoming.chunks():
                raw += chunk
                if len(raw) > _MAX_ANSWER:
                    break
        finally:
            incoming.close()
        asked = Asked(None)
        if incoming.status == 200:
            usage = object_in(loaded_object(bytes(raw)), "usage")
            tokens = count_in(usage, "prompt_tokens"), count_in(usage, "completion_tokens")
            cost = self._note(served.upstream.name, served.target.model, *tokens)
            asked = Asked(None, tokens=sum(tokens), cost=cost or 0.0)
        return incoming.status, bytes(raw), asked


def _without(question: Mapping[str, Any], left_out: frozenset[str]) -> dict[str, Any]:
    """A question as a model takes it; one that knows no `max_tokens` is one of the thinking ones, which call it
    `max_completion_tokens`."""
    body = {name: value for name, value in question.items() if name not in left_out}
    if _TOKENS in left_out:
        body["max_completion_tokens"] = _THINKING * question[_TOKENS]
    return body


def _refused_field(raw: bytes, left_out: frozenset[str]) -> str:
    """The field that a refusal is about: the one that it names, else the schema, which servers refuse in many words; ""
    if that is left out already. What is said of a context that is too long is about no field."""
    whole = loaded_object(raw)
    error = object_in(whole, "error") or whole
    said = str(error.get("message") or "")[:_REFUSAL]
    named = [name for name in _NOT_EVERYWHERE if name == error.get("param") or name in said]
    if "context" in said:
        named = [name for name in named if name != _TOKENS]
    found = next((name for name in named if name not in left_out), "")
    return found or ("" if _SCHEMA in left_out else _SCHEMA)


def _read(text: str, names: Collection[str]) -> tuple[dict[str, Any] | None, bool]:
    """The object of an answer, and whether it had to be closed because the answer was cut."""
    found = read_object(text, names)
    return (found, False) if found is not None else (read_cut_object(text, names), True)


def read_object(text: str, names: Collection[str] = ()) -> dict[str, Any] | None:
    """The first JSON object in a model's words that has one of these names (or any, where none is given), whatever
    stands round it; None if there is none. Halves of characters, which no file takes, are replaced."""
    text = _THOUGHT.sub("", text)
    decoder = json.JSONDecoder(strict=False)
    for match in list(re.finditer(r"\{", text))[:_STARTS]:
        try:
            found, _ = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and (not names or not found.keys().isdisjoint(names)):
            return {_whole(name): _whole(value) for name, value in found.items()}
    return None


def read_cut_object(text: str, names: Collection[str]) -> dict[str, Any] | None:
    """The object of an answer that was cut, with the entries of its lists that are complete; None if there are
    none."""
    text = _THOUGHT.sub("", text)
    start = text.find("{")
    if start < 0:
        return None
    closed = _closed(text[start:])
    return None if closed is None else read_object(closed, names)


def _closed(text: str) -> str | None:
    """JSON that was cut, up to its last complete entry of the outermost object or of a list in it, with what is open
    closed. None if it was not cut, or nothing is complete."""
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


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, dict):
        return {_whole(name): _whole(one) for name, one in value.items()}
    return value
