"""simonw/llm, with the gateway's models named in its own configuration file."""

import base64
import json
import os
from pathlib import Path

folder = Path.cwd() / "llm"
folder.mkdir(exist_ok=True)
os.environ["LLM_USER_PATH"] = str(folder)

import llm  # noqa: E402
import yaml  # noqa: E402
from pydantic import BaseModel  # noqa: E402
from scenarios import BASE_URL, PICTURE, USER, tried, weather  # noqa: E402

shared = {"api_base": BASE_URL, "headers": USER, "supports_tools": True, "supports_schema": True, "vision": True}
names = ("fake-1", "missing")
models = [{"model_id": name, "model_name": name, "api_key_name": "gateway", **shared} for name in names]
(folder / "extra-openai-models.yaml").write_text(yaml.safe_dump(models))
(folder / "keys.json").write_text('{"gateway": "any"}')


class City(BaseModel):
    city: str
    people: int


def model(name="fake-1"):
    return llm.get_model(name)


def ask(text):
    return model().prompt(text, stream=False).text()


def streamed():
    return "".join(model().prompt("hi"))


def tools():
    return model().chain("How is the weather in Lisbon?", tools=[weather], stream=False).text()


def schema():
    return json.loads(model().prompt("Lisbon?", schema=City, stream=False).text())


def picture():
    attached = llm.Attachment(type="image/png", content=base64.b64decode(PICTURE))
    return model().prompt("What is it?", attachments=[attached], stream=False).text()


tried(streamed, tools, schema, picture, missing=lambda: model("missing").prompt("hi").text(), ask=ask)
