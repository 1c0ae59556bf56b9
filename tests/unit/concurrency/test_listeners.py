import asyncio

from gateway.concurrency.listeners import notify


async def test_listeners_are_called_in_order_and_waited_for() -> None:
    calls: list[str] = []

    async def wait(value: str) -> None:
        await asyncio.sleep(0)
        calls.append(f"async {value}")

    await notify([lambda value: calls.append(f"first {value}"), wait, lambda value: calls.append(f"last {value}")], "a")
    assert calls == ["first a", "async a", "last a"]
