from gateway import errors


def test_the_tree_at_the_head_of_the_module_is_the_tree() -> None:
    assert errors.__doc__ is not None
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    for kind in kinds:
        (line,) = (line for line in errors.__doc__.splitlines() if f"{kind.__name__} " in f"{line} ")
        if issubclass(kind, errors.GatewayError) and kind is not errors.GatewayError:
            assert str(kind.status) in line
            assert kind.type in line
