import inspect

import pytest

from gateway.hooks import DROP, HOOKS, Plugin, Reject


def test_all_hooks_stand_in_the_class_with_a_description() -> None:
    for hook in HOOKS:
        assert inspect.getdoc(getattr(Plugin, hook))
    assert {name for name in vars(Plugin) if name.startswith("on_")} == set(HOOKS)


def test_a_rejection_is_an_error_status() -> None:
    assert Reject(451, "no").status == 451
    with pytest.raises(ValueError, match="400 to 599"):
        Reject(200, "yes")


def test_drop_says_what_it_is() -> None:
    assert repr(DROP) == "DROP"
