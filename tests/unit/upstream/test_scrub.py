from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.scrub import Scrubber, scrubbed

KEY = b"sk-secret-1"


@given(st.lists(st.integers(1, 20), max_size=20), st.sampled_from([b"", b"a", b"sk-sec", b"\n\n", b"sk-sk-secret-1"]))
def test_a_key_that_is_cut_anywhere_is_found(cuts: list[int], between: bytes) -> None:
    text = between.join([b"data: ", KEY, b" and ", KEY, b"."])
    scrubber, out, place = Scrubber([KEY, b"other"]), b"", 0
    for cut in cuts:
        out += scrubber.feed(text[place : place + cut])
        place += cut
    out += scrubber.feed(text[place:]) + scrubber.end()
    assert out == scrubbed(text, [KEY])
    assert KEY not in out


def test_whole_events_never_wait() -> None:
    scrubber = Scrubber([KEY])
    assert scrubber.feed(b"data: sk-secret\n\n") == b"data: sk-secret\n\n"
    assert scrubber.feed(b"data: sk-") == b"data: "
    assert scrubber.end() == b"sk-"


def test_a_secret_that_begins_with_another_is_replaced_whole() -> None:
    assert scrubbed(b"sk-abc and sk-abcdef", [b"sk-abc", b"sk-abcdef"]) == b"[key] and [key]"
