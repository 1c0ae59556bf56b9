from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.remember.chunks import PASSAGE, USER_MESSAGE, pieces

TEXT = st.lists(st.sampled_from(["word ", "一句话。", "End. ", "\n\n", "\n", "x" * 50, "，", "a"]), max_size=400).map(
    "".join
)


@settings(deadline=None)
@given(TEXT)
def test_joined_in_order_they_are_the_message(text: str) -> None:
    assert "".join(pieces(text)) == text


@settings(deadline=None)
@given(TEXT, st.sampled_from([PASSAGE, USER_MESSAGE]))
def test_none_is_larger_than_a_piece_may_be(text: str, most: int) -> None:
    assert all(len(piece) <= most for piece in pieces(text, most))


def test_a_short_message_stays_whole() -> None:
    assert pieces("One sentence. Another.") == ["One sentence. Another."]
    assert pieces("") == []


def test_cuts_lie_at_the_ends_of_paragraphs_and_sentences() -> None:
    paragraphs = [f"Paragraph {number}. " + "It goes on. " * 30 for number in range(4)]
    assert pieces("\n\n".join(paragraphs))[1].startswith("Paragraph 1.")
    sentences = "".join(f"这是第{number}句话，说的是一件小事。" for number in range(40))
    assert all(piece.endswith("。") for piece in pieces(sentences))
