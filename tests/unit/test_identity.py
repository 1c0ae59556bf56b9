import pytest
from pydantic import SecretStr

from gateway.config import KeyConfig
from gateway.errors import BadRequest, Unauthenticated
from gateway.identity import Keyring, checked_id, cube_scopes, identify, key_of, scope_of
from gateway.turn import ParsedRequest, Principal, Right
from tests.fakes.made import EVERYTHING

ASK = ParsedRequest(model="m", stream=False, opening="Hello")


def test_scopes_are_hex_and_tell_tenant_and_cube_apart() -> None:
    assert scope_of("a", "b").value != scope_of("ab", "").value
    assert scope_of("a", "b").value != scope_of("b", "a").value
    assert len(scope_of("a", "b").value) == 64


def test_naming_another_users_cube_makes_one_of_ones_own() -> None:
    (eves,) = cube_scopes("t", "eve", ["bob"])
    assert eves.cube_id == "bob"
    assert eves.value != scope_of("t", "bob").value
    assert cube_scopes("t", "bob", ["bob", "bob"]) == (scope_of("t", "bob"),)


INVISIBLE = ["\u200b", "\u3164", "\u034f", "\ufe0f", "\U000e0100", "\u115f", "\uffa0", "\u2800", "\u17b5", "\u180e"]
INVISIBLE += [
    "\u00ad",
    "\u2060",
    "\u2065",
    "\ufff0",
    "\U000e0001",
    "\u00a0",
    "\u3000",
    "\u2003",
    "\u202e",
    "\x7f",
    "\t",
]


@pytest.mark.parametrize("character", INVISIBLE)
def test_what_is_shown_as_nothing_makes_no_other_user(character: str) -> None:
    for value in (f"ada{character}", f"{character}ada", f"a{character}da", f"用户{character}"):
        with pytest.raises(BadRequest, match=r"invisible|NFC"):
            checked_id(value, "user")


@pytest.mark.parametrize("value", ["", "x" * 257, "a\nb", "\ud800", "e\u0301", "\u200b"])
def test_bad_ids_are_refused(value: str) -> None:
    with pytest.raises(BadRequest):
        checked_id(value, "user")


@pytest.mark.parametrize(
    "value", ["a", "x" * 256, "用户", "a b@c.d", "é", "🙂", "Zoë Ünal", "सीता", "أحمد", "한글", "\ue000"]
)
def test_good_ids_stay_as_they_are(value: str) -> None:
    assert checked_id(value, "user") == value


def test_the_user_is_looked_for_in_order() -> None:
    pinned = Principal("t", frozenset(Right), "pin")
    hint = ParsedRequest(model="m", stream=False, user_hint="hint")
    users = [
        identify(pinned, {"x-memory-user": "head"}, hint, "default"),
        identify(EVERYTHING, {"x-memory-user": "head"}, hint, "default"),
        identify(EVERYTHING, {}, hint, "default"),
        identify(EVERYTHING, {}, ASK, "default"),
    ]
    assert [identity.user_id for identity in users if identity] == ["pin", "head", "hint", "default"]
    assert identify(EVERYTHING, {}, ASK, None) is None


def test_a_conversation_is_named_or_follows_from_its_opening() -> None:
    named = identify(EVERYTHING, {"x-memory-user": "u", "x-memory-session": "s1"}, ASK, None)
    first = identify(EVERYTHING, {"x-memory-user": "u"}, ASK, None)
    again = identify(EVERYTHING, {"x-memory-user": "u"}, ASK, None)
    assert named is not None
    assert named.session_id == "s1"
    assert first == again
    assert first is not None
    assert first.session_id.startswith("s-")


def test_keys_are_found_by_their_digest_only() -> None:
    ring = Keyring([KeyConfig(key=SecretStr("a-long-key-1"), tenant="t")])
    assert ring.principal({"authorization": "Bearer a-long-key-1"}).tenant == "t"
    assert ring.has("Bearer a-long-key-1")
    assert "a-long-key-1" not in repr(vars(ring))
    for value in ("a-long-key-2", "a-long-key-", "a-long-key-1x", ""):
        with pytest.raises(Unauthenticated) as caught:
            ring.principal({"authorization": f"Bearer {value}"})
        assert value == "" or value not in caught.value.message


def test_without_keys_everybody_here_is_let_in() -> None:
    assert Keyring([]).is_open
    assert Keyring([]).principal({}).rights == frozenset(Right)


@pytest.mark.parametrize("value", ["Bearer K", "bearer K", "Token K", "K", "  K "])
def test_a_key_comes_with_and_without_a_scheme(value: str) -> None:
    assert key_of({"authorization": value}) == "K"
