from typing import Any

import orjson
import pytest

from gateway.prompt.block_places import BlockPlace, find_blocks

NOW, BEFORE = "<m>\n现在 🐈\n</m>\n\n", "<m>\nbefore\n</m>\n\n"


def places(body: Any, current: str = NOW, earlier: tuple[str, ...] = (), *, is_first: bool = False) -> list[BlockPlace]:
    return find_blocks(orjson.dumps(body), current, earlier, is_first=is_first)


def test_a_block_is_found_with_its_place_in_code_points() -> None:
    body = {"messages": [{"content": "hi"}, {"content": f"🙂 {NOW}What?"}]}
    (place,) = places(body)
    assert place == BlockPlace("/messages/1/content", 2, 2 + len(NOW), True)
    assert body["messages"][1]["content"][place.start : place.end] == NOW


def test_parts_and_names_with_slashes_have_their_own_pointers() -> None:
    body = {"input": [{"content": [{"text": "hi"}, {"text": NOW}]}], "a/b~c": {"x": BEFORE}}
    assert [place.pointer for place in places(body, earlier=(BEFORE,))] == ["/input/0/content/1/text", "/a~1b~0c/x"]


def test_white_space_at_the_end_may_be_missing() -> None:
    (place,) = places({"system": "Be kind.\n\n" + NOW.rstrip()}, is_first=True)
    assert (place.start, place.end) == (10, 10 + len(NOW.rstrip()))


def test_earlier_blocks_are_told_from_that_of_the_turn() -> None:
    body = {"messages": [{"content": BEFORE + "One?"}, {"content": NOW + "Two?"}, {"content": NOW + "Three?"}]}
    assert [place.is_current for place in places(body, earlier=(BEFORE, NOW))] == [False, False, True]


@pytest.mark.parametrize(("is_first", "index"), [(True, 0), (False, 1)])
def test_a_quotation_of_the_block_is_no_block(is_first: bool, index: int) -> None:
    (place,) = places({"messages": [{"content": NOW}, {"content": NOW}]}, is_first=is_first)
    assert place.pointer == f"/messages/{index}/content"


@pytest.mark.parametrize("body", [{}, [], "text", None, {"a": [1, None, True]}, {"messages": "x" * 100}])
def test_without_a_block_there_is_no_place(body: Any) -> None:
    assert places(body) == []
    assert places({"messages": [NOW]}, current="", earlier=("", " ")) == []
