import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.sse import Event, EventParser

STREAM = (
    "\ufeffdata: a\u4f60\n\n: ping\n\nevent: x\ndata:b\ndata: c\r\n\r\nid: 1\rdata: d\r\rretry: 5\n\ndata: [DONE]\n\n"
).encode()
EVENTS = [
    Event(b"", "a\u4f60".encode()),
    Event(b"x", b"b\nc"),
    Event(b"", b"d"),
    Event(b"", b"[DONE]"),
]


def events(pieces: list[bytes]) -> list[Event]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)] + parser.end()


def test_a_stream_split_at_every_byte_gives_the_same_events() -> None:
    for place in range(len(STREAM) + 1):
        assert events([STREAM[:place], STREAM[place:]]) == EVENTS
    assert events([STREAM[i : i + 1] for i in range(len(STREAM))]) == EVENTS


@given(
    st.lists(
        st.sampled_from([b"data: x", b"data:", b"event: e", b": c", b"", b"\n", b"\r", b"\r\n", b"y: z"]), max_size=30
    ),
    st.lists(st.integers(0, 200), max_size=5),
)
def test_where_reads_end_makes_no_difference(parts: list[bytes], places: list[int]) -> None:
    whole = b"".join(parts)
    cuts = sorted({0, len(whole), *(place for place in places if place < len(whole))})
    assert events([whole[a:b] for a, b in itertools.pairwise(cuts)]) == events([whole])


@given(
    st.lists(st.sampled_from([b"data: x\n\n", b"data: ", b"event: e\n", b": c\n\n", b"\n", b"\r\n"]), max_size=30),
    st.lists(st.integers(0, 100), max_size=5),
)
def test_the_quick_way_gives_the_same_data(parts: list[bytes], places: list[int]) -> None:
    whole = b"".join(parts)
    cuts = sorted({0, len(whole), *(place for place in places if place < len(whole))})
    parser = EventParser()
    found = [data for a, b in itertools.pairwise(cuts) for data in parser.feed_data(whole[a:b])]
    found += [event.data for event in parser.end()]
    assert found == [event.data for event in events([whole])]


def test_a_last_event_without_its_empty_line_counts() -> None:
    assert events([b"data: x"]) == [Event(b"", b"x")]


def test_a_line_that_is_too_long_is_dropped_and_reported() -> None:
    parser = EventParser(max_line=10)
    assert parser.feed(b"data: " + b"x" * 50) == []
    assert parser.has_overflow
    assert parser.feed(b"more\n\ndata: y\n\n") == [Event(b"", b"y")]


def test_being_inside_an_event_is_known() -> None:
    parser = EventParser()
    parser.feed(b"data: x\n")
    assert parser.is_mid_event
    parser.feed(b"\n")
    assert not parser.is_mid_event
