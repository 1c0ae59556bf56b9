import pytest

from gateway.remember.preferences import preferences

STATED = {
    "I prefer window seats on long flights.": "taste",
    "I really don't like cilantro.": "taste",
    "My favourite colour is teal.": "taste",
    "I can't stand loud restaurants.": "taste",
    "I never eat breakfast before ten.": "taste",
    "I'm allergic to peanuts.": "health",
    "I am a vegetarian": "health",
    "I’m allergic to peanuts.": "health",
    "I have a peanut allergy.": "health",
    "I have type 1 diabetes": "health",
    "I can't eat gluten.": "health",
    "I cannot drink milk, it makes me ill.": "health",
    "我有糖尿病。": "health",
    "我不能吃花生。": "health",
    "Call me Sam.": "address",
    "Please call me Dr. Wu from now on": "address",
    "Always answer in French.": "style",
    "Please never use emojis in replies.": "style",
    "From now on, keep your answers short.": "style",
    "Don't call me sir ever again.": "style",
    "I want you to always show the units.": "style",
    "我不喜欢吃香菜。": "taste",
    "我更喜欢靠窗的座位": "taste",
    "我对花生过敏。": "health",
    "我吃素": "health",
    "以后请叫我小李。": "address",
    "以后都用中文回答": "style",
    "请不要再用表情符号。": "style",
    "我最喜欢的水果是芒果。": "taste",
}

ORDINARY = [
    "What do you like about Lisbon?",
    "I'd like to know how tides work.",
    "I would like to book a table for two.",
    "I like that idea, tell me more.",
    "I love it!",
    "Do I prefer tea or coffee?",
    "My sister likes jazz.",
    "I can't eat another bite.",
    "I can’t eat right now, call me back.",
    "I have an allergy test guide to print.",
    "My brother can't eat gluten.",
    "我不能吃了。",
    "She hates flying.",
    "Answer in French this time.",
    "Just for today, keep it short.",
    "Don't forget the meeting at nine.",
    "We moved to Graz in May.",
    "Write a poem about the sea.",
    "The manual says never use abrasive cleaners on it.",
    "这次请用英文回答。",
    "你喜欢什么颜色？",
    "我妈妈喜欢跳舞。",
    "我昨天去了上海。",
    "今天不要给我打电话。",
    "帮我写一封邮件。",
]


@pytest.mark.parametrize(("sentence", "topic"), STATED.items())
def test_a_stated_preference_is_recognised(sentence: str, topic: str) -> None:
    found = preferences(f"We talked about the trip. {sentence}\nThat is all.")
    assert [(one.text, one.topic) for one in found] == [(sentence, topic)]


@pytest.mark.parametrize("sentence", ORDINARY)
def test_an_ordinary_sentence_is_no_preference(sentence: str) -> None:
    assert preferences(sentence) == []


def test_a_message_gives_a_bounded_number_of_preferences() -> None:
    assert len(preferences("I prefer tea. " * 100)) == 8
    assert preferences("") == []
