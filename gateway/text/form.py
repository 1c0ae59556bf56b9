"""Reads the form of a text: whether it asks, orders or tells, of oneself or of a matter, in words or in code. Pure.

Form separates personal statements from tasks without a model: "translate this" and "my sister moved to York" differ in
their sentences, independently of the subject. English and Chinese have word lists; some other languages have first
persons and the commonest orders; all others have only marks: question marks, code, lists. A form is stored with each
memory as one number.
"""

import re
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Final

__all__ = ["CODE_BLOCK", "FEATURES", "FORM_BITS", "FORM_LEVELS", "UNKNOWN_FORM", "Form", "read_form"]

_HEAD, _TAIL = 2400, 600  # characters of a long text that are read
FORM_BITS: Final = 4
"""Bits of each feature in a packed form."""
FORM_LEVELS: Final = 2**FORM_BITS - 1
"""The packed number of a feature that is 1."""
UNKNOWN_FORM: Final = -1
"""The packed form of rows that earlier versions wrote without one."""

CODE_BLOCK = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_CODE_LINE = re.compile(
    r"^\s*(?:[{}()\[\];]+\s*$|(?:def|class|import|from|return|for|while|if|else|elif|try|except|const|let|var"
    r"|function"
    r"|public|private|static|void|int|SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|FROM|WHERE|JOIN|GROUP BY|ORDER BY"
    r"|#include"
    r"|<\?php|</?[a-z][a-z0-9]*(?:\s[^>]*)?>|\$ |>>> |at \w+\.|File \"|Traceback|npm|pip|git|docker|sudo)\b.*"
    r"|(?![^\n]*[\u0370-\u03ff]).*[;{]\s*$"  # in Greek it asks
    r"|.*(?:=>|->|::|\)\s*:$|==|!=|&&|\|\||\w+\(\w*\)|</\w+>|\"\w+\":).*)"
)
_LIST_LINE = re.compile(r"^\s*(?:[-*•·|]|\d{1,3}[.)、:]|[（(]?[一二三四五六七八九十]{1,3}[)）、.]|\#{1,4}\s)\s*\S")
_SENTENCE = re.compile(r"[^.!?؟。！？；;\n]+(?:\.(?=\w)[^.!?؟。！？；;\n]*)*[.!?؟。！？；;]*")
# the patterns down to `_TODAY` are searched in lower case: one that ignores case takes twice as long
_QUESTION = re.compile(
    r"[?？؟\u037e]|[\u0370-\u03ff]\s*;|[吗呢么]\s*[。!！~]?\s*$"
    r"|^\W*(?:(?:and|so|but|or|then|also|hey|ok(?:ay)?|btw|quick question)\W+){0,2}"
    r"(?:what|what's|whats|who|who's|whose|which|when|where|why|how|how's|is|are|was|were|do|does|did|can|could"
    r"|should"
    r"|would|will|has|have|may|am)\b(?!\W*$)"
    r"|多少|什么|哪[里儿个些家年天位]|怎么|怎样|如何|为啥|为什么|几[点个岁次年月号]|是谁|谁的|是不是|有没有"
    r"|能不能|可不可以|要不要"
    r"|^\W*(?:was|wer|wie|wo|wann|warum|welche[rsnm]?|kannst|ist|sind|qué|quién|cómo|dónde|cuándo|cuál|cuánto|puedes"
    r"|quel(?:le)?s?|comment|où|quand|pourquoi|combien|est-ce)\b",
)
_VERBS = (
    "write|rewrite|translate|explain|summari[sz]e|list|give|make|create|generate|fix|convert|rephrase|reword|paraphrase"
    "|compare|calculate|compute|solve|find|suggest|describe|define|draft|proofread|correct|improve|shorten|classify"
    "|extract|analy[sz]e|build|implement|design|develop|tell|show|add|remove|change|sort|count|complete|continue|format"
    "|turn|help|provide|outline|brainstorm|name|identify|edit|debug|refactor|optimi[sz]e|answer|read|check|review|plan"
    "|come up|polish|tidy|clean|draw|print|replace|merge|split|round|expand|elaborate|simplify|recommend|pick|choose"
    "|prepare|compose|set up|look up|search|figure out|work out|estimate|evaluate|assess|group|rank|order|put|use|do"
    "|try|let's|spell|pronounce|cite|quote|fill|insert|parse|transform|reformat|tighten|proof|organi[sz]e|arrange"
)
# "the doctor who treats me", which is no order
_WHO_DOES = r"[^，。？！\s]{1,4}的(?:是|人|那|医生|大夫|护士|老师|教练|阿姨|师傅|律师|朋友|同事)"
_ORDER = re.compile(
    r"^\W*(?:(?:ok(?:ay)?|hi|hey|hello|now|then|and|so|also|please|pls|plz|just|kindly|quick(?:ly)?|thanks"
    r"|again)\W+){0,3}"
    r"(?:(?:can|could|would|will) (?:you|u) (?:please |pls |just |also |maybe )?)?"
    r"(?:(?:i (?:want|need|would like|'d like) you to|i'd like you to|your task is to|act as|you are an?) )?"
    rf"(?:{_VERBS})\b(?!-|\W{{0,2}}(?:number|is|was|are|of)\b)"
    r"|^\W*(?:(?:i )?(?:need|looking for|got)|want) (?:an?|some|the|\d+)\b"
    r"|^\W*(?:what|which) (?:is|are|does|do|was|were) (?!my\b|our\b|me\b|i\b|we\b|you\b)"
    rf"|^\W*(?:帮|给|替|告诉|教)我(?!{_WHO_DOES})"
    r"|^\W*(?:请|麻烦|劳驾|帮忙|把|将|写|翻译|解释|总结|概括|列出|列举|生成|改写|润色|修改|优化"
    r"|设计|计算|求|证明"
    r"|推荐|介绍|分析|说明|提取|归纳|对比|比较|制定|起草|拟|编写|编|续写|扩写|缩写|检查|纠正|用.{1,12}写|实现|画"
    r"|整理|简述|描述"
    r"|出[一几\d]|来[一几点个段份]|再来|换成|转成|转换|举|讲|查一?下|算一?下|看一?下|写[个一])"
    r"|^\W*(?:bitte|schreib\w*|übersetz\w*|erklär\w*|fass\w*|erstell\w*|mach\w*|gib|nenn\w*|zeig\w*|hilf|korrigier\w*"
    r"|formulier\w*|berechne\w*|kannst du|könntest du|escribe|traduce|explica|resume|haz|dame|crea|genera|corrige"
    r"|calcula"
    r"|lista|ayúdame|puedes|podrías|écris|traduis|explique|résume|donne|fais|crée|corrige|calcule|peux-tu|pouvez-vous"
    r"|напиши|переведи|объясни|составь|сделай|scrivi|traduci|spiega|escreva|traduza|explique)\b",
)
_FIRST_PERSON = re.compile(r"\b(?:me|i|my|our)\b|我")  # in each match of `_ERRAND`
# requests in the first person that say nothing about the person
_ERRAND = re.compile(
    r"\b(?:give|tell|show|help|write|send|make|get|let|teach|remind|ask|find|explain to|bring|walk|draft|do)s?\s+me\b"
    r"|\bhow\b[^.?!\n]{0,24}?\b(?:do|can|could|would|should|might)\s+i\b"
    r"|\b(?:what|where|which|why)\b[^.?!\n]{0,24}?\b(?:can|could|would|should|might)\s+i\b"
    r"|\b(?:can|could|may|should)\s+i\s+(?:use|get|write|make|do|run|ask|see|also|just|still)\b"
    r"|\bdo\s+i\s+(?:have|need) to\b"
    r"|\bi\s+(?:just |only |really |also )?(?:need|want|would like|am trying|was trying|tried|have to|get"
    r"|keep getting|see)\b"
    r"(?=[^.?!\n]{0,40}\b(?:to|an?|the|this|you|some|it|error|that)\b)"
    r"|\bi(?:'d| would) like (?:to|you|an?|some)\b"
    r"|\bi'm (?:trying|getting|looking|wondering|using)\b|\bi (?:mean|meant|think|guess"
    r"|said)\b"
    r"|\b(?:my|our|i have (?:an?|the|this|two|some)|i've got an?) (?:\w+ )?(?:code|query|script|function|regex"
    r"|dataframe|table"
    r"|data|file|files|list|program|app|server|docker\w*|container|database|db|string|array|variable|sheet"
    r"|spreadsheet|csv"
    r"|json|yaml|config\w*|repo|branch|commit|terminal|class|component|api|endpoint|test|tests|model|loop|cell"
    r"|column|row"
    r"|text|sentence|paragraph|essay|draft|email|mail|document|pdf|question|problem|question is|answer|code below)\b"
    rf"|(?:帮|给|告诉|教|让|替|为|陪|跟|和|请)我(?!{_WHO_DOES})|我(?:想|要|需要|该|能|可以|应该)?(?:问|知道|了解|请教|让你|怎么|如何)"
    r"|我(?:需要|想要|要)(?:一|个|写|做|你)|我(?:的|这)?(?:段|个|份)?(?:代码|程序|脚本|函数|查询|表|数据|文件"
    r"|项目|接口|页面|组件|数据库"
    r"|文章|作文|句子|报告|邮件|论文|问题)",
)
_SELF = re.compile(
    r"\b(?:i|i'm|im|i've|ive|i'd|i'll|me|my|mine|myself|we|we're|we've|we'll|us|our|ours)\b|我|咱|俺|本人"
    r"|\b(?:ich|mich|mir|mein\w*|wir|uns|unser\w*|yo|mi|mis|me|mío|mía|nosotr[oa]s|nuestr[oa]s?|je|j'\w+|moi|mon|mes"
    r"|nous"
    r"|notre|nos|io|mio|mia|noi|nostr\w|eu|meu|minha|nós|nosso|ik|mij|mijn|wij|ons|onze)\b"
    r"|\b(?:vivo|trabajo|tengo|soy|estoy|moro|trabalho|tenho|sou|estou|abito|lavoro|habite|travaille)\b"
    r"|\b(?:μου|μας|εγώ|με|είμαι|έχω)\b|\b(?:я|мне|меня|мой|моя|мои|мы|нас|наш\w*)\b|私|僕|俺|うち|저는|제가|내가|나는|나의|우리|أنا|मैं|मेर[ाीे]",
)
_MINE = re.compile(
    r"\b(?:my|our)\s+(?:\w+\s+)?(?:wife|husband|partner|boyfriend|girlfriend|fianc\w+|son|daughter|kids?"
    r"|child(?:ren)?|baby"
    r"|mom|mum|mother|dad|father|parents|brother|sister|grand\w+|aunt|uncle|cousin|niece|nephew|in-laws|family"
    r"|friends?"
    r"|neighbou?rs?|boss|manager|colleagues?|coworkers?|team|dog|cat|puppy|kitten|pet|horse|car|truck|bike|house|flat"
    r"|apartment|home|garden|job|birthday|anniversary|wedding|doctor|allerg\w+|health|back|knee|landlord|school"
    r"|twins|ex)\b"
    r"|(?:我|咱)(?:的)?(?:们)?(?:家|老婆|老公|妻子|丈夫|爱人|男朋友|女朋友|对象|儿子|女儿|孩子|宝宝|爸|妈|父|母"
    r"|哥|姐|弟|妹|爷|奶|外公"
    r"|外婆|姥|舅|姨|叔|姑|表|堂|朋友|同学|同事|室友|老板|领导|猫|狗|车|房|生日|身体|工作)"
    r"|\b(?:mein(?:e|er|em|en)?|mi|mis|mon|ma|mes)\s+(?:frau|mann|sohn|tochter|kind\w*|mutter|vater|bruder|schwester"
    r"|hund"
    r"|katze|freund\w*|chef\w*|esposa|marido|mujer|hij[oa]s?|madre|padre|hermanos?|hermanas?|perr[oa]|gat[oa]|jefe"
    r"|femme|mari"
    r"|fils|fille|mère|père|frère|sœur|chien|chat|ami\w*)\b",
)
_BACK = re.compile(
    r"\b(?:earlier|before|previous(?:ly)?|last (?:time|week|month|year|night|summer|winter|spring|autumn|fall)"
    r"|remember"
    r"|again|a while (?:ago|back)|ago|the other day|already|we (?:talked|discussed|spoke)|i (?:told|mentioned|said)"
    r"|you (?:gave|told|said|wrote|suggested|made|recommended|came|mentioned|did|used|had|helped|showed|explained"
    r"|proposed"
    r"|sent|drafted|picked|named)|did (?:you|we|i)|have i|was i|that \w+ (?:you|we|i)\b|same as|know about (?:me|us))\b"
    r"|上次|上回|之前|以前|先前|刚才|早些|那次|那个|记得|还记|知道我|关于我|说过|提过|讲过|聊过|给过|写过|推荐过|我们聊"
    r"|你(?:给|说|写|推荐|帮我)(?:过|的)"
    r"|\b(?:vorhin|neulich|letzt\w+|damals|früher|erinner\w+|hattest|hast du|anteri\w+|antes|recuerd\w+|última vez"
    r"|dijiste"
    r"|diste|avant|dernièr\w+|rappel\w+|tu m'as|souviens|über mich|sabes de mí|sais de moi)\b",
)
_UNSURE = re.compile(
    r"\b(?:i (?:do not|don't|don’t) (?:know|have (?:any |that |access|information|a record|your)|see|recall|remember)"
    r"|i(?:'m| am) (?:not sure|not aware|unable)|haven't (?:told|mentioned|shared)|you (?:have not|haven't) "
    r"(?:told|mentioned|shared)|no (?:record|information) (?:of|about))\b"
    r"|不知道你|我(?:还)?不(?:知道|清楚|了解)|没有(?:你|您|相关)的?|没(?:有)?(?:告诉|提到|提过|说过)|无法(?:得知"
    r"|知道)"
    r"|\b(?:ich weiß (?:es )?nicht|no (?:lo )?sé|no tengo|je ne sais pas)\b",
)
_YOU = re.compile(r"\b(?:you|your|u|ur)\b|[你您]|\b(?:du|dir|dein\w*|tú|te|tu|tus|usted|vous|toi|ton|ta)\b")
_NAME = re.compile(r"(?<![.!?:\"“\n])(?<!^) [A-ZÀ-Þ][a-zà-ÿ]+")
_TODAY = re.compile(
    r"\b(?:today|tonight|tomorrow|yesterday|this (?:morning|evening|week|weekend|month|year)|next (?:week|month|year)"
    r"|weekend|on (?:mon|tues|wednes|thurs|fri|satur|sun)day|since|for \d+ years|just (?:got|had|moved|started"
    r"|finished))\b"
    r"|今天|明天|昨天|后天|今晚|周末|下周|上周|这周|本周|下个?月|上个?月|今年|明年|去年|最近|刚刚?|号"
    r"|\b(?:heute|morgen|gestern|wochenende|hoy|mañana|ayer|semana|aujourd'hui|demain|hier)\b",
)
_REACTIONS: Final = frozenset(
    """
    thanks thank thx ty cheers great perfect nice cool awesome good ok okay k yes yeah yep no nope sure fine right helps
    helped works worked working again please pls hi hello hey morning evening afternoon night bye goodbye later continue
    go keep going more shorter longer simpler better another same try ah oh wow lol haha hmm exactly correct done love
    lovely brilliant amazing excellent appreciated appreciate nevermind never sorry oops welcome friendlier formal
    casual danke super gut weiter nochmal hallo tschüss gracias perfecto vale genial hola adiós sigue continúa otra vez
    merci parfait salut bonjour encore
    """.split()
)
_FILLERS: Final = frozenset(
    """
    you so much very a lot that this it one the got on there see once too little bit for me all set mind my bad be make
    now next well really just was is up two options option version and an in de nada muy bien sehr gut bitte por favor
    beaucoup
    """.split()
)
_GREETINGS = re.compile(r"how(?:'s it going| are you(?: doing)?(?: today)?)|what'?s up|how do you do", re.IGNORECASE)
_REACTION_ZH = re.compile(
    r"(?:谢谢|多谢|感谢|辛苦了?|你好|您好|早上好|早安|早|下午好|晚上好|晚安|再见|拜拜|嗨|哈喽|在吗|在不在|好的?"
    r"|好滴|行|可以|不错|很好"
    r"|太好了|太棒了|棒|赞|完美|厉害|牛|明白了?|懂了|知道了|收到|了解|搞定了?|解决了|没事了?|不用了|没问题|继续"
    r"|接着(?:写|说)?"
    r"|再(?:短|长|简单|详细|来|试|改|写|说)(?:一?[点些下次遍个])?|短一?点|长一?点|简短|简单|详细|一?[点些]"
    r"|换一?个|重新?来|重写|重试|下一个|还有(?:吗|呢)?|嗯+|哦+|啊|呀|呢|吧"
    r"|了|哈+|嘿+|是的?|对的?|不是|就这样|先这样|有用|帮大忙了?|你|我|请|的|这个?|那|太|很|真|挺|啦|哟|喔|谢了?"
    r"|ok|thx|thanks|hi|hello)+"
)
_CACHED_FORMS = 256
_PARTLY = 0.8  # of a text that says something else, too
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_HAS_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Features of a text's form, each 0–1.

    `asks`, `orders`, `tells`: shares of the sentences that ask, open with an order, and tell with a first person.
    `opens_with_order`, `has_self`, `refers_back`, `is_unsure`, `has_time`, `addresses`: 1 if so. `mine` and `names`:
    how much it speaks of people and things of the user's own, and of names. `code` and `listing`: shares of the lines.
    `reaction`: share of the words that only react ("thanks, that works").
    """

    asks: float = 0.0
    orders: float = 0.0
    tells: float = 0.0
    opens_with_order: float = 0.0
    has_self: float = 0.0
    refers_back: float = 0.0
    is_unsure: float = 0.0
    has_time: float = 0.0
    addresses: float = 0.0
    mine: float = 0.0
    names: float = 0.0
    code: float = 0.0
    listing: float = 0.0
    reaction: float = 0.0

    def packed(self) -> int:
        """The features in four bits each, the first one lowest."""
        number = 0
        for place, name in enumerate(FEATURES):
            number |= round(min(1.0, max(0.0, getattr(self, name))) * FORM_LEVELS) << (FORM_BITS * place)
        return number


FEATURES: Final = tuple(field.name for field in fields(Form))
"""The names of a form's features, in their order."""


