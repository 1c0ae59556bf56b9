import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.api.console import accepts_gzip, wants_page

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize("accepted", [BROWSER, "text/html", "text/html, application/json"])
def test_browsers_want_the_page(accepted: str) -> None:
    assert wants_page(make_mocked_request("GET", "/", headers={"accept": accepted}))


@pytest.mark.parametrize(
    "accepted", ["", "*/*", "application/json", "application/json, text/html", "application/json, */*"]
)
def test_programs_want_json(accepted: str) -> None:
    assert not wants_page(make_mocked_request("GET", "/", headers={"accept": accepted}))


@pytest.mark.parametrize(
    "accepted", ["gzip", "gzip, deflate, br, zstd", "br;q=1, gzip;q=0.5", "*", "GZIP", "gzip; q=1.0"]
)
def test_gzip_is_used_where_it_is_accepted(accepted: str) -> None:
    assert accepts_gzip(accepted)


@pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0", "gzip; q=0.0, *", "xgzip", "br, gzip;q=0"])
def test_gzip_is_not_used_where_it_is_not_accepted(accepted: str) -> None:
    assert not accepts_gzip(accepted)
