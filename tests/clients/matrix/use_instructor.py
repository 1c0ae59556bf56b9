import instructor
import openai
from pydantic import BaseModel
from scenarios import BASE_URL, PICTURE_URL, USER, tried, weather

plain = openai.OpenAI(base_url=BASE_URL, api_key="any", max_retries=0, default_headers=USER)
with_tools = instructor.from_openai(plain, mode=instructor.Mode.TOOLS)
with_schema = instructor.from_openai(plain, mode=instructor.Mode.JSON_SCHEMA)


class City(BaseModel):
    city: str
    people: int


class Weather(BaseModel):
    """Tell the weather of a city."""

    city: str


def asked(text):
    return {"model": "fake-1", "messages": [{"role": "user", "content": text}], "max_retries": 1}


def ask(text):
    """Its answers are objects: what it says in words is what the SDK under it says."""
    messages = [{"role": "user", "content": text}]
    return plain.chat.completions.create(model="fake-1", messages=messages).choices[0].message.content


def streamed():
    *_, last = with_tools.chat.completions.create_partial(response_model=City, **asked("Lisbon?"))
    return last.model_dump()


def tools():
    found = with_tools.chat.completions.create(response_model=Weather, **asked("How is the weather in Lisbon?"))
    return f"The tool says: {weather(found.city)}"


def schema():
    return with_schema.chat.completions.create(response_model=City, **asked("Lisbon?")).model_dump()


def picture():
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PICTURE_URL}}]
    messages = [{"role": "user", "content": parts}]
    return plain.chat.completions.create(model="fake-1", messages=messages).choices[0].message.content


def missing():
    with_tools.chat.completions.create(response_model=City, **{**asked("hi"), "model": "missing"})


tried(streamed, tools, schema, picture, missing=missing, ask=ask)
