import pytest
from pydantic import ValidationError

from gateway.api.mcp.schemas import (
    AddArguments,
    DeleteArguments,
    MemoryPage,
    SearchArguments,
    UpdateArguments,
    argument_schema,
    result_schema,
)


def test_the_schema_of_arguments_is_closed_and_plain() -> None:
    schema = argument_schema(UpdateArguments)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["id"]
    assert list(schema["properties"]) == ["id", "text", "title", "status", "version", "user"]
    assert schema["properties"]["status"]["enum"] == ["activated", "archived"]
    for described in schema["properties"].values():
        assert described["description"]
        assert not {"anyOf", "title", "$ref"} & described.keys()


def test_arguments_can_be_left_out_of_a_schema() -> None:
    assert "user" not in argument_schema(SearchArguments, ("user",))["properties"]
    assert not {"cubes", "filter"} & argument_schema(SearchArguments)["properties"].keys()


def test_the_names_of_memos_are_aliases() -> None:
    arguments = AddArguments.model_validate({"memory_content": "x", "user_id": "ada", "cube_id": "work"})
    assert (arguments.text, arguments.user, arguments.cubes) == ("x", "ada", ["work"])
    assert DeleteArguments.model_validate({"memory_id": "a" * 32}).id == "a" * 32


@pytest.mark.parametrize("arguments", [{"id": "a" * 5}, {"id": "a" * 37}, {"id": 7}, {"id": "a" * 32, "x": 1}, {}])
def test_an_id_has_a_length_that_an_id_can_have(arguments: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DeleteArguments.model_validate(arguments)


def test_a_result_always_has_all_its_fields() -> None:
    schema = result_schema(MemoryPage)
    assert set(schema["required"]) == schema["properties"].keys() == {"user", "memories", "next"}
    item = schema["$defs"]["MemoryItem"]
    assert set(item["required"]) == item["properties"].keys()
