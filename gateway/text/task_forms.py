"""Patterns of requests that programs make on their own (titles, tags, summaries), independent of the client: for the
beginning of the last user message, and of the system prompt. Pure data.

Each pattern refers to the current conversation, since users ask for titles and summaries of other things.
"""

from typing import Final

__all__ = ["TASK_FORMS", "TASK_SYSTEM_FORMS"]

_MAKE = r"(?:generate|create|write|provide|suggest|produce|come up with|give|return|make)"
_POLITE = r"(?:please |now |you (?:should|must|will|need to) |your (?:task|job|role) is to )*"
_TITLE = r"\b(?:title|headline|topic name)s?\b"
_FOR = r"(?:for|summari[sz]ing|capturing|describing|based on|that (?:summari[sz]es|captures|describes))"
_THIS = r"(?:this|the|our|the above|the following|the entire|the whole|the previous|the provided|the given)"
_TALK = (
    rf"{_THIS}\s+(?:[\w-]+\s+)?(?:conversation|chat|discussion|dialogue|dialog|thread|chat history|coding session)\b"
    r"(?!\s+(?:app|application|bot|window|feature|paper|group|guide|post|article|book|forum|component)s?\b)"
)
_ZH_TALK = r"(?:对话|對話|聊天|会话|會話|谈话|交谈)"
_ZH_THIS = r"(?:这段|这个|这次|這段|本次|以上|上述|上面的?|下面的?|以下的?|该|我们的?|用户的?)"

TASK_FORMS: Final = (
    r"### Task:\s*\n(?!Respond to the user query)",
    rf"{_POLITE}{_MAKE}\b[^\n.?!]{{0,80}}{_TITLE}[^\n.?!]{{0,30}}\b{_FOR} {_TALK}",
    rf"{_POLITE}{_MAKE}\b[^\n.?!]{{0,20}}\b(?:short|concise|brief)\b[^\n.?!]{{0,20}}{_TITLE} (?:for|of) {_TALK}",
    rf"{_POLITE}(?:generate|create)\b[^\n]{{0,30}}\b(?:concise|\d+(?:-\d+)?[- ]word)\b[^\n]{{0,30}}\btitle\b"
    r"(?=[\s\S]{0,400}(?:only the title|title only|nothing else|no (?:quot|punct|explan)|without (?:quot|punct)|JSON))",
    rf"(?:based on|given|analy[sz]e|consider) {_TALK}[^\n]{{0,60}}\b{_MAKE}\b[^\n]{{0,60}}"
    r"\b(?:title|name|tags|headline|follow-?up|emoji)",
    rf"{_POLITE}(?:summari[sz]e|name) {_TALK}[^\n]{{0,60}}\b(?:title|in \d+ words|words or less|characters|name)",
    rf"what would be an? [^\n]{{0,40}}{_TITLE} for {_TALK}",
    r"summari[sz]e in an? \d+-word title",
    r"given (?:the following|an?) (?:chat history|conversation)[^\n]{0,120}(?:rephrase|reformulate|standalone)",
    rf"(?:请|請)?(?:你)?(?:为|為|給|给|根据|根據|基于){_ZH_THIS}[^\n]{{0,6}}{_ZH_TALK}[^\n]{{0,20}}"
    r"(?:生成|起|取|写|想|拟|总结|总结出)[^\n]{0,14}(?:标题|標題|主题|主題|题目|名称)",
    r"(?:この|上記の|以下の)?会話(?:の|に)[^\n]{0,20}タイトル[^\n]{0,20}(?:生成|作成|付け|考え)",
    r"resum[ei]\w* (?:esta|la) conversación[^\n]{0,40}\btítulo\b",
    r"(?:создай|придумай|сгенерируй|напиши|дай)(?:те)?[^\n]{0,40}(?:заголовок|название)[^\n]{0,20}(?:для )?эт\w+ "
    r"(?:беседы|диалога|чата|разговора)",
    r"(?:이|위의?|다음) 대화[^\n]{0,20}제목",
    r"bitte [^\n\"„“]{0,60}\btitel\b[^\n\"„“]{0,20}(?:für|der) (?:dies\w*|unser\w*) (?:gespräch|unterhaltung|chat)",
    r"(?:genera|crea|escribe|proporciona)[^\n\"]{0,60}\btítulo\b[^\n\"]{0,20}(?:para|de) esta conversación",
    r"(?:génère|générez|crée|créez|donne|donnez|écris)[^\n\"]{0,60}\btitre\b[^\n\"]{0,20}(?:à|pour|de) cette "
    r"(?:conversation|discussion)",
)
TASK_SYSTEM_FORMS: Final = (
    r"### Task:\s*\n(?!Respond to the user query)",
    r"(?:you are |you're |act as )(?:an? |the )?[^\n.]{0,40}\b(?:title|titling|titles|tag|emoji|topic)s?[ -]"
    r"(?:generator|generation|maker|writer|namer|assistant|creator)",
    rf"{_POLITE}{_MAKE}\b[^\n.]{{0,60}}{_TITLE}[^\n.]{{0,40}}\b{_FOR} {_TALK}",
    rf"{_POLITE}{_MAKE}\b[^\n.]{{0,60}}{_TITLE}[^\n.]{{0,60}}\b(?:topic|goal|subject) [^\n.]{{0,20}}\bof {_TALK}",
    rf"(?:your task is to |please )?(?:summari[sz]e|(?:generate|create) an? (?:detailed |concise )?summary of) {_TALK}",
    r"(?:为|給|给|根据|基于|总结)[^\n]{0,12}(?:对话|對話|会话|會話|聊天)[^\n]{0,20}(?:标题|標題|命名)",
    r"(?:you are |act as )(?:now acting as )?(?:an? |the )?[^\n.]{0,60}\b(?:managed )?"
    r"memory[ -](?:extraction|consolidation|selection|extractor|subagent|agent|organi[sz]er)\b",
    r"extract[^\n]{0,60}\b(?:facts|memories|entities)\b[^\n]{0,60}"
    r"\bfrom (?:the|this|a)? ?(?:conversation|dialogue|messages?|chat|text)",
    r"you are the component that summarizes internal chat history",
)
