import re

import pytest

import plugins.redact
from gateway.testing import started, turn
from plugins.redact import Redact
from tests.fakes.made import record

# what must be hidden is in brackets, or else the whole
SECRETS = {
    "api_keys": [
        "sk-proj-AbCdEfGhIjKlMnOpQrStUvWx1234567890",
        "sk-ant-api03-AbCdEfGhIjKlMnOpQrStUvWx",
        "AKIAIOSFODNN7EXAMPLE",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "xoxb-123456789012-abcdefghij",
        "sk_live_abcdefghijklmnopqrstuvwx",
        "password: ⟦hunter2!x⟧",
        "密码是⟦abc123456⟧",
        "password = '⟦p(a)ss4word⟧'",
        "api_key: ⟦correct-horse-battery-staple⟧",
        "client_secret=⟦$3cretValue⟧",
        "my AWS secret for item X: ⟦wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY⟧",
        "The password of the router in the hall is ⟦Sunny2020!x⟧",
        "Secret for the staging box = ⟦Tr0ub4dor&3x⟧",
        "服务器的密码，记一下：⟦Abc12345x⟧",
        "wifi密码是⟦hunter22pass⟧",
        "AWS secret for http://x: ⟦wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY⟧",
        "The password is `⟦Sunny2020!x⟧`",
        "**Password:** ⟦Sunny2020!x⟧",
        "| password | ⟦Sunny2020!x⟧ |",
        "password -> ⟦Sunny2020!x⟧",
        "password ⟦Sunny2020!x⟧",
        "PGPASSWORD=⟦mysecret1⟧",
        "My password's ⟦hunter2xyz9!A⟧",
        "GOCSPX-abcdefghijklmnop12345678",
        "The API key for the weather service: ⟦0123456789abcdef0123456789abcdef⟧",
        "Server=db;User=sa;Pwd=⟦Sunny2020!x⟧;",
        "AccountKey=⟦Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA==⟧",
        "password = '⟦correct horse battery 9⟧'",
        "The secret of the bot is ⟦MTIzNDU2Nzg5MDEyMzQ1Njc4⟧",
    ],
    "tokens": [
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcDEF123_-x",
        "Bearer ⟦abcdef1234567890abcdef1234567890⟧",
        "redis://⟦:secret99⟧@redis:6379",
        "postgres://⟦admin:s3cr3t-pass⟧@db.example/x",
        "Authorization: Basic ⟦dXNlcjpwYXNzd29yZA==⟧",
    ],
    "cards": [
        "卡号⟦4111111111111111⟧，谢谢",
        "4111 1111 1111 1111",
        "5500-0000-0000-0004",
        "378282246310005",
        "visa⟦4111111111111111⟧",
        "⟦4111111111111111⟧-12/26",
        "card_⟦4111111111111111⟧",
    ],
    "private_keys": [
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIEow",
    ],
}
HARMLESS = [
    "Basic authorization: basic understanding of OAuth",
    "The password manager I use is 1Password.",
    "My secretary is Anna-Maria.Schmidt2.",
    "密码学课程是：CS255-Stanford",
    "密码是6位数字组成的，找回密码：点击这里",
    "secret: SecretStr2 = Field(None)",
    'const word = getPassphrase2("A")',
    "The password is case-sensitive, and the token was renewed in 2024.",
    "I wrote my password for the shop down: anna2@example.com knows it.",
    "Removed the secret in commit 3f4a0c0d3f4a0c0d3f4a0c0d3f4a0c0d3f4a0c0d.",
    "password = process.env.DB_PASSWORD2",
    "The key class: src/components/KeyManager2/index.tsx",
    "My passwordless login is at https://example.com/Login2",
    "The commit is DUR4111111111111111a50, and the other 3f4111111111111111.",
    "id_4111111111111111_x and 4111111111111111Z",
    "The secret ingredient of my grandmother is: cinnamon and 2 cloves.",
    "The secret of the game is patience; version 2.10.1-beta is out.",
    "My password manager is Bitwarden 2024.",
    "My phone number is 0151 23456789 and my order 1234 5678 9012 3456.",
    "The password field is empty. I forgot my password again.",
    "The token of my appreciation; bearer of good news",
    "Version 3.11.7 of sk-learn, task-oriented, 2026-05-08T13:56:00",
    "UUID 6f0c0a0e-0000-4000-8000-000000000001",
    "https://example.org/path?x=1",
    "我的密码忘记了",
    "password = db.Column(db.String(120), nullable=False)",
    "user.password = argon2.hash_password(password)",
    "const apiKey = process.env.OPENWEATHER_API_KEY",
    "apiKey = 'YOUR_API_KEY_HERE'",
    "password: {new_user.password_hash1}",
    "api_key=<key-1>",
    "token: xoxb-your-slack-token",
]


@pytest.mark.parametrize(
    ("kind", "secret"), [(kind, secret) for kind, secrets in SECRETS.items() for secret in secrets]
)
async def test_a_secret_is_replaced_and_counted(kind: str, secret: str) -> None:
    text = re.sub("[⟦⟧]", "", secret)
    async with started(Redact) as redact:
        (kept,) = await redact.call("on_store", turn(), [record(f"Please note: {text} thanks")]) or []
    hidden = re.search("⟦(.*)⟧", secret)
    assert (hidden[1] if hidden else secret) not in kept.text
    assert "[redacted]" in kept.text
    assert kept.text.startswith("Please note: ")
    assert redact.counts == {kind: 1}


@pytest.mark.parametrize("text", HARMLESS)
async def test_ordinary_text_stays(text: str) -> None:
    async with started(Redact) as redact:
        assert await redact.call("on_store", turn(), [record(text)]) is None


async def test_kinds_can_be_chosen() -> None:
    text = "4111111111111111 and sk-proj-AbCdEfGhIjKlMnOpQrStUv"
    async with started(Redact, kinds=["cards"], replace_with="***") as redact:
        (kept,) = await redact.call("on_store", turn(), [record(text)]) or []
    assert kept.text == "*** and sk-proj-AbCdEfGhIjKlMnOpQrStUv"


async def test_no_pattern_is_left_out_that_would_match(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [re.sub("[⟦⟧]", "", text) for texts in SECRETS.values() for text in texts] + HARMLESS
    texts += [variant for text in texts for variant in (text.upper(), text.lower(), text.replace("s", "ſ"))]
    texts = [f"Please note: {text} thanks" for text in texts]

    async def clean() -> list[str]:
        async with started(Redact) as redact:
            records = [record(text) for text in texts]
            return [kept.text for kept in await redact.call("on_store", turn(), records) or []]

    expected = await clean()
    everything = {kind: tuple((("",), one) for _, one in rules) for kind, rules in plugins.redact._PATTERNS.items()}
    monkeypatch.setattr(plugins.redact, "_PATTERNS", everything)
    assert await clean() == expected
    assert sum("[redacted]" in text for text in expected) > len(SECRETS["api_keys"])
