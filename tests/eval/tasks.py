"""Ordinary tasks with generic answers, made from templates in English and Chinese: they fill a store, and are never a
question of an evaluation."""

import random
from collections.abc import Iterator
from typing import Final

__all__ = ["tasks"]

_TOPICS: Final = (
    "photosynthesis", "the French Revolution", "binary search", "supply and demand", "black holes", "sourdough",
    "REST APIs", "the water cycle", "machine learning", "the Roman Empire", "compound interest", "plate tectonics",
    "jazz", "vaccines", "the stock market", "inflation", "recursion", "renewable energy", "the immune system", "Kant",
    "public speaking", "time management", "remote work", "electric cars", "coffee", "urban gardening", "tourism",
    "football", "online learning", "the Silk Road", "volcanoes", "bees", "chess openings", "typography", "tea",
)  # fmt: skip
_KINDS: Final = ("email", "date", "phone number", "postcode", "IPv4 address", "hex colour", "URL", "credit card number")
_LANGUAGES: Final = ("French", "German", "Spanish", "Italian", "Japanese", "Portuguese", "Dutch", "Polish")
_CODE: Final = ("Python", "JavaScript", "Go", "SQL", "Bash", "Rust", "Java", "TypeScript")
_JOBS: Final = (
    "reverses a string", "merges two sorted lists", "counts words in a file", "parses a CSV file", "finds duplicates",
    "computes a factorial", "validates brackets", "flattens a nested list", "sorts a dictionary by value",
    "reads a JSON file", "retries a request", "rounds to two decimals",
)  # fmt: skip
_SENTENCES: Final = (
    "The meeting has been moved to Thursday afternoon.", "Please find the report attached.",
    "The shop opens at nine and closes at six.", "The dog barked at the postman.",
    "My flight was delayed by two hours.",
    "Our team finished the project ahead of schedule.", "She sold her old car last week.", "The garden needs water.",
    "He forgot his umbrella on the train.", "The restaurant on the corner is closed.",
)  # fmt: skip
_ENGLISH: Final = (
    ("Write a {length} about {topic}.", "Here is a {length} about {topic}. {filler}"),
    ("Explain {topic} in simple terms.", "In simple terms, {topic} can be understood in three steps. {filler}"),
    ("Translate into {language}: {sentence}", "Here is the sentence in {language}, in a neutral register. {filler}"),
    ("Write a regex that matches a {kind}", "Use this pattern for a {kind}: `^[a-z0-9._-]{{1,{number}}}$`. {filler}"),
    ("Write a {code} function that {job}", "```\ndef solve(value):\n    return value[:{number}]\n```\n{filler}"),
    ("Give me {number} ideas for {topic}", "1. Start small with {topic}\n2. Ask an expert\n3. Keep a list\n{filler}"),
    ("Summarise in one sentence: {sentence} {sentence}", "In short: the situation has changed. {filler}"),
    (
        "What is the difference between {topic} and {other}?",
        "The main difference between {topic} and {other}: {filler}",
    ),
    ("Fix the grammar: {sentence}", "Corrected: {sentence}"),
    ("How does {topic} work?", "{topic} works in stages. {filler}"),
    ("What is {number} times {more}?", "{number} times {more} is {product}."),
    ("Make a table of pros and cons of {topic}", "| Pros | Cons |\n|---|---|\n| quick | costly |\n{filler}"),
)
_FILLERS: Final = (
    "First, look at the basics; then compare two examples and note what they share.",
    "The most common mistake is to skip the planning stage.",
    "Check the result with a small example before going on.",
    "Most sources agree on the outline and differ in the details.", "Keep it short, clear and consistent.",
    "In practice the simplest approach is usually good enough.", "A diagram helps more than a long text.",
)  # fmt: skip
_TOPICS_ZH: Final = (
    "光合作用", "法国大革命", "二分查找", "供求关系", "黑洞", "酸面包", "接口设计", "水循环", "机器学习",
    "罗马帝国", "复利",
    "板块运动", "爵士乐", "疫苗", "股票市场", "通货膨胀", "递归", "可再生能源", "免疫系统", "时间管理",
    "远程办公", "电动汽车",
    "咖啡", "阳台种菜", "足球", "在线教育", "丝绸之路", "火山", "蜜蜂", "围棋", "字体设计", "茶文化",
)  # fmt: skip
_SENTENCES_ZH: Final = (
    "会议改到了星期四下午。", "请查收附件中的报告。", "商店九点开门六点关门。", "小狗对着邮递员叫。",
    "我的航班晚点了两个小时。",
    "我们团队提前完成了项目。", "她上周把旧车卖了。", "他把雨伞忘在了火车上。", "街角的餐馆关门了。",
)  # fmt: skip
_CHINESE: Final = (
    ("写一篇关于{topic}的短文", "关于{topic},可以从三个方面来写。{filler}"),
    ("用简单的话解释一下{topic}", "简单来说,{topic}分为三步。{filler}"),
    ("把这句话翻译成英文:{sentence}", "Here is the translation in a neutral register. {filler}"),
    ("写一个匹配{topic}编号的正则", "可以用 `^[A-Z]{{2}}\\d{{{number}}}$`。{filler}"),
    ("用{code}写一个函数,实现{topic}的计数", "```\ndef count(items):\n    return len(items) + {number}\n```\n{filler}"),
    ("给我{number}个关于{topic}的点子", "1. 从小处开始\n2. 请教专家\n3. 列清单\n{filler}"),
    ("总结一下:{sentence}{sentence}", "总之,情况有变化。{filler}"),
    ("{topic}和{other}有什么区别?", "{topic}和{other}的主要区别在于原理。{filler}"),
    ("润色这句话:{sentence}", "润色后:{sentence}"),
    ("{number}乘以{more}等于多少", "{number}乘以{more}等于{product}。"),
)
_FILLERS_ZH: Final = (
    "先看基本概念,再比较两个例子。", "最常见的错误是跳过计划。", "先用小例子验证结果。",
    "大多数资料在大纲上一致,细节不同。",
    "简短、清楚、前后一致即可。", "实践中最简单的办法通常就够用。",
)  # fmt: skip


def tasks(count: int, language: str, seed: int = 0) -> Iterator[tuple[str, str]]:
    """`count` different tasks with their answers; `language` is `en` or `zh`."""
    pick = random.Random(seed)
    is_chinese = language == "zh"
    templates = _CHINESE if is_chinese else _ENGLISH
    topics, sentences = (_TOPICS_ZH, _SENTENCES_ZH) if is_chinese else (_TOPICS, _SENTENCES)
    fillers = _FILLERS_ZH if is_chinese else _FILLERS
    seen: set[str] = set()
    while len(seen) < count:
        task, answer = pick.choice(templates)
        number, more = pick.randint(2, 12), pick.randint(13, 400)
        words = {
            "topic": pick.choice(topics),
            "other": pick.choice(topics),
            "language": pick.choice(_LANGUAGES),
            "sentence": f"{pick.choice(sentences)} {pick.choice(sentences)}",
            "kind": pick.choice(_KINDS),
            "code": pick.choice(_CODE),
            "job": pick.choice(_JOBS),
            "length": pick.choice(("haiku", "short essay", "paragraph", "limerick", "headline")),
            "number": number,
            "more": more,
            "product": number * more,
            "filler": " ".join(pick.sample(fillers, pick.randint(1, 4))),
        }
        text = task.format(**words) + ("" if pick.random() < 0.7 else f" ({pick.randint(1, 9999)})")
        if text not in seen:
            seen.add(text)
            yield text, answer.format(**words)
