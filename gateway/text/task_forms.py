"""Forms of requests that programs make on their own account, in the words of no client in particular: patterns for the
beginning of the last user message, and of the system prompt. Pure data.
"""

from typing import Final

__all__ = ["TASK_FORMS", "TASK_SYSTEM_FORMS"]

_MAKE = r"(?:generate|create|write|provide|suggest|produce|come up with|give|find|name|return|make)"
_POLITE = r"(?:please |now |you (?:should|must|will|need to) |your (?:task|job|role) is to )*"
_TITLE = r"\b(?:title|headline|topic name|heading|subject line)s?\b"
_TALK = (
    r"\b(?:this|the|our|your|above|following|given|an?|users?'?s?|previous|entire|whole)\s+(?:[\w-]+\s+){0,2}"
    r"(?:conversation|chat|discussion|dialogue|dialog|thread|session|messages?|exchange|transcript)\b"
    r"(?!\s+(?:app|application|bot|window|feature|paper|group|guide|post|article|book|forum)s?\b)"
)
_ZH_TALK = r"(?:对话|對話|聊天|会话|會話|谈话|交谈)"
_ZH_TITLE = r"(?:标题|標題|主题|主題|题目|名称|命名)"

TASK_FORMS: Final = (
    r"### Task:\s*\n(?!Respond to the user query)",
    rf"{_POLITE}{_MAKE}\b[^\n]{{0,80}}{_TITLE}[^\n]{{0,80}}{_TALK}",
    rf"{_POLITE}{_MAKE}\b[^\n]{{0,40}}\b(?:concise|short|brief|few-word|\d+-word)\b[^\n]{{0,40}}{_TITLE}"
    r"(?=[\s\S]{0,400}(?:only the title|title only|nothing else|no (?:quot|punct|explan)|without (?:quot|punct)|JSON))",
    rf"(?:based on|given|for|read|analy[sz]e|consider) {_TALK}[^\n]{{0,60}}\b{_MAKE}\b[^\n]{{0,60}}"
    r"\b(?:title|name|tags|summary|headline|follow-?up|emoji)",
    rf"{_POLITE}(?:summari[sz]e|name) {_TALK}[^\n]{{0,60}}\b(?:title|in \d+ words|words or less|characters|name)",
    rf"what would be an? [^\n]{{0,40}}{_TITLE} (?:for|of) {_TALK}",
    r"summari[sz]e in an? \d+-word title",
    r"given (?:the following|an?) (?:chat history|conversation)[^\n]{0,120}(?:rephrase|reformulate|standalone)",
    rf"(?:请|請)?(?:你)?(?:为|為|給|给|根据|根據|基于|用|使用)[^\n]{{0,40}}{_ZH_TALK}[^\n]{{0,40}}{_ZH_TITLE}",
    rf"(?:请|請)?(?:用|使用|以)[^\n]{{0,30}}(?:返回|概括|总结|總結|生成)[^\n]{{0,40}}{_ZH_TITLE}",
    rf"(?:请|請)?(?:简要|簡要)?(?:总结|總結|概括)(?:一下)?(?:上面|以上|上述|下面|以下|前面)?的?{_ZH_TALK}(?:内容|內容)",
    r"[^\n]{0,12}文字で[^\n]{0,20}(?:主題|タイトル|要約)",
    r"bitte (?:erstellen?|generieren?|schreiben?)[^\n]{0,60}\btitel\b[^\n]{0,60}\b(?:gespräch|unterhaltung|chat)",
    r"(?:genera|crea|escribe|proporciona)[^\n]{0,60}\btítulo\b[^\n]{0,60}\b(?:conversación|chat|diálogo)",
    r"(?:génère|générez|crée|créez|donne|donnez|écris)[^\n]{0,60}\btitre\b[^\n]{0,60}\b(?:conversation|discussion|chat)",
)
TASK_SYSTEM_FORMS: Final = (
    r"### Task:\s*\n(?!Respond to the user query)",
    r"(?:you are |you're |act as )(?:an? |the )?[^\n]{0,40}"
    r"\b(?:title|titling|titles|summary|tag|emoji|topic|query)s?[ -]"
    r"(?:generator|generation|maker|writer|namer|assistant|expert|creator)",
    rf"{_POLITE}{_MAKE}\b[^\n]{{0,60}}{_TITLE}[^\n]{{0,60}}{_TALK}",
    rf"(?:- )?you will {_MAKE}\b[^\n]{{0,40}}{_TITLE}",
    rf"(?:you (?:are|will)|summari[sz]e|your task)[^\n]{{0,120}}\b(?:title|summary|summari[sz]e)s? [^\n]{{0,40}}"
    rf"\b(?:of|for) {_TALK}",
    r"[^\n]{0,40}(?:对话|對話|会话|會話|聊天)[^\n]{0,30}(?:标题|標題|命名|主题|主題)",
    r"(?:you are |act as )(?:now acting as )?(?:an? |the )?[^\n]{0,60}"
    r"\bmemory[ -](?:extract\w*|consolidat\w*|manage\w*|select\w*|agent|reader|keeper|subagent|organi[sz]er)",
    r"(?:extract|identify)[^\n]{0,60}\b(?:facts|memories|entities)\b[^\n]{0,60}"
    r"\b(?:from|in) (?:the|this|a)? ?(?:conversation|dialogue|messages?|chat|text)",
    r"you are the component that summarizes internal chat history",
)
