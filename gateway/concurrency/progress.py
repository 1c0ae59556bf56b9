"""Progress along rising numbers, and waiting for numbers and events with a timeout."""

import asyncio

__all__ = ["SequenceProgress", "wait_until_set"]


class SequenceProgress:
    """`value` is the largest number reached."""

    def __init__(self) -> None:
        self.value = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def advance(self, value: int) -> None:
        """Set the value, if it is larger than the current one, and release the callers that wait for it."""
        self.value = max(self.value, value)
        for target, future in self._waiters:
            if target <= self.value and not future.done():
                future.set_result(None)

    async def reached(self, target: int, timeout: float | None = None) -> bool:
        """Wait until a number is reached. False after the timeout (seconds)."""
        if self.value >= target:
            return True
        future = asyncio.get_running_loop().create_future()
        self._waiters.append((target, future))
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiters.remove((target, future))
        return True


async def wait_until_set(event: asyncio.Event, timeout: float | None) -> bool:
    """Wait until an event is set. False after the timeout (seconds; None: no limit)."""
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        return False
    return True
