from gateway.extraction.positions import JournalPositions


def part(scope: str) -> int:
    return int(scope[0])


def test_parts_have_positions_of_their_own() -> None:
    positions = JournalPositions(part, None)
    for scope, seq in (("1a", 5), ("1b", 3), ("2a", 9)):
        positions.note(scope, seq)
    assert positions.newest == {1: 5, 2: 9}


def test_what_an_earlier_process_may_have_processed_ends_where_this_one_began() -> None:
    positions = JournalPositions(part, None)
    positions.note("1a", 5)
    positions.resume({1: 3, 2: 7})
    assert [positions.may_be_processed("1b", seq) for seq in (5, 6)] == [True, False]
    assert [positions.may_be_processed("2b", seq) for seq in (7, 8)] == [True, False]
    assert not positions.may_be_processed("3a", 1)
    positions.resume({1: 8, 2: 20}, [1])
    assert positions.may_be_processed("1a", 8)
    assert not positions.may_be_processed("2a", 20), "another part was taken over"


def test_only_messages_of_owned_scopes_come_after_a_position() -> None:
    positions = JournalPositions(part, lambda scope: scope.startswith("1"))
    assert positions.is_after({1: 4}, "1a", 5)
    assert positions.is_after({}, "1a", 1)
    assert not positions.is_after({1: 4}, "1a", 4)
    assert not positions.is_after({1: 4}, "2a", 5)
