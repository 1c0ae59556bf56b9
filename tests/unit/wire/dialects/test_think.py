import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.dialects.think import ThinkSplitter, split_think


def joined(pieces: list[str]) -> tuple[str, str]:
    splitter = ThinkSplitter()
    said = [one for piece in pieces for one in splitter.feed(piece)] + splitter.end()
    return tuple("".join(text for kind, text in said if kind == wanted) for wanted in ("reasoning", "text"))  # type: ignore[return-value]  # two of them


def test_thinking_at_the_beginning_is_told_apart() -> None:
    assert split_think("<think>hm\nhm</think>\n\nYes.") == ("Yes.", "hm\nhm")
    assert split_think("  <think>hm</think>Yes.") == ("Yes.", "hm")


def test_anything_else_is_the_answer() -> None:
    for text in ("Yes.", "", "<thin", "a <think>b</think>", "<b>x</b>"):
        assert split_think(text) == (text, None)


def test_thinking_that_never_ends_is_no_answer() -> None:
    assert split_think("<think>on and on") == ("", "on and on")


@given(
    st.sampled_from(["<think>a<b</think>c", "<think></think>c", "plain", "<thinker>", "<think>x</thin"]),
    st.lists(st.integers(0, 20)),
)
def test_where_the_pieces_end_makes_no_difference(text: str, places: list[int]) -> None:
    cuts = sorted({0, len(text), *(place for place in places if place < len(text))})
    assert joined([text[a:b] for a, b in itertools.pairwise(cuts)]) == joined([text])
