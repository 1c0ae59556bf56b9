import pytest

from gateway.errors import BadRequest
from gateway.server.headers import header_number, header_share


@pytest.mark.parametrize("value", ["-1", "1.5", "", "x", "1001", "１"])
def test_a_number_in_a_header_is_checked(value: str) -> None:
    with pytest.raises(BadRequest):
        header_number({"n": value}, "n", 1000)
    assert header_number({}, "n", 1000) is None
    assert header_number({"n": "1000"}, "n", 1000) == 1000


@pytest.mark.parametrize("value", ["-1", "1.5", "", "x", "2", "nan", "1e-3", "0.5.", "０"])
def test_a_share_in_a_header_is_checked(value: str) -> None:
    with pytest.raises(BadRequest, match="from 0 to 1"):
        header_share({"n": value}, "n")
    assert header_share({}, "n") is None
    assert [header_share({"n": text}, "n") for text in ("0", "1", ".25", " 0.5 ")] == [0.0, 1.0, 0.25, 0.5]
