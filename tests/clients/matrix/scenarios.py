"""What each client is tried with. A client's script gives a function for each; what they return is printed as JSON."""

import asyncio
import inspect
import json
import sys
import time
from collections.abc import Callable
from typing import Any

BASE_URL, PICTURE = sys.argv[1], sys.argv[2]
USER = {"x-memory-user": "ada"}
FACT, QUESTION = "My cat is called Miso.", "What is the name of my cat?"
PICTURE_URL = f"data:image/png;base64,{PICTURE}"


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


def status_of(error: BaseException) -> int:
    """The HTTP status that an error of a client carries, in itself or in what caused it."""
    seen: BaseException | None = error
    while seen is not None:
        status = getattr(seen, "status_code", None)
        if isinstance(status, int):
            return status
        seen = seen.__cause__ or seen.__context__
    raise error


def tried(*scenarios: Callable[[], Any], missing: Callable[[], Any], ask: Callable[[str], Any]) -> None:
    """Tell a fact, run the scenarios, ask a model that is not there, and ask for the fact in a new conversation."""

    async def run() -> dict[str, Any]:
        found = {"told": await value(ask, FACT)}
        for scenario in scenarios:
            found[scenario.__name__] = await value(scenario)
        try:
            found["missing"] = await value(missing)
        except Exception as error:  # noqa: BLE001 — each client has its own
            found["missing"] = status_of(error)
        time.sleep(1.5)  # what was said is found a second later
        return found | {"asked": await value(ask, QUESTION)}

    print(json.dumps(asyncio.run(run())))


async def value(work: Callable[..., Any], *arguments: Any) -> Any:
    made = work(*arguments)
    return await made if inspect.isawaitable(made) else made
