"""Extraction of time periods from text, in English and Chinese: "last May", "two weeks ago", "2023年5月". Pure.

Date libraries parse such words as moments; a question means the whole month, season or week. Days are those of the time
zone of the message (`Record.utc_offset`), with half a day of tolerance on either side. Ambiguous words ("may I", "march
on") are not taken for dates.
"""

import calendar
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from gateway.text.terms import is_question

__all__ = ["Period", "find_period", "local_time", "periods", "zone_offset"]

_MAX_PERIODS = 4
_MAX_QUESTION = 1000  # characters of a question that are read
_SPARE = timedelta(hours=12)
_MONTHS: Final = {
    **{name.lower(): number for number, name in enumerate(calendar.month_name) if name},
    **{name.lower(): number for number, name in enumerate(calendar.month_abbr) if name},
    "sept": 9,
}
_WEEKDAYS: Final = {name.lower(): number for number, name in enumerate(calendar.day_name)}
_SEASONS: Final = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12, "春": 3, "夏": 6, "秋": 9, "冬": 12}
_NUMBERS: Final = {
    **{word: n for n, word in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())},
    **{"a": 1, "an": 1, "a couple of": 2, "a few": 3, "several": 4},
    **{word: n for n, word in enumerate("零一二三四五六七八九十")},
    **{"十一": 11, "十二": 12, "两": 2, "几": 3},
}
_YEARS_BACK: Final = {"今年": 0, "去年": 1, "前年": 2, "大前年": 3}
_DAYS_BACK: Final = {
    "today": 0,
    "yesterday": 1,
    "the day before yesterday": 2,
    "今天": 0,
    "昨天": 1,
    "前天": 2,
    "大前天": 3,
}
_UNITS: Final = {"day": 1, "week": 7, "month": 30, "year": 365, "天": 1, "周": 7, "星期": 7, "月": 30, "年": 365}

_MONTH = "|".join(sorted((name.capitalize() for name in _MONTHS), key=len, reverse=True))
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_NUMBER = r"\d{1,3}|a couple of|a few|an?|several|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_ZH_NUMBER = r"\d{1,3}|十[一二]?|[一二两三四五六七八九几]"


# a text without a match has no period: this cheap test settles most questions
_HINT = re.compile(
    rf"\d\d|\d[天年月周]|[年月周昨前今][天年月日末份]?|星期|礼拜|\b(?:{_MONTH})\b|(?i:\b(?:ago|back|last|past|previous|this|today|yesterday"
    r"|spring|summer|autumn|fall|winter)\b)"
)


class Period(NamedTuple):
    """A span of time from `begin` to `end`, in seconds since 1970."""

    begin: float
    end: float


def zone_offset(zone: tzinfo, at: float) -> float:
    """The UTC offset (seconds east) of a zone at a moment (seconds since 1970); 0 for a moment out of range."""
    try:
        offset = datetime.fromtimestamp(at, zone).utcoffset()
    except (ValueError, OverflowError, OSError):
        return 0
    return offset.total_seconds() if offset is not None else 0


def local_time(at: float, offset: float) -> datetime:
    """The local time at a moment in a zone `offset` seconds east of UTC, with UTC as its nominal zone; 1970 for a
    moment out of range."""
    try:
        return datetime.fromtimestamp(at + offset, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def periods(question: str, now: float, offset: float = 0) -> tuple[Period, ...]:
    """The time periods that a question names, seen from `now` (seconds since 1970) in a zone `offset` seconds east of
    UTC; usually none."""
    if not _HINT.search(question[:_MAX_QUESTION]):
        return ()
    text, today = question[:_MAX_QUESTION], datetime.fromtimestamp(now + offset, UTC)
    matches: list[Period] = []
    folded = text.casefold()
    for parts, pattern, read in _READERS:
        if not any(part in folded or part in text for part in parts):
            continue
        for match in pattern.finditer(text):
            try:
                begin, end = read(match, today)
                matches.append(Period((begin - _SPARE).timestamp() - offset, (end + _SPARE).timestamp() - offset))
            except (ValueError, OverflowError):  # the 31st of June, the year 0
                continue
        text = pattern.sub(" ", text)  # "8 May 2023" is not May 2023 once more
    return tuple(dict.fromkeys(matches))[:_MAX_PERIODS]


def find_period(text: str, said_at: float, offset: float = 0) -> Period | None:
    """The one period that a message refers to, other than its own time; None for a question, or for several periods."""
    spans = () if is_question(text) else periods(text, said_at, offset)
    return spans[0] if len(spans) == 1 and not (spans[0].begin <= said_at < spans[0].end) else None


_Span = tuple[datetime, datetime]


def _date_span(year: int, month: int, day: int | None = None) -> _Span:
    if day is not None:
        begin = datetime(year, month, day, tzinfo=UTC)
        return begin, begin + timedelta(days=1)
    begin = datetime(year, month, 1, tzinfo=UTC)
    return begin, (begin + timedelta(days=32)).replace(day=1)


def _read_month(match: re.Match[str], today: datetime) -> _Span:
    """A month with a day, a year, or "last" and the like before it; without a year the latest past or current one."""
    month, day = _MONTHS[match["month"].lower()], match["day"] or match["day_after"]
    number = int(re.sub(r"\D", "", day)) if day else None
    if match["year"]:
        return _date_span(int(match["year"]), month, number)
    span = _date_span(today.year, month, number)
    return _date_span(today.year - 1, month, number) if span[0] > today else span


def _read_numeric_date(match: re.Match[str], today: datetime) -> _Span:
    return _date_span(int(match["year"]), int(match["month"]), int(match["day"]) if match["day"] else None)


def _read_year(match: re.Match[str], today: datetime) -> _Span:
    year = int(match["year"])
    return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)


