"""The prompt of a MemOS chat: memories in the system prompt, as MemOS does it. Pure.

A custom prompt replaces the default one; its literal `{memories}` is replaced, any other brace is left alone. Without
the placeholder the memories follow under a heading.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.store.terms import is_cjk
from gateway.wire.dialects import ChatDialect

__all__ = ["MemosDialect"]

_PLACEHOLDER = "{memories}"
_NONE = ("(none)", "（无）")
_HEADING = "\n\n## Fact Memories:\n"
_DEFAULT = (
    """You are a helpful assistant with a memory of this user. The time is {now}.

Below are memories that may belong to the question. Put each of them to four tests and leave out what fails one:
1. Source: what the user said outranks what an assistant once concluded; an assistant's view is never a fact.
2. Attribution: it must be about the user, not about a third person, a character or an example.
3. Relevance: it must really help with this question; a shared keyword is not enough.
4. Freshness: where it conflicts with the question, the question wins.
Follow the user's style preferences. Answer directly, in the language of the question, and never speak of memories or \
of looking anything up.

""",
    """你是一位有帮助的助手，并且记得这位用户。现在的时间是 {now}。

下面是可能与问题有关的记忆。请对每一条做四项检查，任何一项不通过就不要使用：
1. 来源：用户自己说的话优先于助手曾经的推断；助手的看法永远不是事实。
2. 归属：内容必须是关于用户本人的，而不是别人、虚构人物或举例。
3. 相关：必须真正有助于回答这个问题，仅有相同的关键词是不够的。
4. 时效：与当前问题矛盾时，以当前问题为准。
遵守用户的风格偏好。直接回答，使用提问的语言，不要提及记忆或检索。

""",
)


class MemosDialect(ChatDialect):
    """The chat-completions format with the memories where MemOS has them. One for each chat."""

    def __init__(self, custom: str | None, query: str, now: str) -> None:
        self._custom = custom
        self._language = int(is_cjk(query))
        self._now = now

    def system_prompt(self, memories: str) -> str:
        """The whole system prompt with these memories in it (an empty string: none)."""
        if self._custom is None:
            default = _DEFAULT[self._language].replace("{now}", self._now)
            return default + (memories.rstrip() or _NONE[self._language])
        if _PLACEHOLDER in self._custom:
            before, _, after = self._custom.partition(_PLACEHOLDER)
            return before + memories.rstrip() + after.replace(_PLACEHOLDER, "")  # once: the budget holds once
        return self._custom + (_HEADING + memories.rstrip() if memories else "")

    def place(self, raw: bytes, body: Mapping[str, Any], block: str, placement: str) -> bytes:
        first, *others = body["messages"]
        messages = [{**first, "content": self.system_prompt(block)}, *others]
        return orjson.dumps({**body, "messages": messages})
