"""Allow-lists of the headers that are forwarded to upstreams (`up`) and to clients (`down`). Pure."""

from collections.abc import Collection, Mapping

from gateway import __version__

__all__ = ["down", "up"]

_UP = frozenset(
    (
        "content-type",
        "accept",
        "accept-language",
        "openai-organization",
        "openai-project",
        "openai-beta",
        "anthropic-version",
        "anthropic-beta",
        "x-client-request-id",
        "idempotency-key",
        "traceparent",
        "tracestate",
    )
)
_UP_PREFIX = "x-stainless-"
_DOWN = frozenset(
    (
        "content-type",
        "content-disposition",
        "content-language",
        "cache-control",
        "openai-model",
        "openai-processing-ms",
        "openai-version",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "x-request-id",
        "request-id",
    )
)
_DOWN_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
_AGENT = f"memory-gateway/{__version__}"


def up(headers: Mapping[str, str], more: Collection[str], added: Mapping[str, str]) -> dict[str, str]:
    """The request headers for an upstream: the allowed ones, `more` from the configuration, then `added`.

    Authorization is not in the allow-list; the caller passes it in `added`.
    """
    allowed = _UP.union(name.lower() for name in more) if more else _UP
    agent = ""
    forwarded: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower in allowed or lower.startswith(_UP_PREFIX):
            forwarded[lower] = value
        elif lower == "user-agent":
            agent = value + " "
    forwarded["user-agent"] = agent + _AGENT
    forwarded.update(added)
    return forwarded


def down(headers: Mapping[str, str]) -> dict[str, str]:
    """The answer headers for a client, in lower case, without values that have unprintable characters."""
    return {
        lower: value
        for name, value in headers.items()
        if ((lower := name.lower()) in _DOWN or lower.startswith(_DOWN_PREFIXES)) and value.isprintable()
    }