def _read_chinese_month(match: re.Match[str], today: datetime) -> _Span:
    year_word, month = match["named"], _number(match["month"])
    year = int(match["year"]) if match["year"] else today.year - _YEARS_BACK.get(year_word or "今年", 0)
    day = int(match["day"]) if match["day"] else None
    span = _date_span(year, month, day)
    return _date_span(year - 1, month, day) if span[0] > today and not match["year"] and not year_word else span


def _read_season(match: re.Match[str], today: datetime) -> _Span:
    month, is_last = _SEASONS[match["season"].lower()], (match["which"] or "").lower() in ("last", "去年")
    year = int(match["year"]) if match["year"] else today.year
    begin = datetime(year, month, 1, tzinfo=UTC)
    if not match["year"]:
        while begin > today or (is_last and begin + timedelta(days=92) > today):
            begin = begin.replace(year=begin.year - 1)
        if match["which"] == "去年":
            begin = begin.replace(year=today.year - 1)
    return begin, begin + timedelta(days=92)


def _read_units_ago(match: re.Match[str], today: datetime) -> _Span:
    """A number of days, weeks, months or years ago; as exact as the unit is."""
    length = _UNITS[match["unit"].lower()]
    begin = _midnight(today) - timedelta(days=length * _number(match["number"]))
    spare = timedelta(days=length // 2)
    return begin - spare, begin + spare + timedelta(days=1)


def _read_day_ago(match: re.Match[str], today: datetime) -> _Span:
    begin = _midnight(today) - timedelta(days=_DAYS_BACK[match[0].lower()])
    return begin, begin + timedelta(days=1)


def _read_last(match: re.Match[str], today: datetime) -> _Span:
    """The last (or this) week, weekend, month, year or day of the week."""
    unit, back = match["unit"].lower(), int(match["which"].lower() in ("last", "past", "previous", "上"))
    monday = _midnight(today) - timedelta(days=today.weekday())
    if unit in ("week", "周", "星期", "礼拜"):
        return monday - timedelta(days=7 * back), monday + timedelta(days=7 - 7 * back)
    if unit in ("weekend", "周末"):
        saturday = monday + timedelta(days=5 - 7 * back)
        return saturday, saturday + timedelta(days=2)
    if unit in ("month", "月"):
        first = today.replace(day=1) - timedelta(days=back)
        return _date_span(first.year, first.month)
    if unit == "year":
        return datetime(today.year - back, 1, 1, tzinfo=UTC), datetime(today.year - back + 1, 1, 1, tzinfo=UTC)
    day = _midnight(today) - timedelta(days=(today.weekday() - _WEEKDAYS[unit]) % 7 or 7)
    return day, day + timedelta(days=1)


def _read_chinese_weekday(match: re.Match[str], today: datetime) -> _Span:
    monday = _midnight(today) - timedelta(days=today.weekday())
    day = monday + timedelta(days="一二三四五六日".index(match["day"].replace("天", "日")) - 7 * len(match["which"]))
    return day, day + timedelta(days=1)


def _read_chinese_year(match: re.Match[str], today: datetime) -> _Span:
    year = today.year - _YEARS_BACK[match[0]]
    return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _number(word: str) -> int:
    return int(word) if word.isdigit() else _NUMBERS[word.lower()]


_Reader = tuple[Sequence[str], re.Pattern[str], Callable[[re.Match[str], datetime], _Span]]
"""Parts, one of which is in every text that the pattern matches (most texts have none of them); a pattern; and the
function that reads its matches."""


def _absolute_readers() -> Iterator[_Reader]:
    """Readers of dates, months and seasons, the more exact before the less."""
    months, seasons = tuple(name.capitalize() for name in _MONTHS), tuple(_SEASONS)
    year = r"(?P<year>(?:19|20)\d\d)"
    # a bare month counts only after a word that introduces a time: "in May", "last March"
    yield (
        months,
        re.compile(
            rf"\b(?:(?:(?P<day>{_DAY})\s+(?:of\s+)?)|(?:(?i:in|on|since|during|last|this|of|from|until|till|around|early|late|mid)\s+))"
            rf"(?P<month>{_MONTH})\b\.?(?:\s+(?P<day_after>{_DAY})\b)?(?:,?\s+{year}\b)?"
        ),
        _read_month,
    )
    yield (
        months,
        re.compile(
            rf"\b(?P<day>)(?P<month>{_MONTH})\b\.?(?:\s+(?P<day_after>{_DAY})\b(?:,?\s+{year}\b)?|,?\s+(?P<only>(?:19|20)\d\d)\b)"
        ),
        _read_month_before_day,
    )
    yield (
        ("19", "20"),
        re.compile(rf"\b{year}[-/.](?P<month>\d{{1,2}})(?:[-/.](?P<day>\d{{1,2}}))?\b"),
        _read_numeric_date,
    )
    yield (
        ("月",),
        re.compile(
            rf"(?:{year}年|(?P<named>去年|前年|今年))?的?(?P<month>1[0-2]|[1-9]|十[一二]?|[一二三四五六七八九])月(?:份|(?P<day>\d{{1,2}})[日号])?(?!前|以前|之前|后)"
        ),
        _read_chinese_month,
    )
    yield (
        seasons,
        re.compile(
            rf"\b(?:(?P<which>(?i:last|this|the))\s+)(?P<season>(?i:spring|summer|autumn|fall|winter))\b(?:\s+(?:of\s+)?{year})?"
        ),
        _read_season,
    )
    yield seasons, re.compile(rf"(?:(?P<which>去年|今年)|{year}年)的?(?P<season>[春夏秋冬])"), _read_season


def _relative_readers() -> Iterator[_Reader]:
    """Readers of times relative to now, and of years."""
    year = r"(?P<year>(?:19|20)\d\d)"
    yield (
        ("ago", "back"),
        re.compile(rf"\b(?P<number>(?i:{_NUMBER}))\s+(?P<unit>(?i:day|week|month|year))s?\s+(?i:ago|back)\b"),
        _read_units_ago,
    )
    yield (
        ("前",),
        re.compile(rf"(?P<number>{_ZH_NUMBER})个?(?P<unit>天|周|星期|月|年)(?:以前|之前|前)"),
        _read_units_ago,
    )
    yield (
        ("yesterday", "today", "天"),
        re.compile(r"\b(?i:the day before yesterday|yesterday|today)\b|大前天|前天|昨天|今天"),
        _read_day_ago,
    )
    yield (
        ("上",),
        re.compile(r"(?P<which>上{1,2})个?(?:周|星期|礼拜)(?P<day>[一二三四五六日天])"),
        _read_chinese_weekday,
    )
    yield (
        ("last", "past", "previous", "this"),
        re.compile(
            r"\b(?P<which>(?i:last|past|previous|this))\s+"
            r"(?P<unit>(?i:weekend|week|month|year|monday|tuesday|wednesday|thursday|friday|saturday|sunday))\b"
        ),
        _read_last,
    )
    yield ("上", "这", "本"), re.compile(r"(?P<which>上|这|本)个?(?P<unit>周末|周|星期|礼拜|月)"), _read_last
    yield ("年",), re.compile("大前年|前年|去年|今年"), _read_chinese_year
    yield (
        ("19", "20"),
        re.compile(rf"(?:\b(?i:in|during|since|of|from)\s+|(?<![\d./-])(?=\d{{4}}年)){year}(?:年|\b)"),
        _read_year,
    )


def _read_month_before_day(match: re.Match[str], today: datetime) -> _Span:
    if match["only"]:
        return _date_span(int(match["only"]), _MONTHS[match["month"].lower()])
    return _read_month(match, today)


_READERS: Final = (*_absolute_readers(), *_relative_readers())
