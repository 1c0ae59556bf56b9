"""openai-agents. Third argument: `chat` or `responses`."""

import sys

from agents import Agent, ModelSettings, OpenAIProvider, RunConfig, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI
from pydantic import BaseModel
from scenarios import BASE_URL, PICTURE_URL, USER, tried, weather

set_tracing_disabled(True)
client = AsyncOpenAI(base_url=BASE_URL, api_key="any", max_retries=0, default_headers=USER)
provider = OpenAIProvider(openai_client=client, use_responses=sys.argv[3] == "responses")
config = RunConfig(model_provider=provider, tracing_disabled=True)


class City(BaseModel):
    city: str
    people: int


def agent(name="fake-1", **fields):
    return Agent(name="assistant", model=name, model_settings=ModelSettings(), **fields)


async def run(agent_, asked):
    return (await Runner.run(agent_, asked, run_config=config)).final_output


async def ask(text):
    return await run(agent(), text)


async def streamed():
    running = Runner.run_streamed(agent(), "hi", run_config=config)
    raw = [event.data async for event in running.stream_events() if event.type == "raw_response_event"]
    return "".join(event.delta for event in raw if event.type == "response.output_text.delta")


async def tools():
    return await run(agent(tools=[function_tool(weather)]), "How is the weather in Lisbon?")


async def schema():
    return (await run(agent(output_type=City), "Lisbon?")).model_dump()


async def picture():
    parts = [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": PICTURE_URL}]
    return await run(agent(), [{"role": "user", "content": parts}])


tried(streamed, tools, schema, picture, missing=lambda: run(agent("missing"), "hi"), ask=ask)
