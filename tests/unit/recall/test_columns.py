import numpy as np

from gateway.recall.columns import grow_columns, is_of, make_columns


def test_columns_grow_and_keep_their_rows() -> None:
    columns = make_columns()
    columns["tokens"][:3] = [1, 2, 3]
    grow_columns(columns, 1000, 3)
    assert {len(column) for column in columns.values()} == {1000}
    assert columns["tokens"][:4].tolist() == [1, 2, 3, 0]
    assert columns["before"][999] == -1


def test_preferences_that_a_model_learnt_are_searched_with_what_was_said() -> None:
    groups = np.asarray([0, 1, 4, 5], np.int8)
    assert is_of(groups, "chat").tolist() == [True, False, True, False]
    assert is_of(groups, "preference").tolist() == [False, True, True, False]
