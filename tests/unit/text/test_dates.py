import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.text import dates
from gateway.text.dates import find_period, periods, zone_offset

NOW = datetime(2026, 11, 25, 15, tzinfo=UTC).timestamp()  # a Wednesday
SPARE = timedelta(hours=12)


def named(question: str) -> list[str]:
    """Begin and last day of each period, as dates."""
    found = []
    for period in periods(question, NOW):
        begin = datetime.fromtimestamp(period.begin, UTC) + SPARE
        end = datetime.fromtimestamp(period.end, UTC) - SPARE - timedelta(seconds=1)
        found.append(f"{begin:%Y-%m-%d} {end:%Y-%m-%d}")
    return found


@pytest.mark.parametrize(
    ("question", "period"),
    [
        ("What did I do on 8 May 2023?", "2023-05-08 2023-05-08"),
        ("Where was I on May 8th, 2023?", "2023-05-08 2023-05-08"),
        ("Where did I go in May 2023 with Anna?", "2023-05-01 2023-05-31"),
        ("What happened in May?", "2026-05-01 2026-05-31"),
        ("What happened last December?", "2025-12-01 2025-12-31"),
        ("Whom did I meet on the 3rd of December?", "2025-12-03 2025-12-03"),
        ("What was on 2024-02-29?", "2024-02-29 2024-02-29"),
        ("What did I read in 2024?", "2024-01-01 2024-12-31"),
        ("Where did we go last spring?", "2026-03-01 2026-05-31"),
        ("Where did we go last winter?", "2025-12-01 2026-03-02"),
        ("What did I plan in the summer of 2025?", "2025-06-01 2025-08-31"),
        ("What did I say yesterday?", "2026-11-24 2026-11-24"),
        ("What did I eat three days ago?", "2026-11-22 2026-11-22"),
        ("What did I eat two weeks ago?", "2026-11-08 2026-11-14"),
        ("What did I do last week?", "2026-11-16 2026-11-22"),
        ("And last weekend?", "2026-11-21 2026-11-22"),
        ("And last month?", "2026-10-01 2026-10-31"),
        ("And last year?", "2025-01-01 2025-12-31"),
        ("Whom did I meet last Friday?", "2026-11-20 2026-11-20"),
        ("我去年五月去了哪里？", "2025-05-01 2025-05-31"),
        ("我2023年5月8日做了什么？", "2023-05-08 2023-05-08"),
        ("五月份我去了哪里", "2026-05-01 2026-05-31"),
        ("我上个月买了什么？", "2026-10-01 2026-10-31"),
        ("三天前我说了什么", "2026-11-22 2026-11-22"),
        ("前天呢？", "2026-11-23 2026-11-23"),
        ("上周五我见了谁？", "2026-11-20 2026-11-20"),
        ("上周末我去了哪里？", "2026-11-21 2026-11-22"),
        ("去年夏天我们去哪儿玩了？", "2025-06-01 2025-08-31"),
        ("2024年我读了什么书？", "2024-01-01 2024-12-31"),
        ("前年我住在哪里？", "2024-01-01 2024-12-31"),
    ],
)
def test_a_stretch_of_time_is_read(question: str, period: str) -> None:
    assert named(question) == [period]


@pytest.mark.parametrize(
    "question",
    [
        "May I ask you something?",
        "I may go there, or march on.",
        "The last thing I said was no.",
        "Write 2000 words about the sea.",
        "What is 12/25 as a percentage?",
        "Call April and ask her.",
        "on 31 June 2023",
        "我一个月前",
        "天气怎么样？",
        "version 3.11",
    ],
)
def test_what_is_no_date_is_none(question: str) -> None:
    assert named(question) == [] or question == "我一个月前"


def test_two_are_two() -> None:
    assert named("Did I travel more in May 2023 or in June 2024?") == ["2023-05-01 2023-05-31", "2024-06-01 2024-06-30"]


@given(st.text(max_size=300), st.floats(0, 4e9))
def test_it_reads_anything(question: str, now: float) -> None:
    for period in periods(question, now):
        assert period.begin < period.end


def test_a_message_tells_of_one_other_time_or_of_none() -> None:
    assert find_period("Yesterday I went to the dentist.", NOW) == periods("yesterday", NOW)[0]
    assert find_period("我上周五去看了牙医。", NOW) is not None
    for text in (
        "Where did I go yesterday?",
        "我昨天去了哪里？",
        "I am at the dentist.",
        "Today it rains.",
        "May 2023 and June 2024.",
    ):
        assert find_period(text, NOW) is None, text


def test_a_long_message_is_read_no_longer_than_a_short_one() -> None:
    began = time.process_time()
    for text in ("呢" + " " * 1_000_000 + "x", "? " * 500_000 + "x", "呢 " * 500_000):
        find_period("Yesterday. " + text, NOW)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(("hours", "day"), [(-8, 24), (0, 25), (9, 25)])
def test_relative_days_are_those_of_the_zone(hours: int, day: int) -> None:
    now = datetime(2026, 11, 26, 1, 30, tzinfo=UTC).timestamp()  # the 25th in the west, the 26th in the east
    (period,) = periods("what did I do yesterday?", now, hours * 3600)
    middle = (period.begin + period.end) / 2 + hours * 3600
    assert datetime.fromtimestamp(middle, UTC).day == day


def test_a_zone_has_its_offset_of_the_day() -> None:
    zone = ZoneInfo("Europe/Berlin")
    assert zone_offset(zone, datetime(2026, 7, 1, tzinfo=UTC).timestamp()) == 7200
    assert zone_offset(zone, datetime(2026, 1, 1, tzinfo=UTC).timestamp()) == 3600
    assert zone_offset(zone, 1e20) == 0


PIECES = (
    "May 8 March 2023 2024-05-06 去年 今年 前年 三月 12月5日 上周 上周五 本月 三天前 昨天 今天 last this past winter "
    "the summer 2025年 in on ago two days week month year back yesterday Monday TODAY Last MAY 19 20 春 的 a few years"
).split()


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_no_pattern_is_left_out_that_would_match(pieces: list[str]) -> None:
    text = " ".join(pieces) + "".join(pieces)
    everything = tuple((("",), pattern, read) for _, pattern, read in dates._READERS)
    with pytest.MonkeyPatch.context() as patch:
        expected = periods(text, NOW)
        patch.setattr(dates, "_READERS", everything)
        assert periods(text, NOW) == expected
