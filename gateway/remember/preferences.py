"""Detects explicit preferences and traits of a user by patterns in English and Chinese, without a model. Pure.

A preference is a first-person sentence that states likes and dislikes, how to address the user, or how answers should
be. One sentence is enough; questions and one-off wishes ("this time", "这次") do not count.
"""

import re
from dataclasses import dataclass
from typing import Final

from gateway.memory.record import Record, message_id
from gateway.remember.traits import is_fiction, trait_of
from gateway.text.terms import is_question

__all__ = ["ABOUT_ONESELF", "EXPLICIT", "Preference", "is_whole_and_short", "preferences"]

EXPLICIT: Final = "explicit_preference"
ABOUT_ONESELF: Final = "about"
"""The topic of users' statements about who they are."""
_OWN_WORDS = 600  # characters up to which a message is hardly a paste
_MAX_CHARACTERS = 300  # characters of a preference
_MIN_CHARACTERS = 3
_MAX_PREFERENCES = 8  # preferences of one message
_READ = 3000  # characters of a message that are searched: a paste is no preference
_SENTENCE = re.compile(r"(?:[^.!?。！？；;\n]|(?<=\b[DMS]r)\.|(?<=Mrs)\.|\.(?=\S))+[.!?。！？；;]*")
_ONCE = re.compile(
    r"\b(this (time|once)|just (this )?once|for (now|today|once)|right now|today|tonight|temporarily"
    r"|for this (one|email|mail|task|question|answer|case|text|essay|story))\b"
    r"|这次|这回|本次|今天|今晚|暂时|先这样|只此一次|这一次",
    re.IGNORECASE,
)
_OTHERS = re.compile(
    r"^\s*(my|the|his|her|their|our)\s+(?!favou?rite|preferred|pronouns|name is)\w+\s+"
    r"(likes?|loves?|hates?|prefers?|is|are)\b"
    r"|^\s*(he|she|they|we|you(?!\s+(?:should|must|can)\s+(?:always|never|call)))\b|^(我的)?(妈妈|爸爸|朋友|同事|老公|老婆|儿子|女儿|他|她|他们)",
    re.IGNORECASE,
)
_ADVERBS = (
    r"(?:(?:really|absolutely|personally|also|usually|always|generally|especially|just|do|strongly|much)\s+){0,3}"
)
_DO = (
    r"(?:answer|reply|respond|write|use|speak|talk|call|address|give|include|add|explain|format|keep|start|end|show"
    r"|mention|send|suggest|recommend|remind|translate|cite|quote|avoid|assume|put|make|tell|ask)"
)
_DEGREES = (
    r"(?:比较|更加?|很|最|特别|非常|超级?|真的?|一直|平时|还是|其实|也|都|就|从小|通常|一般|个人|确实|太|可|挺){0,3}"
)
_LATER = (
    r"(?:when|if|back|later|tomorrow|tonight|at|on|once|after|before|as soon|again|in|this|next|any|whenever|for)\b"
)
_NARRATOR = r"(?:it|there|he|she|they|we|the|our|his|her|their|my|everything|nothing|things)\b"
_MANNER = r"be|keep|use|avoid|answer|reply|respond|call|address|speak|talk|include|cite"
_ZH_ERRAND = "去|来|做|帮|买|写|把|别|不|先|赶|回|给|等|吃|看|起床|到"
_ZH_KIN = "妹|姐|弟|哥|妈|爸|爷|奶|外公|外婆|老[公婆板师]|女|儿|孩|朋友|同[事学]|先生|太太|家|们|叔|阿姨|邻居|室友|男"
_NOT_UNSURE = r"(?<!\bif )(?<!whether )(?<!think )(?<!sure )(?<!unless )(?<!when )(?<!until )"
_CANNOT = (
    r"\s+(?:can't|cannot|can not|must not|mustn't|may not|can no longer)"
    r"|(?:'m|\s+am)\s+(?:not able|unable|not allowed) to"
)
_NO_FOOD = (
    r"(?:yet|alone|fast|because|breakfast|lunch|dinner|supper|all|every\w*|at|from|the|in|on|to|my|your|his|her|their|our"
    r"|an?|now|here|there|like|well|properly|enough|too|any(?:thing|\s?more)|another|it|that|this|these|those|much|so"
    r"|until|before|while|right|and|or|when|with|out|more|for|as|if|either)\b"
)
_END = r"(?=\s*(?:[.,;!)]|$|\b(?:and|since|because|so|but|as)\b))"
_FOOD = rf"(?!{_NO_FOOD})[\w-]+(?:\s+(?!with\b|from\b|at\b|in\b|while\b)[\w-]+){{0,4}}?{_END}"
_OF_ILLNESS = (
    r"(?!(?:no|not|never|to|about|with|for|of|read|heard|written|friend|dog|cat|patients?|questions?|if|known)\b)"
    r"[\w-]+\s+"
)
_ZH_END = r"(?=[，。！；、,.!;\s]|$)"
# topic, pattern; the first match determines the topic
_PATTERNS: Final = (
    ("address", rf"(?<!n't )(?<!not )(?<!never )\b(?:call me\s+(?!{_LATER})|address me as|refer to me as"
     r"|my pronouns are|i go by)\s*\w"),
    ("address", rf"(?:^|[，,。；;\s])(?:你|请|可以|就|以后|今后|都)*(?:叫我|称呼我)(?:为|做|作)?\s*"
     rf"(?!{_ZH_ERRAND})[\w\u4e00-\u9fff]"),
    ("address", r"^\W*(?:(?i:hi|hello|hey)\b(?: there)?[,.!]?\s*)?"
     r"(?:(?i:my (?:full )?name is|i am called|i'm called))\s+"
     r"[A-ZÀ-Þ]\w*(?:\s+[A-ZÀ-Þ]\w*){0,3}(?=\s*(?:[.,!;]|$|\band\b)).{0,30}$"),
    ("address", r"(?:^|[，,。；;！!])(?:你好)?(?:我叫|我的名字[叫是])(?![了他她它你人车什谁不一这那])"
     r"[\u4e00-\u9fff]{1,4}(?=[，,。！!]|$).{0,8}$"),
    ("health", r"\bI(?:'m| am)\s+(?:\w+\s+){0,2}(?:type\s+[12]\s+)?(?:vegetarian|vegan|pescatarian|allergic|intolerant"
     r"|colou?r-?blind|left-handed|diabetic|epileptic|asthmatic|coeliac|celiac|teetotal)\b"),
    ("health", rf"我(?!{_ZH_KIN}).{{0,4}}(?:对.{{1,12}}过敏|是(?:个)?(?:素食|纯素|左撇子|色盲|乳糖不耐)|吃素)"),
    ("health", rf"{_NOT_UNSURE}\bI(?:{_CANNOT})\s+(?:eat|drink|tolerate)\s+(?:or\s+(?:eat|drink)\s+)?"
     rf"(?:anything\s+(?:with|containing)\s+)?{_FOOD}"),
    ("health", rf"{_NOT_UNSURE}\bI(?:{_CANNOT})\s+have\s+(?:any\s+)?(?:gluten|dairy|lactose|milk|nuts|peanuts|eggs?"
     r"|soy|wheat|shellfish|seafood|fish|pork|sugar|alcohol|caffeine)\b(?!\s+(?:right|now|left|here))"),
    ("health", rf"{_NOT_UNSURE}\bI(?:'ve|\s+also)?\s+(?:have|got|have\s+got|suffer\s+from|was\s+diagnosed\s+with)\s+"
     rf"(?:{_OF_ILLNESS}){{0,5}}(?:allerg(?:y|ies)(?:\s+to\b.*)?|intolerances?|diabetes|celiac(?:\s+disease)?"
     rf"|coeliac(?:\s+disease)?|epilepsy|asthma)\b{_END}"),
    ("health", rf"我(?!{_ZH_KIN})(?:也)?(?:患有|有|得了|得的是|是)"
     r"(?:[一二12]型|先天性?|遗传性?|严重的?|轻度|慢性){0,2}"
     rf"(?:糖尿病|哮喘|癫痫|乳糜泻|过敏症)(?:患者|病人|人)?{_ZH_END}"),
    ("health", rf"我(?!{_ZH_KIN})(?:也|都|一直)?(?:不能|不可以)(?:吃|喝)"
     rf"(?![了太这那晚完早午水你我他她它您各任饭])[\u4e00-\u9fff]{{1,6}}(?<!开车){_ZH_END}"),
    ("health", rf"我(?!{_ZH_KIN})(?:也)?(?:有)?(?![他她它谁人会能很怕说在没])[\u4e00-\u9fff]{{1,4}}过敏{_ZH_END}"),
    ("health", r"我(?:也)?(?:乳糖不耐|吃不了(?!了|饭|那么|这么|太|多少)[\u4e00-\u9fff])"),
    ("style", r"^\W*(?:please\s+|so\s+)?(?:from now on|in (?:the )?future(?!\s+\w+s\b)|going forward"
     rf"|for all (?:future|your) \w+)\b(?!,?\s+{_NARRATOR}).{{3,}}"),
    ("style", rf"^\W*(?:please\s+|and\s+|you (?:should|must)\s+)?(?:always|never)\s+{_DO}\b"),
    ("style", rf"^\W*(?:please\s+)?(?:do not|don't|stop)\s+(?:ever\s+|always\s+)?(?:using|calling|{_DO})\b.*"
     r"\b(?:ever|again|any ?more|me|in (?:your|any) (?:answers?|repl(?:y|ies)))\b"),
    ("style", r"\bI(?:'d)? (?:want|need|would like|like|expect|prefer) "
     rf"(?:(?:you to\s+(?:always|never|not|only|stop|{_MANNER}))\b(?!.*\bthis\b)"
     r"|(?:your answers?|all answers?|answers? (?:to be|in))\s*(?:to\s+)?(?:always\s+|never\s+)?\w+)"),
    ("style", r"(?:以后|今后|从现在(?:起|开始)|从今(?:以后|往后)).{0,8}"
     r"(?:请|都|要|不要|别|用|不许|一律|必须)"),
    ("style", r"(?:每次|永远).{0,8}(?:请|不要|别|不许|一律|必须|都[要用请得]|要用)"),
    ("style", r"^\W*(?:请)?(?:一直|总是|始终|务必)(?:都)?(?:用|以|给|保持|使用)"),
    ("style", r"^\W*(?:请)?(?:不要|别|不许)(?:再|总是|老是)(?:用|叫|使用|给我|提|发|加|说)"),
    ("taste", rf"\bI\s+{_ADVERBS}(?:prefer|hate|dislike|detest|adore|can't stand|cannot stand|can't bear|avoid"
     r"|never (?:eat|drink|use|wear|watch|read|take))\s+(?!to know|to hear|to ask|that you|it\b|this\b|your\b)\w"),
    ("taste", rf"\bI\s+{_ADVERBS}(?:like|love|enjoy|don't (?:like|enjoy|want|eat|drink)|do not like)\s+"
     r"(?!to (?:know|hear|ask|see|have|get|make|book|order)|(?:that|it|this|your|you|how|what)\b"
     r"|the (?:way|idea|sound)\b)\w"),
    ("taste", r"\bmy (?:favou?rite|preferred)\b.{1,60}\b(?:is|are|would be)\b"),
    ("taste", rf"我{_DEGREES}(?:不喜欢|喜欢|最爱|爱吃|爱喝|爱看|爱听|偏好|偏爱|更愿意|宁愿|讨厌|不爱|受不了"
     r"|从不|从来不|不吃|不喝|习惯(?:用|于|在))"),
    ("taste", r"我(?:的)?(?:最爱|偏好|首选|最喜欢的.{1,20})(?:是|为)"),
)  # fmt: skip
# words of which every pattern needs one: a prefilter that rejects most sentences
_TRIGGER = re.compile(
    r"\b(?:prefer|hate|dislike|detest|adore|stand|bear|avoid|like|love|enjoy|want|eat|drink|favou?rite|never|always|call"
    r"|address|refer|pronouns|go by|vegetarian|vegan|pescatarian|allerg|intoleran|colou?r|left-handed|diabet"
    r"|epilep|asthma|tolerate|have|coeliac|celiac|teetotal|name|called|from now on|future"
    r"|forward|stop|don't|not|need|expect)|[我以今从每永请叫称一总始务不别]",
    re.IGNORECASE,
)
# patterns that recognise names by capitals mark case-insensitive parts themselves
_COMPILED = tuple(
    (topic, re.compile(pattern, re.NOFLAG if "(?i:" in pattern else re.IGNORECASE)) for topic, pattern in _PATTERNS
)
_NOT_ONES_OWN = re.compile(r"\bI(?:'d| would) (?:like|love|prefer) to\b|我(?:喜欢|爱)(?:你|他|她)")


