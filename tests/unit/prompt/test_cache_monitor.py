from gateway.prompt.cache_monitor import PromptCacheMonitor


def test_the_share_of_a_common_beginning_that_is_left() -> None:
    watch, place = PromptCacheMonitor(), ("scope", "session")
    history, more = b"a" * 10_000, b"b" * 5_000
    assert watch.share(place, history, history) is None
    assert watch.share(place, history + more, history + more) == 1.0
    found = watch.share(place, history + more + more, b"memory" + history + more + more)
    assert found == 0.0
    assert watch.share(("scope", "other"), history, history) is None


def test_a_block_at_the_end_costs_nothing_of_what_stands_before_it() -> None:
    watch, place = PromptCacheMonitor(), ("scope", "session")
    history = bytes(range(256)) * 40
    watch.share(place, history + b"question", history + b"memories question")
    assert watch.share(place, history + b"question, answer, next", history + b"question, answer, memories next") == 1.0


def test_conversations_without_anything_in_common_tell_nothing() -> None:
    watch, place = PromptCacheMonitor(), ("scope", "session")
    watch.share(place, b"a" * 5000, b"a" * 5000)
    assert watch.share(place, b"b" * 5000, b"b" * 5000) is None
