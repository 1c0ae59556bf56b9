import base64

from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from scenarios import BASE_URL, PICTURE, USER, tried, weather

client = AsyncOpenAI(base_url=BASE_URL, api_key="any", max_retries=0, default_headers=USER)


class City(BaseModel):
    city: str
    people: int


def agent(name="fake-1", **fields):
    return Agent(OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client)), **fields)


async def ask(text):
    return (await agent().run(text)).output


async def streamed():
    async with agent().run_stream("hi") as result:
        return "".join([piece async for piece in result.stream_text(delta=True)])


async def tools():
    return (await agent(tools=[weather]).run("How is the weather in Lisbon?")).output


async def schema():
    return (await agent(output_type=City).run("Lisbon?")).output.model_dump()


async def picture():
    return (await agent().run(["What is it?", BinaryContent(base64.b64decode(PICTURE), media_type="image/png")])).output


tried(streamed, tools, schema, picture, missing=lambda: agent("missing").run("hi"), ask=ask)
