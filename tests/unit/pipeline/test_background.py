import asyncio

from gateway.pipeline.background import BackgroundTasks


def test_a_stop_waits_for_tasks_and_for_those_they_start() -> None:
    async def run() -> list[str]:
        tasks, events = BackgroundTasks(), list[str]()

        async def second() -> None:
            await asyncio.sleep(0)
            events.append("second")

        async def first() -> None:
            await asyncio.sleep(0)
            tasks.run(second())
            events.append("first")

        tasks.run(first())
        await tasks.stop(5)
        return events

    assert asyncio.run(run()) == ["first", "second"]


def test_a_stop_does_not_wait_for_ever() -> None:
    async def run() -> bool:
        tasks = BackgroundTasks()
        task = tasks.start(asyncio.Event().wait())
        await tasks.stop(0.01)
        is_running = not task.done()
        task.cancel()
        return is_running

    assert asyncio.run(run())
