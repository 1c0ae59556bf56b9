"""Every error that a client can get, with its HTTP status, OpenAI `type` and `code`.

    GatewayError
    ├── BadRequest            400  invalid_request_error
    ├── Unauthenticated       401  authentication_error
    ├── Forbidden             403  permission_error
    ├── NotFound              404  invalid_request_error
    ├── Conflict              409  invalid_request_error
    ├── TooLarge              413  invalid_request_error
    ├── UnsupportedEncoding   415  invalid_request_error
    ├── TooManyRequests       429  rate_limit_error
    ├── Overloaded            503  overloaded_error
    │   └── PluginUnavailable 503  plugin_unavailable
    ├── MemoryUnavailable     503  memory_unavailable
    ├── UpstreamFailed        502  upstream_error
    │   ├── UpstreamUnreachable 502 upstream_error (it did not begin to answer: another may)
    │   └── StreamCut         502  upstream_error (after the status line: sent as an event)
    └── UpstreamTimedOut      504  timeout
        └── ConnectTimedOut   504  timeout (likewise)
    ConfigError               (not for clients: stops the start)

A message names the problem, its place, and a valid alternative. It never contains a key, a prompt, a path on
this machine or a traceback. Each face writes these errors in its own format; this module knows no format.
"""


class GatewayError(Exception):
    """An error that has an HTTP answer. `param` is the JSON path or header that was wrong."""

    status = 500
    type = "internal_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.headers = headers or {}


class BadRequest(GatewayError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class Unauthenticated(GatewayError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(GatewayError):
    status = 403
    type = "permission_error"
    code = "forbidden"


class NotFound(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class Conflict(GatewayError):
    status = 409
    type = "invalid_request_error"
    code = "version_conflict"


class TooLarge(GatewayError):
    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class UnsupportedEncoding(GatewayError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_content_encoding"


class TooManyRequests(GatewayError):
    status = 429
    type = "rate_limit_error"
    code = "too_many_requests"


class Overloaded(GatewayError):
    status = 503
    type = "overloaded_error"
    code = "overloaded"


class PluginUnavailable(Overloaded):
    type = "plugin_unavailable"
    code = "plugin_unavailable"


class MemoryUnavailable(GatewayError):
    """Memory cannot serve a request that needs it (search, add). Never raised for a chat."""

    status = 503
    type = "memory_unavailable"
    code = "memory_unavailable"


class UpstreamFailed(GatewayError):
    status = 502
    type = "upstream_error"
    code = "upstream_error"


class UpstreamUnreachable(UpstreamFailed):
    """The upstream cannot be reached, or closed the connection before it answered."""


class StreamCut(UpstreamFailed):
    code = "stream_interrupted"


class UpstreamTimedOut(GatewayError):
    status = 504
    type = "timeout"
    code = "upstream_timeout"


class ConnectTimedOut(UpstreamTimedOut):
    """The connection to the upstream was not established in time."""


class ConfigError(Exception):
    """The configuration cannot be used. The message names the YAML path; the start stops with it."""
