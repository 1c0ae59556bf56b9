import json

import openai
from scenarios import BASE_URL, PICTURE_URL, USER, tried, weather

client = openai.OpenAI(base_url=BASE_URL, api_key="any", max_retries=0, default_headers=USER)
CITY = {"type": "object", "properties": {"city": {"type": "string"}, "people": {"type": "integer"}}}
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def ask(text, model="fake-1"):
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content


def streamed():
    with client.chat.completions.stream(model="fake-1", messages=[{"role": "user", "content": "hi"}]) as stream:
        return stream.get_final_completion().choices[0].message.content if list(stream) else None


def tools():
    messages = [{"role": "user", "content": "How is the weather in Lisbon?"}]
    offered = [{"type": "function", "function": {"name": "weather", "parameters": WEATHER}}]
    with client.chat.completions.stream(model="fake-1", messages=messages, tools=offered) as stream:
        message = stream.get_final_completion().choices[0].message
    (call,) = message.tool_calls
    result = weather(**json.loads(call.function.arguments))
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": result}]
    return client.chat.completions.create(model="fake-1", messages=messages, tools=offered).choices[0].message.content


def schema():
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    answer = client.chat.completions.create(
        model="fake-1", messages=[{"role": "user", "content": "Lisbon?"}], response_format=form
    )
    return json.loads(answer.choices[0].message.content)


def picture():
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PICTURE_URL}}]
    answer = client.chat.completions.create(model="fake-1", messages=[{"role": "user", "content": parts}])
    return answer.choices[0].message.content


tried(streamed, tools, schema, picture, missing=lambda: ask("hi", "missing"), ask=ask)