@dataclass(frozen=True, slots=True)
class Preference:
    """A preference or trait. `text` is the user's own sentence; `topic` is address, health, style, taste, or about (who
    they are), for which `trait` names the trait."""

    text: str
    topic: str
    trait: str = ""


def is_whole_and_short(record: Record) -> bool:
    """True for a whole, short message: not a chunk of a longer one, and hardly a paste, so its words are the user's."""
    return len(record.text) <= _OWN_WORDS and not record.part and record.message_id == message_id(record.text)


def preferences(message: str) -> list[Preference]:
    """The explicit preferences and traits that a user's message states, in order; at most `_MAX_PREFERENCES`, from
    the first `_READ` characters."""
    results: list[Preference] = []
    excerpt = message[:_READ]
    is_own: bool | None = None
    for match in _SENTENCE.finditer(excerpt):
        sentence = match.group().strip()
        topic, trait = _find_topic(sentence), ""
        if topic is None and is_own is not False and (trait := _find_trait(sentence)):
            is_own = not is_fiction(excerpt) if is_own is None else is_own
            topic = ABOUT_ONESELF if is_own else None
        if topic is not None:
            results.append(Preference(sentence, topic, trait))
            if len(results) == _MAX_PREFERENCES:
                break
    return results


def _find_trait(sentence: str) -> str:
    is_statement = _MIN_CHARACTERS <= len(sentence) <= _MAX_CHARACTERS and not is_question(sentence)
    return trait_of(sentence) if is_statement and not _ONCE.search(sentence) else ""


def _find_topic(sentence: str) -> str | None:
    sentence = sentence.replace("’", "'")
    if not _MIN_CHARACTERS <= len(sentence) <= _MAX_CHARACTERS or not _TRIGGER.search(sentence):
        return None
    if is_question(sentence) or _ONCE.search(sentence):
        return None
    if _OTHERS.search(sentence) or _NOT_ONES_OWN.search(sentence):
        return None
    return next((topic for topic, pattern in _COMPILED if pattern.search(sentence)), None)
