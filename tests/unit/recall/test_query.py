from gateway.recall.query import make_query


def test_code_and_pastes_are_cut() -> None:
    query = make_query("Why does this fail?\n```python\nimport secret_module\n```", "")
    assert "secret_module" not in query.text
    long = make_query("begin " + "x " * 5000 + " end", "")
    assert len(long.text) < 1000
    assert (long.terms[0], long.terms[-1]) == ("begin", "end")


def test_a_short_message_borrows_words_from_the_one_before() -> None:
    assert "lisbon" in make_query("And there?", "I move to Lisbon").terms or not make_query("And there?", "").terms
    assert make_query("Lisbon weather", "I love Porto").terms[-1] == "porto"
    assert "porto" not in make_query("the weather in Lisbon in spring this year", "I love Porto").terms


def test_nothing_gives_an_empty_query() -> None:
    assert make_query("", "context").text == ""
    assert make_query("```only code```", "").text == ""
