"""Built-in upstream without a language model: answers with the memories in the prompt and identifies itself as such.

Like any upstream it gets the finished request and nothing else. It shows new users the whole loop without a key or a
network, and lets tests check the prompt that a model would get.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.config import UpstreamConfig
from gateway.formats.errors import openai_error
from gateway.memory.fence import FENCE_CLOSE, FENCE_OPEN
from gateway.text.terms import is_cjk, terms
from gateway.upstream.canned import Canned, chat_completion, json_answer, stream_events, text_completion, text_of
from gateway.upstream.client import Incoming, Outgoing

__all__ = ["OfflineUpstream"]

_MODEL = "offline"
_MAX_CHARACTERS = 4000  # of a message that are compared
_MAX_MESSAGES = 50  # of a conversation that are searched
_MAX_ITEMS = 5
_DAY = re.compile(r"^(?:[A-Z][a-z]{2} )?(\d{1,2} [A-Z][a-z]+)(?: (\d{4}))?$")
_ITEM = re.compile(r"^(?:- |\s*\d+\. )(?:\[(\d{4}-\d\d-\d\d)\] )?(.*)$")
_FENCE = re.compile(rf"({FENCE_OPEN}|<memories>)(.*?)({FENCE_CLOSE}|</memories>)", re.DOTALL)
_WITH_NOTES = (
    "(I am the gateway's offline stand-in, not a language model.) From what was said before, here and in earlier "
    "conversations, I was given:",
    "（我是网关自带的离线替身，不是语言模型。）从这次和以前的对话中，我得到了这些内容：",
)
_WITHOUT_NOTES = (
    "(I am the gateway's offline stand-in, not a language model.) I was given no memories for this. "
    "What you just said is remembered: ask me about it in a new conversation. How to connect a model: "
    "docs/guides/upstreams.md.",
    "（我是网关自带的离线替身，不是语言模型。）关于这个我没有得到任何记忆。你刚才说的话已经记住了：可以在新的对话里问我。"
    "如何连接模型：docs/guides/upstreams.md。",
)


class OfflineUpstream:
    """Upstream that answers in-process, without a server."""

    def __init__(self, config: UpstreamConfig) -> None:
        self.name = config.name
        self.config = config

    async def send(self, request: Outgoing) -> Incoming:
        if request.method == "GET" and request.path == "/models":
            return json_answer(200, {"object": "list", "data": [_model_card()]})
        if request.method == "GET" and request.path == f"/models/{_MODEL}":
            return json_answer(200, _model_card())
        if request.method != "POST" or request.path not in ("/chat/completions", "/completions"):
            message = f"the offline stand-in has no {request.path}: configure an upstream"
            return json_answer(404, openai_error(message, "invalid_request_error", "not_found"))
        body = {"model": _MODEL} | orjson.loads(request.body if isinstance(request.body, bytes) else b"{}")
        is_chat = request.path == "/chat/completions"
        text = _reply(*_prompt(body)) if is_chat else _reply(str(body.get("prompt", "")))
        completion = chat_completion(body, text) if is_chat else text_completion(body, text)
        if body.get("stream"):
            return Canned(200, "text/event-stream; charset=utf-8", stream_events(completion, text, body, is_chat))
        return json_answer(200, completion)


def _model_card() -> dict[str, Any]:
    return {"id": _MODEL, "object": "model", "created": 0, "owned_by": "memory-gateway"}


def _prompt(body: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The system messages and the last user message as one text, and the texts of the earlier user messages."""
    messages = [message for message in body.get("messages", []) if isinstance(message, dict)]
    users = [index for index, message in enumerate(messages) if message.get("role") == "user"]
    last = users[-1:]
    selected = [
        message
        for index, message in enumerate(messages)
        if message.get("role") in ("system", "developer") or index in last
    ]
    return "\n".join(map(text_of, selected)), [text_of(messages[index]) for index in users[:-1]]


def _reply(prompt: str, earlier: Sequence[str] = ()) -> str:
    fence = _FENCE.search(prompt)
    notes = fence.group(2) if fence else ""
    question = prompt[fence.end() :].strip() if fence else prompt.strip()
    language = int(is_cjk(question))
    items = _select_relevant([*_items(notes), *_matching_messages(earlier, question)], question)
    if not items:
        return _WITHOUT_NOTES[language]
    return "\n".join([_WITH_NOTES[language], *items])


def _matching_messages(earlier: Sequence[str], question: str) -> list[str]:
    """Earlier messages of this conversation that share a word with the question. They are searched here because recall
    omits texts that the prompt already contains."""
    query_terms = set(terms(question[-_MAX_CHARACTERS:]))
    texts = [" ".join(_FENCE.sub("", text[-_MAX_CHARACTERS:]).split()) for text in earlier[-_MAX_MESSAGES:]]
    return [f"- {text}" for text in dict.fromkeys(texts) if query_terms.intersection(terms(text))]


def _items(notes: str) -> list[str]:
    """The list items of the memory block, each with its day."""
    items: list[str] = []
    day = year = ""
    for line in notes.splitlines():
        match = _DAY.match(line)
        item = _ITEM.match(line)
        if match:
            year = match.group(2) or year
            day = f"{match.group(1)} {year}".rstrip()
        elif item:
            items.append(f"- {item.group(1) or day}: {item.group(2)}" if item.group(1) or day else f"- {item.group(2)}")
        elif items and line.startswith("  "):
            items[-1] += f"\n{line}"
    return items


def _select_relevant(items: list[str], question: str) -> list[str]:
    """The `_MAX_ITEMS` items that share the most words with the question, later ones first; in their order."""
    query_terms = set(terms(question[-_MAX_CHARACTERS:]))
    shared = [len(query_terms.intersection(terms(item))) for item in items]
    best = sorted(range(len(items)), key=lambda index: (-shared[index], -index))[:_MAX_ITEMS]
    return [items[index] for index in sorted(best)]
