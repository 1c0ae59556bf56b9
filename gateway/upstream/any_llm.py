"""Adapter for providers without an OpenAI-compatible endpoint, through the SDKs behind `any-llm` (an optional extra).

Supports chat completions, embeddings and the list of models. SDK results are serialised in OpenAI's format; parameters
that `any-llm` does not know are dropped.
"""

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Final

import orjson

from gateway.config import UpstreamConfig
from gateway.errors import ConfigError, StreamCut, UpstreamTimedOut, UpstreamUnreachable
from gateway.formats.errors import openai_error
from gateway.upstream.client import Answered, Incoming, Outgoing

__all__ = ["AnyLlmUpstream"]

_PARAMETERS: Final = frozenset(
    """model messages tools tool_choice temperature top_p max_tokens response_format stream n stop presence_penalty
    frequency_penalty seed user parallel_tool_calls logprobs top_logprobs logit_bias stream_options
    max_completion_tokens reasoning_effort service_tier prompt_cache_key""".split()
)
_MAX_ERROR = 200  # characters of a provider's error message that are quoted
_MISTAKES: Final = (TypeError, ValueError, LookupError, AttributeError)  # raised by SDKs for unusable parameters


class AnyLlmUpstream:
    """Upstream that calls a provider through its SDK.

    The constructor imports the SDK, so run it in a thread. Raises ConfigError.
    """

    def __init__(self, config: UpstreamConfig) -> None:
        self.name = config.name
        self.config = config
        where = f"upstreams: {config.name}"
        try:
            import any_llm  # noqa: PLC0415 — an extra
        except ImportError as error:
            raise ConfigError(f"{where}: kind any-llm needs `pip install 'any-llm-sdk[{config.provider}]'`") from error
        self._failures, self._unsupported = any_llm.AnyLLMError, any_llm.UnsupportedParameterError
        options: dict[str, Any] = {
            "provider": config.provider,
            "api_key": config.api_key.get_secret_value() if config.api_key else None,
            "api_base": config.base_url or None,
            "unified_exceptions": True,
        }
        try:
            try:
                self._llm = any_llm.AnyLLM.create(**options, max_retries=0)  # the gateway retries, within a budget
            except any_llm.UnsupportedParameterError:
                self._llm = any_llm.AnyLLM.create(**options)
        except (ImportError, ValueError, self._failures) as error:
            raise ConfigError(f"{where}: {error}") from error

    async def close(self) -> None:
        """Close the SDK's connections."""
        client = getattr(self._llm, "client", None)
        close = getattr(client, "aclose", None) or getattr(client, "close", None)
        result = close() if close is not None else None
        if inspect.isawaitable(result):
            await result

    async def send(self, request: Outgoing) -> Incoming:
        body = orjson.loads(request.body) if isinstance(request.body, bytes) and request.body else {}
        match request.method, request.path:
            case "POST", "/chat/completions":
                return await self._run(self._chat(body))
            case "POST", "/embeddings":
                return await self._run(self._embeddings(body))
            case "GET", "/models":
                return await self._run(self._models())
        message = f"the upstream {self.name} is asked through any-llm, which has no {request.path[:100]}"
        return Answered(404, openai_error(message, "invalid_request_error", code="not_found"))

    async def _chat(self, body: Mapping[str, Any]) -> Incoming:
        parameters = {name: value for name, value in body.items() if name in _PARAMETERS and value is not None}
        completion = await self._llm.acompletion(**parameters)
        if not parameters.get("stream"):
            return Answered(200, _serialize(completion))
        events = aiter(completion)
        return _EventStream(await anext(events, None), events, self)

    async def _embeddings(self, body: Mapping[str, Any]) -> Incoming:
        options = {name: body[name] for name in ("dimensions", "encoding_format") if body.get(name) is not None}
        embeddings = await self._llm.aembedding(model=str(body.get("model")), inputs=body.get("input") or "", **options)
        return Answered(200, embeddings.model_dump(mode="json"))

    async def _models(self) -> Incoming:
        models = await self._llm.alist_models()
        return Answered(200, {"object": "list", "data": [model.model_dump(mode="json") for model in models]})

    async def _run(self, work: Coroutine[Any, Any, Incoming]) -> Incoming:
        """Run an SDK call and turn a provider's refusal into an HTTP error answer.

        Raises UpstreamUnreachable or UpstreamTimedOut.
        """
        try:
            async with asyncio.timeout(self.config.timeouts.first_byte):
                return await work
        except TimeoutError as error:
            raise UpstreamTimedOut(f"the upstream {self.name} did not answer in time") from error
        except NotImplementedError:
            message = f"the upstream {self.name} ({self.config.provider}) cannot do that"
            return Answered(404, openai_error(message, "invalid_request_error", code="not_found"))
        except self._failures as error:
            return self._refusal(error)
        except _MISTAKES as error:  # raised before anything was sent
            message = f"any-llm cannot ask this of {self.config.provider}: {str(error)[:_MAX_ERROR]}"
            return Answered(400, openai_error(message, "invalid_request_error", code="invalid_request"))
        except Exception as error:  # each SDK has its own exception types
            raise UpstreamUnreachable(f"the upstream {self.name} failed: {type(error).__name__}") from error

    def _refusal(self, error: Any) -> Incoming:
        """The HTTP error answer for an SDK exception. Raises UpstreamUnreachable if the provider gave no answer."""
        cause = error.original_exception
        is_mistake = isinstance(cause, _MISTAKES) and not isinstance(cause, json.JSONDecodeError)
        if isinstance(error, self._unsupported) or (error.status_code is None and is_mistake):
            return Answered(
                400, openai_error(error.message[:_MAX_ERROR], "invalid_request_error", code="invalid_request")
            )
        if not isinstance(error.status_code, int) or error.status_code < 400:
            raise UpstreamUnreachable(f"the upstream {self.name} failed: {error.message[:_MAX_ERROR]}") from error
        after = getattr(error, "retry_after", None)
        headers = {"retry-after": str(after)} if after else {}
        body = openai_error(error.message, error.error_type or "upstream_error", code=error.code, param=error.param)
        return Answered(error.status_code, body, headers)


