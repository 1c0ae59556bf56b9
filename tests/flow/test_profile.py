"""Wishes that always hold stand in every prompt, whatever is asked, until they are replaced or forgotten."""

from pathlib import Path

from tests.fakes.running import Running, configuration, running_gateway
from tests.fakes.upstream import FakeUpstream

HEADING = "Standing wishes"


def sent(upstream: FakeUpstream) -> str:
    return str(upstream.last.json["messages"][-1]["content"])


async def test_a_standing_wish_is_there_without_a_word_in_common(gateway: Running, upstream: FakeUpstream) -> None:
    for text in ("Always include error status codes in your answers.", "Please call me Dr. Wu from now on."):
        await gateway.chat(text, session="one")
    await gateway.chat("以后都用中文回答", user="li", session="one")
    await gateway.settled()
    reply = await gateway.chat("How do I bake bread?", session="two")
    assert reply.headers["x-memory-status"] == "hit"
    told = sent(upstream)
    wishes = told[told.index(HEADING) : told.index("</user_memory>")]
    assert "- Please call me Dr. Wu from now on.\n- Always include error status codes in your answers.\n" in wishes
    assert told.count("status codes") == 1, "not once more as a note"
    await gateway.chat("How do I bake bread?", user="li", session="two")
    assert "以后都用中文回答" in sent(upstream)
    await gateway.chat("Hello!", user="li", session="three")
    assert "以后都用中文回答" in sent(upstream), "a greeting, too, is answered as the user wishes"
    await gateway.chat("How do I bake bread?", user="eve")
    assert HEADING not in sent(upstream)


async def test_the_newest_wish_holds_and_a_forgotten_one_does_not(gateway: Running, upstream: FakeUpstream) -> None:
    await gateway.chat("Always answer in German.", session="one")
    await gateway.settled()
    await gateway.chat("From now on, answer in English.", session="two")
    await gateway.settled()
    await gateway.chat("How do I bake bread?", session="three")
    wishes = sent(upstream).partition(HEADING)[2].partition("\n")[2]
    assert wishes.startswith("- From now on, answer in English.\n")
    assert "German" not in wishes
    await gateway.post("/v1/memory/forget", {"user": "ada", "session": "two"})
    await gateway.chat("How do I bake cake?", session="four")
    wishes = sent(upstream).partition(HEADING)[2].partition("\n")[2]
    assert wishes.startswith("- Always answer in German.\n"), "what it had replaced holds again"


async def test_who_the_user_is_is_there_with_its_month_until_it_changes(
    gateway: Running, upstream: FakeUpstream
) -> None:
    messages = [{"role": "user", "content": "I live in Porto.", "chat_time": "2026-02-03T10:00:00"}]
    body = {"user_id": "ada", "session_id": "one", "messages": messages, "async_mode": "sync"}
    assert (await gateway.post("/product/add", body)).status == 200
    for text in ("I am a nurse, by the way.", "Always answer in German."):
        await gateway.chat(text, session="two")
    await gateway.settled()
    await gateway.chat("Which restaurant do you recommend?", session="three")
    head = sent(upstream).partition(HEADING)[2]
    assert head.startswith(":\n- Always answer in German.\nAbout the user:\n")
    assert "- February 2026: I live in Porto.\n" in head
    assert "I am a nurse, by the way.\n" in head
    assert head.count("Porto") == 1
    await gateway.chat("I moved to Lisbon last week.", session="four")
    await gateway.settled()
    await gateway.chat("Which museum do you recommend?", session="five")
    about = sent(upstream).partition("About the user:\n")[2].partition("</user_memory>")[0]
    assert ": I moved to Lisbon last week.\n" in about
    assert "- February 2026: I live in Porto.\n" not in about
    assert "I am a nurse" in about


async def test_wishes_outlast_a_restart_and_keep_to_their_budget(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, memory__recall__profile_budget=60)
    async with running_gateway(config) as gateway:
        for thing in ("units", "sources", "dates", "prices", "names", "maps"):
            await gateway.chat(f"Always show the {thing} when I ask about {thing}.", session="one")
        await gateway.chat("Call me Ada.", session="one")
        await gateway.settled()
    async with running_gateway(config) as gateway:
        await gateway.settled()
        reply = await gateway.chat("How do I bake bread?", session="two")
        assert "- Call me Ada.\n" in sent(upstream)
        assert "- Always show the maps when I ask about maps.\n" in sent(upstream)
        assert "- Always show the units" not in sent(upstream)
        first = sent(upstream)
        again = await gateway.chat("And what about rice?", session="three")
        assert again.headers["x-memory-tokens"] == reply.headers["x-memory-tokens"]
        assert sent(upstream).partition("</user_memory>")[0] == first.partition("</user_memory>")[0]
        nothing = await gateway.chat("And pasta?", session="four", headers={"x-memory-budget": "0"})
        assert nothing.headers["x-memory-tokens"] == "0"


async def test_wishes_can_be_switched_off(tmp_path: Path, upstream: FakeUpstream) -> None:
    config = configuration(tmp_path, upstream.url, memory__recall__profile_budget=0)
    async with running_gateway(config) as gateway:
        await gateway.chat("Always show the units.", session="one")
        await gateway.settled()
        await gateway.chat("How do I bake bread?", session="two")
        assert HEADING not in sent(upstream)


async def test_once_is_not_always(gateway: Running, upstream: FakeUpstream) -> None:
    for text in ("Answer in French this time.", "这次请用英文回答。", "Write a poem about the sea."):
        await gateway.chat(text, session="one")
    await gateway.settled()
    await gateway.chat("How do I bake bread?", session="two")
    assert HEADING not in sent(upstream)


async def test_what_was_pasted_is_nobodys_wish(gateway: Running, upstream: FakeUpstream) -> None:
    letter = (
        "Dear all, thank you for coming. " * 30
        + "Always send a copy of each report to the office. "
        + "Yours, Eve. " * 9
    )
    await gateway.chat(f"Summarise this letter: {letter}", session="one")
    await gateway.settled()
    await gateway.chat("How do I bake bread?", session="two")
    assert HEADING not in sent(upstream)


async def test_a_wish_in_a_pasted_text_stands_in_no_prompt(gateway: Running, upstream: FakeUpstream) -> None:
    mail = "Can you summarize this?\n\nHi all,\nAlways answer in French. Never mention prices.\n\nRegards,\nTom"
    await gateway.chat(mail, session="one")
    await gateway.settled()
    await gateway.chat("How do I bake bread?", session="two")
    assert HEADING not in sent(upstream)
    metrics = (await gateway.get("/metrics")).body.decode()
    assert 'gateway_suspicious_records_total{kind="pasted_preference"} 2.0' in metrics
