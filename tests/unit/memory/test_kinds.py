from gateway.memory.kinds import group_of


def test_kinds_are_searched_in_groups() -> None:
    assert [group_of(kind) for kind in ("turn", "fact", "document")] == ["text"] * 3
    assert [group_of(kind) for kind in ("preference", "tool", "skill", "profile")] == [
        "preference",
        "tool",
        "skill",
        "profile",
    ]
