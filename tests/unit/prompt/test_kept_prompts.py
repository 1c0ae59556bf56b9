from dataclasses import replace

import orjson

from gateway.prompt.kept_prompts import KeptPrompts
from gateway.turn import Block, Turn
from tests.fakes.made import turn

BODY = b'{"messages": [{"content": "<m>\\nit\\n</m>\\n\\nhi"}], "n": 12345678901234567890123, "n": 1.50}'
REQUEST = b'{"messages": [{"content": "hi"}]}'


def of(id_: str, raw: bytes = REQUEST, block: str = "<m>\nit\n</m>\n\n") -> Turn:
    return replace(turn(), id=id_, raw=raw, block=Block(block, (), 3))


async def test_bodies_are_given_as_they_were_sent() -> None:
    prompts = KeptPrompts(is_on=True)
    prompts.keep(of("a"), BODY, (), is_in_system=False)
    told = await prompts.serialize("a")
    assert told["prompt"]["blocks"] == [{"pointer": "/messages/0/content", "start": 0, "end": 13, "is_current": True}]
    assert BODY in orjson.dumps(told)
    assert REQUEST in orjson.dumps(told)
    assert (told["prompt"]["path"], told["request"]["path"]) == ("/v1/chat/completions", "/v1/chat/completions")


async def test_nothing_is_kept_where_content_may_not_be_shown() -> None:
    prompts = KeptPrompts(is_on=False)
    prompts.keep(of("a"), BODY, (), is_in_system=False)
    assert await prompts.serialize("a") == {"content": False, "prompt": None, "request": None}


async def test_a_large_body_is_not_kept() -> None:
    prompts = KeptPrompts(is_on=True)
    for id_, size in (("fits", 256 * 1024), ("large", 256 * 1024 + 1)):
        prompts.keep(of(id_), orjson.dumps("x" * (size - 2)), (), is_in_system=False)
    assert (await prompts.serialize("fits"))["prompt"] is not None
    large = await prompts.serialize("large")
    assert (large["prompt"], large["request"], large["prompt_omitted"]) == (None, None, "too_large")


async def test_all_bodies_together_are_bounded() -> None:
    prompts = KeptPrompts(is_on=True)
    body = orjson.dumps("x" * 200_000)
    for number in range(100):
        prompts.keep(of(f"{number}", body), body, (), is_in_system=False)
    kept = [(await prompts.serialize(f"{number}"))["prompt"] is not None for number in range(100)]
    assert kept == [False] * (100 - 83) + [True] * 83, "83 of 200 kB fit into 16 MiB"
    for number in range(100):
        prompts.withhold(f"{number}", b"{}")
        prompts.drop(f"{number}")
        prompts.drop(f"{number}")
    for number in range(83):
        prompts.keep(of(f"{number}", body), body, (), is_in_system=False)
    assert (await prompts.serialize("0"))["prompt"] is not None


async def test_what_was_sent_without_its_block_is_given_so() -> None:
    prompts = KeptPrompts(is_on=True)
    prompts.keep(of("a"), BODY, ("<m>\nearlier\n</m>",), is_in_system=False)
    prompts.withhold("a", REQUEST)
    prompts.withhold("unknown", REQUEST)
    prompt = (await prompts.serialize("a"))["prompt"]
    assert (bytes(orjson.dumps(prompt["body"])), prompt["blocks"]) == (REQUEST, [])
    assert (await prompts.serialize("unknown"))["prompt_omitted"] == "not_kept"
