"""Data for a gateway under test: people, their memories of several weeks, and turns; in quantity, and hostile."""

import hashlib
import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from tests.console.gateway import GatewayProcess

__all__ = [
    "HOSTILE",
    "HOSTILE_USER",
    "PEOPLE",
    "correct_memory",
    "fill_with_hostile_data",
    "fill_with_people",
    "many_memories",
    "memory_line",
]

DAY: Final = 86_400
HOSTILE: Final = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(2)</script>",
    '"><svg onload=alert(3)>',
    "javascript:alert(4)",
    "${alert(5)} {{alert(6)}} </textarea></title></style>",
)
HOSTILE_USER: Final = '<img src=x onerror=alert("user")>'

PEOPLE: Final[dict[str, list[tuple[float, str]]]] = {
    "anna": [
        (41.2, "I moved to Lisbon in September and still look for a good bakery near Graça."),
        (38.5, "My cat is called Miso; she is four and hates the vacuum cleaner."),
        (33.1, "I am allergic to peanuts, so check every recipe for them."),
        (27.9, "We are planning a trip to the Azores in May, ten days, mostly hiking."),
        (21.4, "My sister Clara gets married on 12 June in Porto, and I give a speech."),
        (16.0, "I work as a structural engineer; at the moment on a timber bridge of 38 metres."),
        (11.3, "For the bridge we chose glulam of strength class GL28h with a moisture content below 15 %."),
        (7.7, "I run on Tuesdays and Thursdays; the half marathon is on 4 April."),
        (3.2, "The physiotherapist says: no hills for two weeks, because of the left knee."),
        (1.1, "Miso had her vaccination today; the next one is due in a year."),
    ],
    "ben": [
        (30.0, "Our deploy pipeline runs on GitHub Actions, and releases happen on Wednesdays only."),
        (24.6, "The staging database is PostgreSQL 17; production is still on 15 until the end of the year."),
        (18.2, "I prefer type hints everywhere and no comments that repeat the code."),
        (9.9, "The outage of last Thursday came from an expired certificate of the internal proxy."),
        (2.5, "We agreed to move the retry logic into the client library, with jitter."),
    ],
    "陈伟": [
        (26.3, "我住在杭州，每天骑自行车上班，大约二十分钟。"),
        (19.8, "我女儿叫小雨，今年七岁，正在学小提琴。"),
        (12.4, "我对海鲜过敏，尤其是虾和螃蟹。"),
        (6.1, "下个月我要去成都出差一周，想顺便看看大熊猫。"),
        (0.8, "我在学习西班牙语，每天晚上练习半个小时。"),
    ],
}
_STANDING = {
    "anna": "Please always answer me briefly and use metric units.",
    "ben": "From now on, always show code before the explanation.",
    "陈伟": "以后请一直用简体中文回答我。",
}
_QUESTIONS = (
    ("anna", "What should I keep in mind when I cook for the wedding weekend?", "kitchen"),
    ("anna", "Which strength class did we choose for the timber bridge?", "bridge"),
    ("ben", "Which version of PostgreSQL does the staging database run on?", "databases"),
    ("anna", "Can I train hills for the half marathon next week?", "training"),
    ("陈伟", "我女儿在学什么乐器？", "family"),
    ("ben", "Summarise why the outage of last Thursday happened.", "outage"),
    ("anna", "What is my cat called, and when is her next vaccination due?", "cat"),
)


def memory_line(user: str, text: str, age_days: float, session: str = "earlier") -> dict[str, Any]:
    """A line of an import: a message that a user sent some days ago."""
    moment = time.time() - age_days * DAY
    number = hashlib.sha256(f"{user}\0{text}\0{session}".encode()).hexdigest()
    return {
        **{"tenant": "default", "cube_kind": "user", "owner": user, "cube_id": user, "user_id": user},
        **{"id": number[:32], "message_id": number[32:], "session_id": session, "kind": "turn", "source": "user"},
        **{"text": text, "event_time": moment, "created_at": moment, "updated_at": moment, "part": 0, "agent_id": ""},
        **{"app_id": "", "status": "activated", "confidence": 1.0, "tags": [], "links": [], "version": 1},
        **{"info": {}, "metadata": {}},
    }


def many_memories(user: str, count: int) -> Iterator[dict[str, Any]]:
    """Lines of an import: memories of many days, all different."""
    places = ("Lisbon", "Porto", "Hangzhou", "Bergen", "Quito", "Osaka", "Leipzig", "Tartu")
    for number in range(count):
        place = places[number % len(places)]
        text = f"Note {number}: on walk {number * 7 % 997} through {place} I met {number % 89} people."
        yield memory_line(user, text, number / 50, session=f"walk-{number // 100}")


def fill_with_people(gateway: GatewayProcess) -> None:
    """People with memories of weeks, standing preferences, a correction, and turns that recall them."""
    gateway.import_lines(memory_line(user, text, age) for user, notes in PEOPLE.items() for age, text in notes)
    for user, text in _STANDING.items():
        gateway.chat(text, user, session="preferences")
    gateway.settle()
    for user, question, session in _QUESTIONS:
        assert gateway.chat(question, user, session=session).status == 200
    gateway.chat("Tell me a joke.", "ben", session="jokes", model="echo-1")
    gateway.chat("Count the words of this sentence.", "anna", session="words", model="echo-1")
    gateway.chat("Hello?", "ben", session="broken", model="broken-1")
    gateway.settle()


def correct_memory(gateway: GatewayProcess, user: str, words: str, text: str) -> str:
    """Change the text of the memory that contains some words; return its id."""
    records = gateway.get(f"/v1/memory/list?user={quote(user)}&limit=100")["data"]
    record = next(record for record in records if words in record["text"])
    reply = gateway.request("PATCH", f"/v1/memory/{record['id']}", {"text": text})
    assert reply.status == 200, reply.body
    return str(record["id"])


def fill_with_hostile_data(gateway: GatewayProcess) -> None:
    """Memories, users, models, sessions and errors that would do harm as markup."""
    names = (*HOSTILE, HOSTILE_USER)
    for name in names:
        gateway.chat(f"My favourite tag is {name}", HOSTILE_USER, session=name)
        gateway.chat(f"I like {name}", name, session="s")
        gateway.chat("Fail.", HOSTILE_USER, session=name, model=f"broken-{name}")
        gateway.chat("Echo.", HOSTILE_USER, session=name, model=f"echo-{name}")
    gateway.settle()
    gateway.chat("What is my favourite tag?", HOSTILE_USER, session="question")
