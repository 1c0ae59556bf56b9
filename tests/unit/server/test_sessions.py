"""Conversations without a name are told apart by their beginning and their time."""

from gateway.server.sessions import Sessions

NOW = 1_800_000_000.0


def test_two_chats_that_open_alike_are_two() -> None:
    sessions = Sessions()
    first = sessions.name("ada", "Hi", "", NOW)
    assert sessions.name("ada", "Hi", "Hello!", NOW + 5) == first
    second = sessions.name("ada", "Hi", "", NOW + 10)
    assert second != first
    assert sessions.name("ada", "Hi", "Good day.", NOW + 15) == second
    assert sessions.name("ada", "Hi", "Hello!", NOW + 20) == first


def test_a_retry_is_the_same_chat_and_a_later_opening_another() -> None:
    sessions = Sessions()
    first = sessions.name("ada", "Hi", "", NOW)
    assert sessions.name("ada", "Hi", "", NOW + 60) == first
    assert sessions.name("ada", "Hi", "", NOW + 600) != first
    assert sessions.name("bob", "Hi", "", NOW + 60) != first


def test_two_answered_chats_that_open_alike_stay_apart() -> None:
    sessions = Sessions()
    first = sessions.name("ada", "Hi", "", NOW)
    sessions.answered("ada", "Hi", first, "Hello!")
    second = sessions.name("ada", "Hi", "", NOW + 300)
    sessions.answered("ada", "Hi", second, "Good day.")
    assert first != second
    assert sessions.name("ada", "Hi", "Hello!", NOW + 400) == first
    assert sessions.name("ada", "Hi", "Good day.", NOW + 401) == second


def test_after_a_restart_a_chat_has_one_name_for_the_rest() -> None:
    name = Sessions().name("ada", "Hi", "Hello!", NOW)
    assert Sessions().name("ada", "Hi", "Hello!", NOW + 99) == name
    assert Sessions().name("ada", "Hi", "Good day.", NOW) != name


def test_names_are_bounded() -> None:
    sessions = Sessions()
    for number in range(20_000):
        sessions.name("ada", f"opening {number}", "", NOW)
        sessions.name("ada", "Hi", f"answer {number}", NOW)
    assert 10_000 < sessions.count < 11_000
