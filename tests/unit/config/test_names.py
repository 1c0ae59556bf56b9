from typing import Any

import pytest

from gateway.config.names import check_name


def test_a_name_of_the_table_is_returned() -> None:
    assert check_name("b", ["a", "b"]) == "b"


@pytest.mark.parametrize(("value", "names"), [("c", ["a", "b", "d"]), ("", ["a"]), (3, ["a"]), (["a"], ["a"])])
def test_another_value_is_refused_with_all_names(value: Any, names: list[str]) -> None:
    expected = {3: "Input should be 'a', 'b' or 'd'", 1: "Input should be 'a'"}[len(names)]
    with pytest.raises(ValueError, match=f"^{expected}$"):
        check_name(value, names)