class _EventStream:
    """A provider's stream as server-sent events.

    `[DONE]` is sent only after a finish reason, so that a client notices a truncated stream.
    """

    def __init__(self, first: Any, rest: AsyncIterator[Any], upstream: AnyLlmUpstream) -> None:
        self.status = 200
        self.headers: Mapping[str, str] = {"content-type": "text/event-stream; charset=utf-8"}
        self._next = first
        self._rest = rest
        self._name = upstream.name
        timeouts = upstream.config.timeouts
        self._idle = timeouts.idle
        self._until = None if timeouts.total is None else asyncio.get_running_loop().time() + timeouts.total
        self._closing: asyncio.Task[None] | None = None

    async def chunks(self) -> AsyncGenerator[bytes]:
        has_ended = False
        while self._next is not None:
            event = _serialize(self._next)
            has_ended = has_ended or any(choice.get("finish_reason") for choice in event.get("choices", ()))
            yield b"data: " + orjson.dumps(event) + b"\n\n"
            try:
                async with asyncio.timeout_at(self._until), asyncio.timeout(self._idle):
                    self._next = await anext(self._rest, None)
            except TimeoutError as error:
                raise UpstreamTimedOut(f"the upstream {self._name} fell silent in its answer") from error
            except Exception as error:
                raise StreamCut(f"the upstream {self._name} broke off: {type(error).__name__}") from error
        if has_ended:
            yield b"data: [DONE]\n\n"

    def close(self) -> None:
        close_stream: Callable[[], Coroutine[Any, Any, None]] | None = getattr(self._rest, "aclose", None)
        if close_stream is not None and self._closing is None:
            self._closing = asyncio.create_task(_close_quietly(close_stream))


async def _close_quietly(close_stream: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Close a stream and ignore the errors that its SDK raises."""
    await asyncio.gather(close_stream(), return_exceptions=True)


def _serialize(completion: Any) -> dict[str, Any]:
    """A completion or chunk as JSON, with the reasoning in `reasoning_content`, where other servers put it."""
    body: dict[str, Any] = completion.model_dump(mode="json")
    for choice in body.get("choices", ()):
        for message in (choice.get("message"), choice.get("delta")):
            if isinstance(message, dict) and isinstance(message.get("reasoning"), dict):
                message["reasoning_content"] = message.pop("reasoning").get("content")
    return body
