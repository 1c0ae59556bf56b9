import pytest

from gateway.api.memos.defaults import DEFAULT_CONFIG
from gateway.api.memos.models import AddRequest, ChatRequest, SearchRequest, checked, said_at
from gateway.errors import BadRequest

ASKED = {"user_id": "u", "query": "q"}


def test_the_defaults_are_those_of_the_chat_page() -> None:
    page = DEFAULT_CONFIG
    assert (page.add_message_on_answer, page.temperature, page.top_p, page.max_tokens) == (False, 0.7, 0.95, 8192)
    assert (page.include_preference, page.relativity, page.threshold) == (True, 0.45, 0.5)
    chat = checked(ChatRequest, ASKED)
    assert (chat.add_message_on_answer, chat.temperature, chat.top_p, chat.max_tokens) == (None,) * 4


def test_both_vocabularies_mean_the_same_and_the_native_name_wins() -> None:
    other = {"conversation_id": "c", "memory_limit_number": 3, "model_name": "m", "tags": ["t"]}
    chat = checked(ChatRequest, {**ASKED, **other})
    assert (chat.session_id, chat.top_k, chat.model_name_or_path, chat.custom_tags) == ("c", 3, "m", ("t",))
    both = checked(ChatRequest, {**ASKED, **other, "top_k": 7, "model_name_or_path": None})
    assert (both.top_k, both.model_name_or_path) == (7, "m")


@pytest.mark.parametrize(
    "messages",
    ["text", [{"type": "text", "text": "text"}], [{"role": "user", "content": "text"}]],
)
def test_messages_come_in_three_forms(messages: object) -> None:
    add = checked(AddRequest, {"user_id": "u", "messages": messages})
    assert add.messages == [{"role": "user", "content": "text"}]


@pytest.mark.parametrize(("given", "mode"), [(True, "async"), (False, "sync"), ("sync", "sync"), (None, "async")])
def test_the_mode_of_adding_is_a_word_or_a_truth(given: object, mode: str) -> None:
    assert checked(AddRequest, {"user_id": "u", "messages": "x", "async_mode": given}).async_mode == mode


@pytest.mark.parametrize(
    "value",
    [
        "2024-05-06T07:08:09",
        "2024-05-06 07:08:09",
        "2024-05-06T09:08:09+02:00",
        1714979289,
        1714979289000,
        "2024/05/06 (Mon) 07:08:09",
        "Mon, 06 May 2024 07:08:09 GMT",
        "2024年05月06日 07:08:09",
    ],
)
def test_times_come_in_many_forms(value: object) -> None:
    assert said_at({"chat_time": value}, 0) == 1714979289


def test_a_time_may_be_written_as_people_do() -> None:
    assert said_at({"chat_time": "1:56 pm on 8 May, 2023"}, 0) == 1683554160
    assert said_at({"chat_time": "May 8, 2023"}, 0) == 1683504000
    with pytest.raises(ValueError, match="chat_time"):
        said_at({"chat_time": "soon"}, 0)


def test_bad_fields_are_named() -> None:
    with pytest.raises(BadRequest, match="top_k"):
        checked(SearchRequest, {**ASKED, "top_k": "many"})
    with pytest.raises(BadRequest, match="JSON object"):
        checked(SearchRequest, 7)
    assert said_at({}, 5.0) == 5.0
