from collections.abc import Sequence

import pytest
from aiohttp import web

from gateway.errors import GatewayError, NotFound
from gateway.server.apis import Api, Apis, error_response
from gateway.turn import Right


def write_error(error: GatewayError) -> bytes:
    return error.message.encode()


async def answer(request: web.Request) -> web.Response:
    return web.Response()


REST = Api(name="rest", routes=[web.get("/{tail:.+}", answer)], write_error=write_error)
CARS = Api(name="cars", routes=[web.get("/cars", answer)], write_error=write_error, prefixes=("/cars", "/v1/cars"))
RED = Api(name="red", routes=[], write_error=write_error, prefixes=("/cars/red",), right=Right.MEMORY)
HEALTH = Api(name="health", routes=[], write_error=write_error, paths=frozenset(("/", "/up")), right=None)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/cars", "cars"),
        ("/v1/cars/1", "cars"),
        ("/cars/red/1", "red"),
        ("/up", "health"),
        ("/", "health"),
        ("/up/1", "rest"),
    ],
)
def test_a_path_belongs_to_the_api_of_the_longest_prefix(path: str, name: str) -> None:
    assert Apis([REST, HEALTH, CARS, RED]).of(path).name == name


def test_only_listed_paths_need_no_key() -> None:
    apis = Apis([REST, HEALTH, CARS])
    assert [path for path in ("/", "/up", "/up/", "//up", "/cars") if apis.is_open(apis.of(path))] == ["/", "/up"]


def test_the_routes_that_match_anything_are_last() -> None:
    assert Apis([REST, CARS]).routes() == [*CARS.routes, *REST.routes]


def test_paths_that_need_another_right_end_before_the_rest() -> None:
    *_, end, rest = Apis([REST, CARS, RED]).routes()
    assert isinstance(end, web.RouteDef)
    assert (end.method, end.path, rest) == ("*", "/cars/red{tail:.*}", REST.routes[0])


@pytest.mark.parametrize("apis", [[], [CARS], [REST, REST], [REST, CARS, CARS], [REST, HEALTH, HEALTH]])
def test_each_path_belongs_to_one_api(apis: Sequence[Api]) -> None:
    with pytest.raises(ValueError, match="API"):
        Apis(apis)


def test_an_error_is_written_in_the_format_of_its_api() -> None:
    response = error_response(NotFound("no such car", headers={"x-reason": "sold"}), CARS)
    assert (response.status, response.body, response.headers["x-reason"]) == (404, b"no such car", "sold")
