"""Selects the API key for an upstream and the header that carries it. Pure.

An upstream with a configured key gets that key and never the client's. One without gets the client's key, unless that
is a key of the gateway. The client's key is moved to the header that the upstream expects, because an OpenAI SDK sends
`Authorization`, an Anthropic SDK `x-api-key`, and either may be used with either kind of upstream.
"""

from collections.abc import Callable, Mapping, Sequence

from gateway.config import UpstreamConfig

__all__ = ["credentials", "secrets_of"]

_BEARER = "authorization"
_KEY_HEADERS = (_BEARER, "x-api-key", "api-key")
_SIGNED_IN = "sk-ant-oat"  # OAuth tokens of Anthropic users: always sent in `Authorization`
_SHORTEST_SECRET = 8  # shorter header values are settings, not secrets


def credentials(
    config: UpstreamConfig, client_headers: Mapping[str, str], is_own_key: Callable[[str], bool]
) -> dict[str, str]:
    """The authentication headers for an upstream."""
    key_header = config.key_header or config.rules.key_header
    if config.api_key is not None:
        return _key_header(key_header, config.api_key.get_secret_value())
    client_keys = {
        name: client_headers[name]
        for name in _KEY_HEADERS
        if name in client_headers and not is_own_key(client_headers[name])
    }
    if key_header in client_keys or not client_keys:
        return {name: value for name, value in client_keys.items() if name in (key_header, _BEARER)}
    key = next(iter(client_keys.values()))
    scheme, _, token = key.partition(" ")
    if token and scheme.lower() != "bearer":
        return client_keys  # another authentication scheme is forwarded unchanged
    bare = token.strip() or key
    return client_keys if bare.startswith(_SIGNED_IN) else _key_header(key_header, bare)


def secrets_of(config: UpstreamConfig) -> Sequence[bytes]:
    """The configured secrets that are sent to an upstream and must never appear in its answers."""
    values = (config.api_key, *config.headers.values(), *config.query.values())
    encoded = [value.get_secret_value().encode("utf-8", "surrogateescape") for value in values if value is not None]
    return tuple(value for value in encoded if len(value) >= _SHORTEST_SECRET)


def _key_header(header: str, key: str) -> dict[str, str]:
    """The header with the key, as a bearer token in `Authorization`."""
    return {header: f"Bearer {key}" if header == _BEARER else key}
