import json

import openai
from scenarios import BASE_URL, PICTURE_URL, USER, tried, weather

client = openai.OpenAI(base_url=BASE_URL, api_key="any", max_retries=0, default_headers=USER)
CITY = {"type": "object", "properties": {"city": {"type": "string"}, "people": {"type": "integer"}}}
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def ask(text, model="fake-1"):
    return client.responses.create(model=model, input=text).output_text


def streamed():
    with client.responses.stream(model="fake-1", input="hi") as stream:
        return stream.get_final_response().output_text if list(stream) else None


def tools():
    items = [{"role": "user", "content": "How is the weather in Lisbon?"}]
    offered = [{"type": "function", "name": "weather", "parameters": WEATHER}]
    (call,) = client.responses.create(model="fake-1", input=items, tools=offered).output
    result = weather(**json.loads(call.arguments))
    items += [call, {"type": "function_call_output", "call_id": call.call_id, "output": result}]
    return client.responses.create(model="fake-1", input=items, tools=offered).output_text


def schema():
    form = {"format": {"type": "json_schema", "name": "city", "schema": CITY}}
    return json.loads(client.responses.create(model="fake-1", input="Lisbon?", text=form).output_text)


def picture():
    parts = [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": PICTURE_URL}]
    return client.responses.create(model="fake-1", input=[{"role": "user", "content": parts}]).output_text


tried(streamed, tools, schema, picture, missing=lambda: ask("hi", "missing"), ask=ask)
