"""Whose key goes to an upstream, and how it is dressed. Pure.

An upstream with a key gets that one and never the client's; one without gets the client's own, unless that is a key of
the gateway. A client's key goes up in the header that the upstream knows: an OpenAI SDK sends `Authorization`, an
Anthropic SDK `x-api-key`, and either may talk to either.
"""

from collections.abc import Callable, Mapping, Sequence

from gateway.config import UpstreamConfig

__all__ = ["credentials", "secrets_of"]

_BEARER = "authorization"
_KEY_HEADERS = (_BEARER, "x-api-key", "api-key")
_SIGNED_IN = "sk-ant-oat"  # tokens of signed-in users of Anthropic's: always `Authorization`
_SHORTEST_SECRET = 8  # a header's value that is shorter is a setting


def credentials(
    config: UpstreamConfig, client_headers: Mapping[str, str], is_own_key: Callable[[str], bool]
) -> dict[str, str]:
    """The headers that carry a key."""
    wanted = config.key_header or ("x-api-key" if config.kind == "anthropic" else _BEARER)
    if config.api_key is not None:
        return _dressed(wanted, config.api_key.get_secret_value())
    passed = {
        name: client_headers[name]
        for name in _KEY_HEADERS
        if name in client_headers and not is_own_key(client_headers[name])
    }
    if wanted in passed or not passed:
        return {name: value for name, value in passed.items() if name in (wanted, _BEARER)}
    key = next(iter(passed.values()))
    scheme, _, token = key.partition(" ")
    if token and scheme.lower() != "bearer":
        return passed  # a scheme of its own stays as it is
    bare = token.strip() or key
    return passed if bare.startswith(_SIGNED_IN) else _dressed(wanted, bare)


def secrets_of(config: UpstreamConfig) -> Sequence[bytes]:
    """What an upstream gets from the configuration and must never come back from it."""
    values = (config.api_key, *config.headers.values(), *config.query.values())
    found = [value.get_secret_value().encode("utf-8", "surrogateescape") for value in values if value is not None]
    return tuple(value for value in found if len(value) >= _SHORTEST_SECRET)


def _dressed(header: str, key: str) -> dict[str, str]:
    return {header: f"Bearer {key}" if header == _BEARER else key}
