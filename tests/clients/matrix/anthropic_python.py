import json

import anthropic
from scenarios import BASE_URL, PICTURE, USER, tried, weather

client = anthropic.Anthropic(base_url=BASE_URL.removesuffix("/v1"), api_key="any", max_retries=0, default_headers=USER)
CITY = {"type": "object", "properties": {"city": {"type": "string"}, "people": {"type": "integer"}}}
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def message(content, model="fake-1", **fields):
    messages = content if isinstance(content, list) and "role" in content[0] else [{"role": "user", "content": content}]
    return client.messages.create(model=model, max_tokens=100, messages=messages, **fields)


def text_of(made):
    return "".join(block.text for block in made.content if block.type == "text")


def ask(text, model="fake-1"):
    return text_of(message(text, model))


def streamed():
    asked = {"model": "fake-1", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
    with client.messages.stream(**asked) as stream:
        return "".join(stream.text_stream)


def tools():
    offered = [{"name": "weather", "input_schema": WEATHER}]
    messages = [{"role": "user", "content": "How is the weather in Lisbon?"}]
    asked = {"model": "fake-1", "max_tokens": 100, "tools": offered, "messages": messages}
    with client.messages.stream(**asked) as stream:
        made = stream.get_final_message()
    (call,) = [block for block in made.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": weather(**call.input)}
    messages += [{"role": "assistant", "content": made.content}, {"role": "user", "content": [result]}]
    return text_of(message(messages, tools=offered))


def schema():
    form = {"format": {"type": "json_schema", "schema": CITY}}
    return json.loads(text_of(message("Lisbon?", output_config=form)))


def picture():
    source = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    return ask([{"type": "text", "text": "What is it?"}, {"type": "image", "source": source}])


tried(streamed, tools, schema, picture, missing=lambda: ask("hi", "missing"), ask=ask)
