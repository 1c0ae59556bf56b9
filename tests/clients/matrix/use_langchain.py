from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from scenarios import BASE_URL, PICTURE_URL, USER, tried, weather


class City(BaseModel):
    city: str
    people: int


def model(name="fake-1"):
    return ChatOpenAI(
        model=name, base_url=BASE_URL, api_key="any", max_retries=0, default_headers=USER, use_responses_api=False
    )


def ask(text):
    return model().invoke(text).content


async def streamed():
    return "".join([chunk.content async for chunk in model().astream("hi")])


def tools():
    offered = tool(weather)
    bound = model().bind_tools([offered])
    messages = [HumanMessage("How is the weather in Lisbon?")]
    called = bound.invoke(messages)
    (call,) = called.tool_calls
    messages += [called, ToolMessage(offered.invoke(call["args"]), tool_call_id=call["id"])]
    return bound.invoke(messages).content


def schema():
    return model().with_structured_output(City).invoke("Lisbon?").model_dump()


def picture():
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PICTURE_URL}}]
    return model().invoke([HumanMessage(parts)]).content


tried(streamed, tools, schema, picture, missing=lambda: model("missing").invoke("hi"), ask=ask)