def read_form(text: str) -> Form:
    """The form of a text. Of a long one the beginning and the end are read. A message is read for recall, and again
    when it is stored: forms of recent texts are cached."""
    if len(text) > _HEAD + _TAIL:
        text = f"{text[:_HEAD]}\n{text[-_TAIL:]}"
    return _read_cached(text)


@lru_cache(_CACHED_FORMS)
def _read_cached(text: str) -> Form:
    prose = CODE_BLOCK.sub("\n", text) if "```" in text else text
    code_lines, list_lines, lines = _line_counts(prose)
    fenced = text.count("\n") - prose.count("\n") if prose is not text else 0
    total = max(1, lines + fenced)
    lowered = prose.lower()
    sentences = [match.group() for match in _SENTENCE.finditer(lowered) if not match.group().isspace()][:40]
    count = max(1, len(sentences))
    has_errands = _FIRST_PERSON.search(lowered) is not None
    plain = [_ERRAND.sub(" ", sentence) for sentence in sentences] if has_errands else sentences
    asks = [_QUESTION.search(sentence) is not None for sentence in sentences]
    orders = [_ORDER.search(sentence) is not None for sentence in sentences]
    selves = [_SELF.search(sentence) is not None for sentence in plain]
    tells = [has_self and not ask and not order for has_self, ask, order in zip(selves, asks, orders, strict=True)]
    joined = "\n".join(plain)
    return Form(
        asks=sum(asks) / count,
        orders=sum(orders) / count,
        tells=sum(tells) / count,
        opens_with_order=float(any(orders[:1])),
        has_self=float(any(selves)),
        refers_back=float(_BACK.search(lowered) is not None),
        is_unsure=float(_UNSURE.search(lowered) is not None),
        has_time=float(_TODAY.search(lowered) is not None),
        addresses=float(_YOU.search(lowered) is not None),
        mine=min(1.0, len(_MINE.findall(joined)) / 3),
        names=min(1.0, len(_NAME.findall(prose)) / 5),
        code=(code_lines + fenced) / total,
        listing=list_lines / total,
        reaction=_reaction_share(prose),
    )


def _line_counts(text: str) -> tuple[int, int, int]:
    """Counts of lines that look like code, of lines of lists and tables, and of all lines that are not empty."""
    lines = [line[:200] for line in text.split("\n") if line.strip()]
    code = sum(_CODE_LINE.match(line) is not None for line in lines)
    listing = sum(_LIST_LINE.match(line) is not None for line in lines) if len(lines) > 1 else 0
    return code, listing, len(lines)


def _reaction_share(text: str) -> float:
    if len(text) > 120:
        return 0.0
    if _HAS_CJK.search(text):
        letters = "".join(character for character in text if character.isalnum())
        if not letters:
            return 1.0
        share = len("".join(_REACTION_ZH.findall(letters))) / len(letters)
        return 1.0 if share == 1 else _PARTLY * share
    words = [word.group().casefold() for word in _WORD.finditer(_GREETINGS.sub("hello", text))]
    if not words:
        return 1.0
    reactions = sum(word in _REACTIONS for word in words)
    if reactions and all(word in _REACTIONS or word in _FILLERS for word in words):
        return 1.0
    return _PARTLY * reactions / len(words)
