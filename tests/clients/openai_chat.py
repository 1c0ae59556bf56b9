"""Run by the `openai` environment: one chat through the real SDK. Arguments: base URL, mode, text. Prints JSON."""

import json
import sys

import openai

base_url, mode, text = sys.argv[1:4]
client = openai.OpenAI(
    base_url=base_url, api_key="any-key-will-do", max_retries=0, default_headers={"x-memory-user": "ada"}
)
messages = [{"role": "user", "content": text}]
result = {}
try:
    if mode == "plain":
        raw = client.chat.completions.with_raw_response.create(model="fake-1", messages=messages)
        answer = raw.parse()
        result = {"text": answer.choices[0].message.content, "status": raw.headers["x-memory-status"]}
    elif mode == "stream":
        pieces = []
        for chunk in client.chat.completions.create(model="fake-1", messages=messages, stream=True):
            pieces += [choice.delta.content or "" for choice in chunk.choices]
        result = {"text": "".join(pieces), "chunks": len(pieces)}
    elif mode == "responses":
        raw = client.responses.with_raw_response.create(model="fake-1", input=text)
        result = {"text": raw.parse().output_text, "status": raw.headers["x-memory-status"]}
    elif mode == "responses stream":
        with client.responses.stream(model="fake-1", input=text) as stream:
            kinds = [event.type for event in stream]
            result = {"text": stream.get_final_response().output_text, "kinds": kinds}
    elif mode == "embeddings":
        vector = client.embeddings.create(model="fake-1", input=text).data[0].embedding
        result = {"vector": vector}
    elif mode == "models":
        result = {"models": [model.id for model in client.models.list()]}
except openai.APIError as error:
    result = {"error": type(error).__name__, "message": error.message, "code": error.code}
print(json.dumps(result))
