from gateway.formats.json_read import count_in, loaded_object, object_in, objects, strings, text_in


def test_what_is_not_of_its_type_is_not_there() -> None:
    assert loaded_object(b"[1]") == loaded_object(None) == loaded_object("{") == {}
    assert loaded_object('{"a":1}') == {"a": 1}
    assert object_in({"a": [1]}, "a") == object_in({}, "a") == {}
    assert count_in({"a": "7", "b": True}, "a") == count_in({"b": True}, "b") == 0
    assert objects({"a": 1}) == objects(None) == []
    assert objects([{"a": 1}, 7]) == [{"a": 1}]
    assert strings([{"t": "x"}, {"t": 1}, {}], "t") == ["x"]
    assert text_in([{"text": "a"}, {"image": 1}, {"text": "b"}]) == "a\nb"
    assert text_in("a") == "a"
    assert text_in(None) == ""
