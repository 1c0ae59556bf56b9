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

OF_HEALTH = [
    "I can't eat gluten.",
    "I cannot drink milk, it makes me ill.",
    "I have a peanut allergy.",
    "I have type 1 diabetes",
    "I've got asthma.",
    "I've got a nut allergy.",
    "I can't have gluten.",
    "I can no longer eat gluten.",
    "I'm not able to eat gluten.",
    "I am unable to tolerate lactose.",
    "I can't eat or drink dairy.",
    "I can't eat anything with nuts.",
    "I'm epileptic.",
    "I'm asthmatic.",
    "I'm a type 1 diabetic.",
    "I suffer from epilepsy.",
    "I was diagnosed with diabetes.",
    "I have a severe and life-threatening peanut allergy.",
    "I have an allergy to penicillin.",
    "我花生过敏",
    "我有花生过敏。",
    "我海鲜过敏，",
    "我青霉素过敏",
    "我乳糖不耐受",
    "我吃不了辣",
    "我有糖尿病。",
    "我不能吃花生。",
    "我是糖尿病患者",
    "我得了哮喘，",
    "I’m allergic to peanuts.",
    "I have celiac disease.",
    "我对花生过敏。",
]

NOT_OF_HEALTH = [
    "I have no allergies.",
    "I have no known allergies.",
    "I have never had allergies.",
    "I'm not sure if I have asthma.",
    "I have a friend with diabetes.",
    "I have a dog with epilepsy.",
    "I have two patients with asthma.",
    "I have to write about diabetes.",
    "I have read about asthma.",
    "I have a diabetes report to write for class.",
    "I have a diabetes dataset to analyse.",
    "I have an asthma inhaler to return.",
    "I have an allergy appointment on Monday.",
    "我有个朋友得了糖尿病",
    "我有个学生有哮喘",
    "我是糖尿病专科医生",
    "我是研究糖尿病的",
    "我有糖尿病数据集要分析",
    "我有一份糖尿病报告要写",
    "I cannot eat yet.",
    "I can't eat alone.",
    "I can't eat fast.",
    "I can't eat because I'm nervous.",
    "I can't eat breakfast because the meeting starts early.",
    "I can't eat dinner with you.",
    "I can't eat all of that.",
    "I can't eat everything on my plate.",
    "I can't eat at that restaurant since it closed.",
    "I can't drink the water in this hotel.",
    "I can't drink from this cup.",
    "我不能喝酒开车",
    "我不能吃你的饭",
    "我不能吃早饭因为要体检",
    "If I have diabetes, what should I do.",
    "I don't think I have diabetes.",
    "My doctor asked whether I have asthma.",
    "我不能喝水，因为要做手术",
    "I can't eat another bite.",
    "My brother can't eat gluten.",
    "我朋友花生过敏",
    "我妈妈有糖尿病",
    "我怕他过敏",
    "I can't eat here.",
    "I have an allergy question.",
]


@pytest.mark.parametrize("sentence", OF_HEALTH)
def test_an_illness_or_food_that_harms_is_recognised(sentence: str) -> None:
    assert [preference.topic for preference in preferences(sentence)] == ["health"]


@pytest.mark.parametrize("sentence", NOT_OF_HEALTH)
def test_a_sentence_about_illness_or_a_meal_is_no_state_of_health(sentence: str) -> None:
    assert all(preference.topic != "health" for preference in preferences(sentence))


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
