"""Detects users' statements about themselves: home, occupation, origin and first language. Uses patterns in English and
Chinese, without a model. Pure.

Only plain sentences that begin with a first-person statement count; no draft, no translation, no "imagine". A statement
that is missed here is still remembered as part of its message.
"""

import re
from typing import Final

__all__ = ["is_fiction", "trait_of"]

_FOREIGN = re.compile(
    r"\b(?:imagin\w*|pretend\w*|suppos\w*|role-?play\w*|act as|write|written|draft|translate|proofread|rewrite|rephrase"
    r"|summari[sz]e|letter|story|poem|essay|character|novel|scene|dialogue|sentence|grammar|lyrics|quote|game)\b"
    r"|假如|假设|如果我|想象|扮演|假装|翻译|[写改]一?[封个篇首段份]|润色|故事|小说|台词|造句|歌词|游戏",
    re.IGNORECASE,
)
# other people's words, and questions
_NOT_SAID = re.compile(
    r"\b(?:said|says|say|asked|replied|told|tells|wrote|writes|claims?|you are|you['’]re)\b"
    r"|[说說问問]|告诉|听[说見到]|什么|是不是|哪|谁",
    re.IGNORECASE,
)
_WORK = (
    r"(?:(?:software|web|data|mechanical|civil|electrical|chemical|research|product|project|graphic|UX|university|school"
    r"|high school|primary school|PhD|medical|law|freelance|retired|full-time|part-time|senior|junior|registered"
    r"|certified|backend|frontend|night)\s+){0,3}"
    r"(?:engineer|developer|programmer|nurse|doctor|physician|surgeon|dentist|vet|veterinarian|pharmacist|midwife"
    r"|therapist|psychologist|psychiatrist|teacher|professor|lecturer|tutor|student|researcher|scientist|physicist"
    r"|chemist|biologist|mathematician|historian|lawyer|judge|paralegal|accountant|auditor|consultant|analyst|manager"
    r"|designer|architect|painter|musician|writer|author|journalist|editor|translator|interpreter|photographer|chef|cook"
    r"|baker|barista|waiter|waitress|farmer|gardener|carpenter|electrician|plumber|mechanic|driver|pilot|firefighter"
    r"|paramedic|policeman|policewoman|police officer|librarian|recruiter|entrepreneur|freelancer|founder|pensioner"
    r"|homemaker|actor|actress|singer|dancer|economist|technician|bookkeeper|hairdresser|tailor|postman|sailor)"
)
_BEGINS = r"^[\s*•-]*(?:(?i:by the way|so you know|btw|also|and|hi|hello|hey|so|well|oh|actually)\b[,!.]?\s+){0,3}"
_I_AM = r"(?:I['’]?m|I am|i['’]?m)"
# names with a capital that are no places to live in: days, departments, programs, companies, games
_NO_PLACE = (
    r"(?!(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b|(?:January|February|March|April|May|June|July|August|September"
    r"|October|November|December)\b|(?:Marketing|Sales|HR|IT|Finance|Legal|Accounting|Support|Engineering|Team|Plan"
    r"|Chapter|Step|Part|Phase|Version|Level|Slack|Teams|Google|Gmail|Outlook|Excel|Word|Notion|Obsidian|Jira|GitHub"
    r"|GitLab|Windows|Linux|Ubuntu|Debian|Fedora|Arch|Mac|MacOS|Android|Chrome|Firefox|Safari|Vim|Neovim|Emacs|Docker"
    r"|Kubernetes|Postgres\w*|MySQL|SQLite|Mongo\w*|Redis|Kafka|Terraform|AWS|Azure|GCP|React|Vue|Angular|Svelte|Django"
    r"|Flask|Rails|Python|Java|JavaScript|TypeScript|Rust|Go|Kotlin|Swift|Ruby|PHP|Microsoft|Amazon|Apple|Meta|Facebook"
    r"|OpenAI|Anthropic|Netflix|IBM|Oracle|SAP|Siemens|Bosch|Nvidia|Intel|Tesla|Acme|Minecraft|Roblox|Fortnite|Stardew"
    r"|Hogwarts|Narnia|Westeros)\b)"
)
_PLACE = rf"(?:the\s+)?{_NO_PLACE}[A-ZÀ-Þ][\w'’-]+(?:,?\s+[A-ZÀ-Þ][\w'’-]+){{0,3}}"
_ONCE_ONLY = (
    r"(?!.*\b(?:when I was|years? ago|as a (?:child|kid)|back in|used to|next (?:week|month|year)|sometimes|if)\b)"
)
_SINCE = r"(?=\s*(?:[.,!;]|$)|\s+(?:last|this|in|with|for|now|recently|because|a|two|three)\b)"
_NO_COMPANY = r"(?!.*\b(?:Corp|Inc|Ltd|GmbH|LLC|team|department|support|office)\b)"
_PLACES_ZH = (
    r"(?:北京|上海|天津|重庆|广州|深圳|广东|广西|四川|成都|湖南|长沙|湖北|武汉|河南|郑州|河北|山东|济南|青岛|山西|陕西|西安"
    r"|江苏|南京|苏州|浙江|杭州|宁波|安徽|合肥|福建|厦门|江西|南昌|云南|昆明|贵州|海南|甘肃|青海|宁夏|新疆|西藏|内蒙古|辽宁"
    r"|沈阳|大连|吉林|长春|黑龙江|哈尔滨|香港|澳门|台湾|东北|中国|美国|英国|法国|德国|日本|韩国|加拿大|澳大利亚|新加坡"
    r"|马来西亚|泰国|越南|印度|俄罗斯|意大利|西班牙|巴西)"
)
_WORK_ZH = (
    r"(?:软件|硬件|前端|后端|全栈|机械|电气|土木|数据|算法|测试|平面|室内|儿科|外科|内科|急诊|住院|注册|退休|兼职|自由|资深"
    r"|高级|实习|出租车|货车|公交|英语|数学|语文|体育|音乐|钢琴|医学|法学|计算机|高中|初中|小学|大学|中学|幼儿园){0,2}"
    r"(?:工程师|程序员|护士|医生|牙医|药剂师|老师|教师|教授|讲师|学生|研究生|博士生|高中生|大学生|律师|法官|会计|审计师|设计师"
    r"|建筑师|记者|编辑|作家|翻译|摄影师|司机|厨师|面包师|服务员|农民|木匠|电工|飞行员|消防员|警察|军人|图书管理员|项目经理"
    r"|产品经理|销售|创业者|自由职业者|全职妈妈|全职太太|公务员|科学家|研究员|演员|歌手|分析师|理发师)"
)
_CLAUSE_ZH = r"(?:^|[，,。；！!])(?:对了|另外|顺便说一下)?[，,]?我"
_PATTERNS: Final = tuple(
    (trait, re.compile(pattern))
    for trait, pattern in (
        (
            "home",
            rf"{_BEGINS}(?:I|i)(?: now| currently)*\s+live\s+in\s+{_ONCE_ONLY}{_PLACE}",
        ),
        (
            "home",
            rf"{_BEGINS}(?:I|i)(?:['’]ve| have)?(?: just| recently| now)*\s+(?:moved|relocated)(?: back| over)?\s+to\s+"
            rf"{_ONCE_ONLY}{_PLACE}{_SINCE}",
        ),
        ("home", rf"{_BEGINS}{_I_AM}(?: now| currently)?\s+(?:living|based)\s+in\s+{_ONCE_ONLY}{_PLACE}"),
        (
            "work",
            rf"{_BEGINS}(?:{_I_AM}(?: now)?|I(?: now)? work as)\s+an?\s+{_WORK}"
            rf"(?=\s*(?:[.,!;]|$)|\s+(?:(?:at|in|for|from)\s+{_NO_PLACE}|by|and|with|working|who|now|speciali[sz]ing)"
            rf"){_ONCE_ONLY}",
        ),
        ("origin", rf"{_BEGINS}{_I_AM}\s+(?:originally\s+)?from\s+{_NO_COMPANY}{_PLACE}"),
        ("language", rf"{_BEGINS}[Mm]y (?:(?:native|first) language|mother tongue) is [A-ZÀ-Þ]"),
        (
            "home",
            rf"{_CLAUSE_ZH}(?:现在|目前|如今|已经|刚刚?)?(?:住在|定居在?|搬到了?|搬去了?)"
            r"(?![这那哪他她你新楼一二三四五六七八九十\d]|酒店|宾馆|旅馆|客厅|卧室|医院|隔壁|办公|朋友|同学|父母|外婆|奶奶)"
            r"(?![^，,。！!]*(?:时候|期间))[\u4e00-\u9fff]{2,}",
        ),
        (
            "work",
            rf"{_CLAUSE_ZH}(?:现在|目前)?(?:(?:是|当)(?:一?[名个位])?|在[\u4e00-\u9fff]{{1,8}}当){_WORK_ZH}"
            r"(?=[，,。！!了]|$)",
        ),
        ("origin", rf"{_CLAUSE_ZH}(?:是|来自){_PLACES_ZH}人?(?=[，,。！!]|$)"),
        ("language", r"(?:^|[，,。；！!])我的?母语是[\u4e00-\u9fff]"),
    )
)
_HINT = re.compile(r"\b[Ii]\b|\b[Mm]y\b|\bi['’]?m\b|\bI['’]?m\b|我")


def is_fiction(message: str) -> bool:
    """True if a message asks to write, to translate or to pretend: its sentences may be about another person. Takes
    time in proportion to the message: call once for all its sentences."""
    return _FOREIGN.search(message) is not None


def trait_of(sentence: str) -> str:
    """The trait that a user states in a sentence: home, work, origin or language; "" for none. Each trait has one value
    per user. Do not call for sentences of a message that `is_fiction`."""
    if _HINT.search(sentence) is None:
        return ""
    trait = next((trait for trait, pattern in _PATTERNS if pattern.search(sentence)), "")
    return "" if not trait or _NOT_SAID.search(sentence) else trait
