import pytest

from gateway.storage.move_mark import MoveMark, MoveState, decode_mark, describe_mark, encode_mark

MARK = MoveMark(id="a1", state=MoveState.MOVED, place="s3://bucket/p", at=86_400.0, counts={"memories": 7})


@pytest.mark.parametrize("state", list(MoveState))
def test_a_mark_is_read_as_it_was_written(state: MoveState) -> None:
    mark = MoveMark(id="a1", state=state, place="/data", at=1.5, counts={"journal": 2})
    assert decode_mark(encode_mark(mark)) == mark


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"counts": 3}', encode_mark(MARK)[:-20]])
def test_a_damaged_mark_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        decode_mark(content)


def test_a_mark_says_where_the_memory_is_and_how_to_go_back() -> None:
    text = describe_mark(MARK, "/data/moved.json")
    assert "moved to s3://bucket/p on 1970-01-02" in text
    assert "delete /data/moved.json" in text
    arriving = MoveMark(id="a1", state=MoveState.ARRIVED, place="/data", at=0.0)
    assert "not arrived completely from /data" in describe_mark(arriving, "")
