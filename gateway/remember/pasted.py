"""Distinguishes a user's own wish from the same sentence in text that they paste, quote or ask for. Pure.

A standing preference is part of every later prompt, so a false positive is worse than a miss: any sign that a message
contains, or is about, other people's text excludes all of its sentences. Languages without word lists share the
structural signs: quotes, headings, names before colons, signatures, code.
"""

import re
from typing import Final

__all__ = ["is_pasted"]

_LIST_MARK = re.compile(r"^[ \t]*(?:[-*•·](?=\s)|\d{1,2}[.)、])")


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_LINES = 3  # lines of a message with a wish in prose; lists of wishes have more
_WISH_LINES = 12
# operations on text that is not the user's own, in English; for other languages see _ZH and _OTHER_LANGUAGES
_OPERATIONS = (
    r"translat(?:e[ds]?|ing|ions?)|summari[sz]\w*|paraphras\w*|rephras\w*|rewrit\w*|reword\w*|proofread\w*",
    r"polish (?:this|it|my|the|up)|correct (?:this|these|it|my|the|me|english|grammar|sentence)",
    r"is (?:this|that|it|the following) (?:sentence |text |line )?(?:correct|grammatical|right|good"
    r"|rude|polite|positive|negative|spam|legal|valid|ok|okay|natural|formal)",
    r"fix (?:this|these|it|my|the)|grammar|spelling (?:errors?|mistakes?)|(?:check|correct) (?:the "
    r"|my )?spelling|typos?|commas?|classif\w*|sentiment|extract",
    r"tokeni[sz]e|parse|pars(?:er|ing)|analy[sz]e|simplify|shorten (?:this|it|that|the)",
    r"expand (?:this|it|on)|convert (?:this|it|these|the)|turn (?:this|it|these|that) into",
    r"put (?:this|it|these|that|them|the \w+) (?:in(?:to)?|as) (?:an? |the |one |your |plain "
    r"|simple )*(?:table|list|words|bullets?|bullet points|order|json|sentences?|own words|language|form"
    r"|format)|make (?:this|it|them|me a funnier|these)\b|draft",
    r"(?:write|compose|give me|need an?|create|invent|make up|continue|finish|make) (?:me |up |an? |the "
    r"|some |us |another |my )*(?:\w+ ){0,3}(?:story|stories|poem|song|lyrics|dialog(?:ue)?|scene"
    r"|script|speech|sketch|rap|joke|limerick|haiku|letter|e-?mail|mail|essay|reply|answer to"
    r"|response to|monologue|bio|post|caption|slogan|review|test|parser|prompt|persona|card|copy)s?\b",
    r"rol(?:e|l)[- ]?play\w*|pretend|imagine|act as|acting as",
    r"you(?:'re| are) (?:now )?(?:an?|the|my|dan|in)\b|you play|let's play|in character|character|novel",
    r"fiction|protagonist|narrator|stanza|verse|lyrics?|screenplay|dialog(?:ue)?s?|poem|opening line",
    r"what (?:does|do|did|would|might|could) (?:(?:this|these|that|it|he|she|they|the)\b|['\x22“])",
    r"what (?:is|are|was) (?:(?:this|these|that|it|he|she|they|wrong)\b|['\x22“])",
    r"(?:does|do|did|is|are|was|were|should|would|can|could|has|have|will|who|whom|whose|which one|why"
    r"|how|when|where) (?:does |do |did |is |are |was |were |should |would |can |could |will )?(?:he"
    r"|she|they|him|her|them|these people|this person|this guy)\b(?!/)",
    r"explain (?:this|these|it|the|what|why)|who (?:is|was|are|said|says|wrote)|whose (?:line|words|voice|quote)",
    r"what(?:'s| is| are) (?:the )?(?:\w+ )?(?:word for|translation|equivalent|joke|tone|mood|meaning)",
    r"what(?:'s| is) the (?:german|french|spanish|english|chinese|japanese|italian|polish|dutch|russian) (?:word )?for",
    r"how (?:do (?:you|i|we)|to|would you) (?:say|write|spell|answer|reply|respond|phrase)",
    r"(?:in|into|to) (?:french|german|spanish|chinese|japanese|polish|italian|dutch|portuguese|korean"
    r"|russian|english|latin|arabic)(?: please)?\s*:",
    r"(?:reply|respond|answer) (?:to (?:this|her|him|them|it)|her|him|them|mark|this)",
    r"(?:this|the|that|an|following|these|those|above|below|attached|old|our|his|her"
    r"|their) (?:\w+ )?(?:e-?mails?|mails?|letters?|messages?|text|paragraphs?|sentences?|passages?"
    r"|quotes?|article|documents?|transcript|snippet|review|reviews|comment|comments|posts?|tweet"
    r"|prompts?|readme|style guide|guidelines?|policy|script|file|log|logs|conversation|chat|essay|bio"
    r"|profile|manual|contract|syllabus|sign|poster|ad|advert|ticket|notes|minutes|statement"
    r"|statements|examples?|lines|lyrics|dialogue|survey)\b",
)
# reported speech, and speech to an audience
_REPORTED = (
    r"\bAI (?:agents?|assistants?|models?|systems?)\b",
    r"\b(?:readers?|visitors?|guests?|members?|employees|students|tenants|users?|customers?) (?:should|must|may|are)\b",
    r"\b(?:should|shall|can|could|do|would|may) (?:i|we)\b[^.?!\n]{0,40}\b(?:him|her|them|he|she|they)\b",
    r"\b(?:hi|hello|hey|dear|welcome)(?: to)? (?:all|everyone|everybody|team|guys|folks|friends"
    r"|there everyone|class)\b",
    r"\bdear \w+\b|\bposted by\b|\b\d+ (?:comments?|likes?|replies|votes|views|shares)\b|\bsubmitted by\b",
    r"\bfound (?:this|it) (?:on|in)\b|\bblog\b.{0,20}\)|[★☆]{2}",
    r"\b(?!i\b|you\b|being\b|be\b|get\b|getting\b)\w+ (?:just |once |always |also |then |has |had |have "
    r"|recently |keeps? )*(?:said"
    r"|says|saying|wrote|writes|written|told|tells|asked|asks|replied|replies|texted|emailed|messaged"
    r"|posted|posts|tweeted|claims?|states?|stated|insists?|insisted|shouted|yelled|whispered|sang"
    r"|sings|answered|complained|announced|commented|forwarded|sent me|sends me)\b(?! (?:by|you"
    r"|to you))",
    r"\b(?:quote|quoted|quoting|verbatim|according to|wording|as follows|begin forwarded|forwarded"
    r"|original message|fwd|fw:|re:|user story|test case|customer feedback|her words|his words"
    r"|their words|goes like|reads:|says:|called it|chorus|q:|a:)",
)
# both of these in Chinese
_ZH = (
    r"大家好|各位|同学们|家人们|亲们",
    r"翻译|翻譯|译成|译为|翻成|润色|改写|改寫|改成|改一下|改错|改錯|病句|语法|語法|错别字|錯別字|通顺|总结",
    r"總結|概括|摘要|提取|整理|归纳|分类|判断|情感|识别|续写|續寫|扩写|缩写|写一|写个|写首|写成|写封|写段",
    r"写篇|写出|寫一|寫個|造句|扮演|假装|假裝|假设你|假如你|你现在是|你是一|你是[“\"「]|你来演|你演|我演",
    r"演一段|接着演|角色|小说[里中的]|小說|(?:写|编|续)[^。\n]{0,6}小说|剧本|劇本|故事|台词|臺詞|歌词|诗|对白|相声|主角|男主|女主|旁白|日记",
    r"作文|文案|口号|读后感|阅读理解|课文|怎么说|怎麼說|怎么写|怎麼寫|怎么念",
    r"用(?:英语|英文|日语|法语|德语|韩语)(?:怎|表达|说)|什么意思|是什么意思|解释一下|语气|委婉|礼貌吗|对吗",
    r"正确吗|通吗|合适吗|合规吗|有用吗|正常吗|算不算|是不是",
    r"(?:下面|以下|下列|上面|以上)(?:哪|这|那|几|的(?:话|邮件|内容|文|句|对话))|来(?:了)?一?句|tl;?dr",
    r"(?:这|那|以下|下面|上面|以上|上述|下列|如下|该)(?:[一两几]?(?:段|句|封|篇|条|个|则|份|张|首|些"
    r"|道|行|章|本))?(?:话|句子|邮件|信|文字|文章|内容|消息|短信|代码|评论|提示词|格式|规范|手册|通知"
    r"|启事|聊天|记录|对话|材料|资料|文本|是|句|段|封|篇|则|首)",
    r"根据(?:资料|材料|聊天|上文|下文|以上)",
    r"(?<!我)(?:说|写道|寫道|留言|发来|發來|转给|转发|轉發|原话|回复说|告诉我|自述|写的是|发的|问我|喊"
    r"|叫道|唱|备注|附言)(?!明)(?:[：:，,“\"「]|是)",
    r"(?<![给跟和对替帮])(?:老板|客户|客人|患者|同事|领导|老师|房东|朋友|妈妈|爸爸|老公|老婆|女友|男友|室友|邻居|他|她"
    r"|他们|对方)(?:[一-龥]{0,4})(?:说|写|问|发|留言|要求|告诉|转)",
    r"打分|评分|评语|评价这|审一下|检查|分析|系统提示|节选|摘自|出自|引用|回(?:他|她|复他|复她)",
)
_OTHER_LANGUAGES = (
    r"übersetz\w*|zusammenfass\w*|fass\w* (?:das|den|die|diese\w*|folgende\w*)|korrigier\w*|formulier\w*",
    r"schreib\w* (?:mir )?(?:eine?n?|das|den|die)|wie sagt man|was (?:bedeutet|heißt)|folgende\w*",
    r"diese[rsn]? (?:text|mail|e-mail|satz|brief|prompt)|mein(?:e)? \w+ (?:sagt|schreibt|schrieb|meinte)",
    r"traduc\w*|tradúc\w*|resum\w*|corrig\w*|reescrib\w*|escrib\w* (?:me )?(?:un|una)|cómo se dice",
    r"qué (?:significa|hace|quiere decir)|siguiente\w*|est[ea] (?:texto|correo|mensaje|frase|prompt)",
    r"(?:dijo|dice|escribió)\b|翻訳|要約|添削|訳して|校正|書いて|直して|という意味|と言った|と書|英語で",
    r"次の(?:文|文章|メール)|この(?:文|文章|メール|英文)",
)
_ABOUT_TEXT = _any(rf"\b(?:{'|'.join(_OPERATIONS)})", *_REPORTED, *_ZH, rf"\b(?:{'|'.join(_OTHER_LANGUAGES)})")
# code, markup, mail, logs, headings, numbered lists, tables, quotes
_STRUCTURE = _any(
    r"```|~~~|(?m:^[ \t]*(?://|/\*|\*/|--[ \t-]|#|>|<|\||\{|\}|\[|@|={3,}|-{3,}|\*{3,}|_{3,}|\$ |%))",
    r"(?m:[;{}][ \t]*$)|</?[a-z一-龥][^<>\n]{0,60}>|\w\(|\(\x22|[\x22'][,\]}]|\x22\s*:|==|=>|->|&&|\|\||\\n",
    r"(?m:^[ \t]*[\w.-]+\s*=\s*\S)|https?://|www\.|\S@\S|\*\*",
    r"(?m:^[ \t]*(?:from|to|cc|subject|date|sent|betreff|von|an|asunto|para|发件人|收件人|主题|日期"
    r"|發件人|收件人|主旨|件名|差出人)\s*[:：])",
    r"(?m:^[ \t]*(?:dear|hi|hello|hey|hallo|liebe[rs]?|sehr geehrte\w*|guten tag|hola|estimad[oa]s?"
    r"|querid[oa]s?|to whom)\b(?! (?:there|again)\b)[^\n.!?]{0,40}[,:，：!]?[ \t]*$)",
    r"(?m:^(?:尊敬的|亲爱的|敬爱的|各位|致)[^\n]{0,30}[：:，,！!]?[ \t]*$)",
    r"(?m:^[^\n]{1,12}(?:您好|你好|大家好)[，,：:！!]?[ \t]*$)",
    r"(?m:^[ \t]*(?:best|kind|warm|many|with)?\s*(?:regards|wishes|sincerely|yours(?: \w+)?|cheers"
    r"|thanks|thank you|love|xx+|greetings|mit freundlichen grüßen|liebe grüße|viele grüße|saludos"
    r"|un saludo|atentamente|此致|敬礼|祝好|谢谢|顺颂商祺|以上)[,，!！]?[ \t]*$)",
    r"sent from my|发自我的|\(.{0,20}\d+ (?:likes|replies|views|upvotes)|赞同|小时前|hours? ago",
    r"days? ago\b.{0,10}$|—— ?\S|(?m:^\s*[—–-]{1,2}\s*[A-Z一-龥][\w .]{0,30}$)|(?m:^[ \t]*\d+\.\d+)|【|】",
    r"[①②③④⑤]|(?m:^[ \t]*\(?\[?\d{1,2}:\d\d)|\d{4}-\d\d-\d\d[ T]|\b\d{1,2}:\d\d:\d\d\b|\bA:\s|\bQ:\s",
)
_SIGNED = re.compile(r"\n\s*\n?[ \t]*[A-Z一-龥][\w.'’-]{0,15}(?: [A-Z][\w.'’-]{0,15}){0,2}[ \t]*\Z")
_QUOTED = re.compile(
    r"\"([^\"\n]{1,300})\"|[“”„«»]([^“”„«»\n]{1,300})[“”„«»]|「([^」\n]{1,300})」|『([^』\n]{1,300})』|《([^》\n]{1,300})》"
    r"|(?<![\w’'])['‘]([^'‘’\n]{1,300})['’](?![\w'])"
)
_NAME_WORDS, _NAME_CHARACTERS = 2, 5  # words, or characters of Chinese and the like, that a quoted name may have
_CJK = re.compile("[\u3040-\u30ff\u4e00-\u9fff]")
_COLON = re.compile(r"(?<!\d)[:：](?!//|\)|\(|-?[DPO)]\b)|(?<=\d)：")
# phrases before a colon that introduce a wish to the assistant
_OWN_INTRODUCTION = _any(
    r"(?:.{0,60}\b(?:one|another|some|few|two|three|small|quick|last|more|general|important|my|these"
    r"|following|the|please)\s+)?(?:things?|requests?|note|rules?|reminders?|wish|wishes|preferences?"
    r"|details?|favou?rs?|one)(?:\s+(?:for|about|to|before)\s[\w\s]{1,30})?",
    r"(?:.{0,40}\b)?before (?:we|you|i) (?:start|begin|go on|answer|continue)|heads[ -]up|first(?: of all)?"
    r"|(?:please |also |and )*(?:remember|note|keep in mind|know)(?: this| that| the following)?",
    r"here(?:'s| is| are) (?:how|what) (?:i|we)\b.{0,40}|(?:what|how) i(?:'d)? (?:want|need|like|expect"
    r"|prefer)\b.{0,50}",
    r".{0,60}\b(?:for you|about me|for (?:the|all) future(?: \w+)?|from now on|in (?:the )?future"
    r"|going forward|to remember|remember|keep in mind|please|p\.?s\.?|btw|by the way|fyi"
    r"|in every (?:chat|answer|reply)|in all (?:your )?(?:chats|answers|replies))[\s,]*",
    r".{0,30}(?:给你|对你|跟你说|记住|提醒你|补充|规矩|关于我|我的(?:偏好|习惯|要求|喜好)|说一下"
    r"|[一两三几](?:件事|点|条|个(?:要求|习惯))|顺便|另外|以后|请注意)[^：:\n]{0,10}",
    r".{0,40}(?:für die zukunft|eine bitte|übrigens|para el futuro|por cierto|una cosa|お願い)[^:\n]{0,20}",
)
_THEIRS: Final = re.compile(
    r"\w['’]s\s|\b(?:his|her|their|its|our|from|by)\b|[^我]{0,10}(?:客人|客户|患者|用户|顾客|老板|学生|公司|孩子)",
    re.IGNORECASE,
)
# imperative rules, which also occur in house rules, recipes and manuals
_RULE = _any(
    r"\W*(?:please |and |so |but )*(?:always|never|do not|don't|stop|from now on|going forward|in (?:the )?future)\b",
    r"\W*(?:请|請)?(?:以后|今后|从现在|始终|永远|务必|每次|不要|别|一直|总是)",
)
# words about answers: their language, format, tone and content
_ABOUT_ANSWERS = _any(
    r"\b(?:answer|repl(?:y|ies)|respon|expla|language|english|german|french|spanish|chinese|italian|dutch|portuguese|japanese"
    r"|korean|russian|latin|arabic|emoji|bullet|lists?\b|table|code|snippet|unit|celsius|metric|format|short|brief|concise"
    r"|formal|tone|call|address|name|me\b|my\b|mine\b|you|source|cite|quot|spell|markdown|step|sentence|word|paragraph|detail"
    r"|example|summar|currenc|euro|dollar|date|time|honest|disclaimer|apolog|question|chat|convers|message|title|heading"
    r"|bold|plain|simple|jargon|swear|slang|joke|polite|direct|grammar|link|kilomet|suggest|recommend|number|status|error"
    r"|comment|hint|python|typescript|javascript"
    r"|show|mention|include|speak|talk|tell|remind|translat|write|(?:when|if|whenever) i\b)",
    r"回答|回复|回覆|答复|解释|讲|说|用|语|文|简短|简洁|列表|表情|代码|单位|称呼|叫|语气|我|你|格式|步骤|例子|来源|字|句|段|提|写|道歉|换算|币|价格",
)
_LIST_LINE = re.compile(r"[ \t]*(?:[-*•·]|\d{1,2}[.)、:：]|[a-z]\)|[一二三四五六七八九十]、)\s*\S")


