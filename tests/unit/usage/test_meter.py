import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.usage.meter import without_pictures

RUN = re.compile(rb"[A-Za-z0-9+/=_-]{1000,}")


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"a", b"=", b'"', b" ", b"\n"]),
            st.sampled_from([1, 999, 1000, 1001, 262_000, 262_144, 300_000]),
        ),
        max_size=6,
    )
)
def test_pictures_are_taken_out_wherever_they_lie(parts: list[tuple[bytes, int]]) -> None:
    raw = b'"'.join(piece * count for piece, count in parts)
    assert without_pictures(raw) == RUN.subn(b"", raw)


@pytest.mark.parametrize("piece", [b"a" * 999 + b" ", b"a", b'{"', b"="])
def test_no_body_takes_long(piece: bytes) -> None:
    raw = piece * (8_000_000 // len(piece))
    began = time.process_time()
    without_pictures(raw)
    assert time.process_time() - began < 2
