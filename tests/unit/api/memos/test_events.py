import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.memos.events import CitationKeeper, event, without_citations


def kept(*pieces: str) -> list[str]:
    keeper = CitationKeeper()
    return [text for text in [*(keeper.feed(piece) for piece in pieces), keeper.end()] if text]


@pytest.mark.parametrize(
    ("pieces", "sent"),
    [
        (["so [1:92ff35fb] it is"], ["so [1:92ff35fb] it is"]),
        (["so [", "1", ":", "92ff", "35fb", "] it is"], ["so ", "[1:92ff35fb] it is"]),
        (["a [1:ab, 4:cd] b [2:e,3:f]"], ["a [1:ab][4:cd] b [2:e][3:f]"]),
        (["a [1:ab,", " 4:cd] b"], ["a ", "[1:ab][4:cd] b"]),
        (["open [1:ab"], ["open ", "[1:ab"]),
        (["list[", "0] is [no] mark"], ["list", "[0] is [no] mark"]),
        (["[" + "1" * 500], ["[" + "1" * 500]),
    ],
)
def test_a_citation_is_sent_whole_or_not_yet(pieces: list[str], sent: list[str]) -> None:
    assert kept(*pieces) == sent


@given(st.text("[]:,12ab x", max_size=60), st.lists(st.integers(0, 60), max_size=8))
def test_nothing_is_lost_however_the_text_is_cut(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    assert "".join(kept(*pieces)) == "".join(kept(text))


def test_marks_leave_a_remembered_text_and_nothing_else_does() -> None:
    assert without_citations("Linz [1:ab].\n  code[0] [2:cd,3:ef]") == "Linz.\n  code[0]"


def test_events_are_ascii_only() -> None:
    assert (
        event({"type": "text", "data": "你好\u2028"}) == b'data: {"type": "text", "data": "\\u4f60\\u597d\\u2028"}\n\n'
    )
