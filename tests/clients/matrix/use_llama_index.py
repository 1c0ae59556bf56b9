from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel
from scenarios import BASE_URL, PICTURE, USER, tried, weather


class City(BaseModel):
    """A city."""

    city: str
    people: int


def model(name="fake-1"):
    return OpenAILike(
        model=name,
        api_base=BASE_URL,
        api_key="any",
        default_headers=USER,
        is_chat_model=True,
        is_function_calling_model=True,
        max_retries=0,
    )


def ask(text):
    return model().chat([ChatMessage(text)]).message.content


def streamed():
    return "".join(part.delta for part in model().stream_chat([ChatMessage("hi")]))


def tools():
    offered = [FunctionTool.from_defaults(weather)]
    messages = [ChatMessage("How is the weather in Lisbon?")]
    answer = model().chat_with_tools(offered, chat_history=messages)
    (call,) = model().get_tool_calls_from_response(answer)
    result = offered[0](**call.tool_kwargs).content
    messages += [
        answer.message,
        ChatMessage(result, role="tool", additional_kwargs={"tool_call_id": call.tool_id}),
    ]
    return model().chat_with_tools(offered, chat_history=messages).message.content


def schema():
    return model().as_structured_llm(City).complete("Lisbon?").raw.model_dump()


def picture():
    blocks = [TextBlock(text="What is it?"), ImageBlock(image=PICTURE.encode(), image_mimetype="image/png")]
    return model().chat([ChatMessage(role="user", blocks=blocks)]).message.content


tried(streamed, tools, schema, picture, missing=lambda: model("missing").complete("hi"), ask=ask)
