"""Run by the `anthropic` environment: a message through the real SDK. Arguments: base URL, mode, text. Prints JSON."""

import json
import sys

import anthropic

base_url, mode, text = sys.argv[1:4]
client = anthropic.Anthropic(
    base_url=base_url, api_key="any-key-will-do", max_retries=0, default_headers={"x-memory-user": "ada"}
)
tool = {"name": "look", "description": "Looks.", "input_schema": {"type": "object", "properties": {}}}
asked = {"model": "fake-1", "max_tokens": 100, "messages": [{"role": "user", "content": text}], "tools": [tool]}
result = {}
try:
    if mode == "plain":
        raw = client.messages.with_raw_response.create(**asked)
        answer = raw.parse()
        result = {"status": raw.headers["x-memory-status"]}
    elif mode == "count":
        result = {"tokens": client.messages.count_tokens(model="fake-1", messages=asked["messages"]).input_tokens}
        answer = None
    else:
        with client.messages.stream(**asked) as stream:
            pieces = list(stream.text_stream)
            answer = stream.get_final_message()
        result = {"pieces": len(pieces)}
    if answer is not None:
        result |= {
            "text": "".join(block.text for block in answer.content if block.type == "text"),
            "calls": [[block.name, block.input] for block in answer.content if block.type == "tool_use"],
            "stop": answer.stop_reason,
            "tokens": answer.usage.output_tokens,
        }
except anthropic.APIError as error:
    result = {"error": type(error).__name__, "message": error.message}
print(json.dumps(result))
