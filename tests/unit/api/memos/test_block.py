import pytest

from gateway.api.memos.block import MemosFormat


@pytest.mark.parametrize(
    ("custom", "memories", "expected"),
    [
        ("A {memories} B", "M\n\n", "A M B"),
        ("A {memories} {other} {}", "", "A  {other} {}"),
        ("A", "M", "A\n\n## Fact Memories:\nM"),
        ("A", "", "A"),
        ("", "", ""),
    ],
)
def test_a_custom_prompt_takes_the_memories(custom: str, memories: str, expected: str) -> None:
    assert MemosFormat(custom, "q", "now").system_prompt(memories) == expected


def test_the_default_prompt_has_time_memories_and_the_four_tests() -> None:
    prompt = MemosFormat(None, "what?", "2026-05-08, Friday").system_prompt("M")
    assert "2026-05-08, Friday" in prompt
    assert prompt.endswith("M")
    assert all(test in prompt for test in ("Source", "Attribution", "Relevance", "Freshness"))
    assert MemosFormat(None, "什么？", "now").system_prompt("").endswith("（无）")
