"""Injection heuristics: detects memories that read like instructions to a model, or like data exfiltration. Pure.

No list of patterns is complete, so security does not depend on this one: every memory is fenced, escaped and labelled
as data. Matching memories are marked, ranked down and counted, never dropped, and never hidden from their user.
Ordinary requests to an assistant ("always answer in German") do not match. Every pattern takes time in proportion to
the text.
"""

import re

__all__ = ["suspicions"]

_PATTERNS = {
    "instruction": re.compile(
        r"\b(?:ignore|disregard|forget|override|bypass)\s{1,4}(?:[a-z]{1,10}\s{1,4}){0,4}?"
        r"(?:previous|prior|above|earlier|preceding|system|existing|former|safety)\s{1,4}(?:[a-z]{1,10}\s{1,4})?"
        r"(?:instructions?|prompts?|rules?|directions?|guidelines?|guardrails?)\b"
        r"|\b(?:new|updated|real|hidden)\s{1,4}(?:system\s{1,4})?(?:instructions?|prompt)\s{0,4}:"
        r"|\b(?:system|developer)\s{1,4}(?:prompt|message|override)\s{0,4}[:=]"
        r"|\byou\s{1,4}are\s{1,4}(?:now|no\s{1,4}longer)\s{1,4}(?:[a-z]{1,12}\s{1,4}){0,4}?"
        r"(?:dan|unrestricted|uncensored|jailbroken|restricted\s{1,4}by|bound\s{1,4}by)\b"
        r"|\bdo\s{1,4}not\s{1,4}(?:tell|inform|alert|warn|mention\s{1,4}(?:this|it)\s{1,4}to)\s{1,4}the\s{1,4}user\b"
        r"|\b(?:reveal|print|output|repeat)\s{1,4}(?:your|the)\s{1,4}(?:system\s{1,4}prompt|hidden\s{1,4}instructions)\b"
        r"|(?:忽略|无视|忘记|忘掉|绕过)[^。！？\n]{0,8}(?:之前|以前|以上|上面|先前|此前|所有|系统)[^。！？\n]{0,8}(?:指令|提示词|提示|规则|限制)"
        r"|(?:系统提示|系统指令|开发者消息)\s{0,4}[:：]"
        r"|不要(?:告诉|通知|提醒)用户",
        re.IGNORECASE,
    ),
    "exfiltration": re.compile(
        r"!\[[^\]\n]{0,200}\]\(\s{0,4}https?://[^)\s]{1,300}[?=&{]"
        r"|\b(?:send|post|forward|upload|exfiltrate|leak|transmit|append)\b[^.\n]{0,120}?\b(?:to|at|into)\s{1,4}https?://"
        r"|(?:发送|上传|转发|附加)[^。\n]{0,60}?(?:到|至)\s{0,4}https?://",
        re.IGNORECASE,
    ),
    "markup": re.compile(
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext|eot_id|start_header_id)\|>|\[/?INST\]|<</?SYS>>"
        r"|</?(?:user_memory|memories|system|instructions?|tool_call)>",
        re.IGNORECASE,
    ),
}
_WINDOW = 4096  # characters
_LONGEST_MATCH = 768  # characters; no pattern matches more
# every match of the patterns contains one of these: a prefilter that rejects most texts
_HINT = re.compile(
    r"instruction|prompt|\brules?\b|direction|guideline|guardrail|override|you\s{1,4}are\s|the\s{1,4}user|https?://"
    r"|<[|</a-z]|\[/?INST|指令|提示|规则|限制|消息|用户",
    re.IGNORECASE,
)


def suspicions(text: str) -> tuple[str, ...]:
    """The kinds of suspicious content in a text: `instruction`, `exfiltration`, `markup`; usually none. A long text is
    searched in windows, so that no single search blocks the interpreter for long."""
    marks: set[str] = set()
    for begin in range(0, len(text), _WINDOW):
        end = begin + _WINDOW + _LONGEST_MATCH
        if _HINT.search(text, begin, end) is not None:
            marks |= {kind for kind in _PATTERNS.keys() - marks if _PATTERNS[kind].search(text, begin, end) is not None}
    return tuple(kind for kind in _PATTERNS if kind in marks)