def is_pasted(message: str, sentence: str) -> bool:
    """True if a sentence of a message may not be the user's own: the message contains another text, or is about one, or
    the sentence follows a name, a heading or an announcement, or is a rule that is not about answers."""
    text = message.strip()
    if _RULE.match(sentence) and not _ABOUT_ANSWERS.search(sentence):
        return True
    if _STRUCTURE.search(_without_list_marks(text)) or _quotes(text) or _SIGNED.search(text):
        return True
    if _ABOUT_TEXT.search(text):
        return True
    lines = [line.strip() for line in text.splitlines()]
    list_lines = [line for line in lines if _LIST_LINE.match(line)]
    if len(lines) > (_WISH_LINES if list_lines else _LINES) or ("" in lines and not list_lines):
        return True
    if list_lines and not (lines[0] not in list_lines and _introduces_wishes(lines[0])):
        return True
    place = text.find(sentence)
    return any(not _is_own_colon(line) for line in text[: place + len(sentence)].splitlines())


def _quotes(text: str) -> bool:
    """True if quotation marks enclose more than a name, or one has no counterpart on its line."""
    quoted = [match[match.lastindex or 0] for match in _QUOTED.finditer(text)]
    if any(_is_sentence(words) for words in quoted):
        return True
    return any(mark in _QUOTED.sub("", text) for mark in '"“”„«»「」『』')


def _is_sentence(words: str) -> bool:
    is_long = len(words.split()) > _NAME_WORDS or len(_CJK.findall(words)) > _NAME_CHARACTERS
    return is_long or words.startswith(("我", "I ", "I'", "请", "以后"))


def _without_list_marks(text: str) -> str:
    return "\n".join(_LIST_MARK.sub("", line) for line in text.split("\n"))


def _introduces_wishes(line: str) -> bool:
    head, colon, rest = _split_at_colon(line)
    return bool(colon) and not rest and _is_introduction(head)


def _is_own_colon(line: str) -> bool:
    head, colon, _ = _split_at_colon(line)
    return not colon or _is_introduction(head)


def _split_at_colon(line: str) -> tuple[str, str, str]:
    match = _COLON.search(line)
    if match is None:
        return line, "", ""
    return line[: match.start()], match[0], line[match.end() :].strip()


def _is_introduction(head: str) -> bool:
    last = re.split(r"[.!?。！？]\s*", head)[-1].strip()
    return _THEIRS.search(last) is None and _OWN_INTRODUCTION.fullmatch(last) is not None
