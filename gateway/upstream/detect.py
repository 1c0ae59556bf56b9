"""Detects the upstreams for `upstreams: auto`: the list of models in MemOS' environment variable, OpenAI if its key is
set, else a model server on its usual local port, else the offline upstream.

Only 127.0.0.1 is probed, for its list of models, once at start-up.
"""

import asyncio
import os
from dataclasses import dataclass

import aiohttp
import orjson
from pydantic import SecretStr, ValidationError

from gateway.config import UpstreamConfig
from gateway.errors import ConfigError

__all__ = ["Detected", "detect"]

_OPENAI = "https://api.openai.com/v1"
_LOCAL = {"ollama": 11434, "lmstudio": 1234, "vllm": 8000, "llamacpp": 8080}
_TIMEOUT = aiohttp.ClientTimeout(total=0.4)
_MAX_ANSWER = 1 << 20


@dataclass(frozen=True, slots=True)
class Detected:
    """The detected upstreams, the reason for the choice, and the model behind `default` (None: as configured)."""

    upstreams: tuple[UpstreamConfig, ...]
    reason: str
    default_model: str | None = None


async def detect(session: aiohttp.ClientSession, own_port: int) -> Detected:
    """Detect the upstreams. `own_port`, where this gateway listens, is not probed. Raises ConfigError if an environment
    variable is invalid."""
    listed = _listed_models(os.environ.get("CHAT_MODEL_LIST") or "[]")
    if listed:
        first = listed[0].models[0]
        return Detected(listed, "CHAT_MODEL_LIST is set", None if "*" in first else first)
    key = (os.environ.get("OPENAI_API_KEY") or "").strip()
    if key:
        base_url = os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_BASE") or _OPENAI
        try:
            upstream = UpstreamConfig(name="openai", base_url=base_url, api_key=SecretStr(key))
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
            raise ConfigError(f"the environment variables OPENAI_API_KEY and OPENAI_BASE_URL: {problem}") from error
        return Detected((upstream,), "OPENAI_API_KEY is set")
    ports = {name: port for name, port in _LOCAL.items() if port != own_port}
    answers = await asyncio.gather(*(_models(session, port) for port in ports.values()))
    for (name, port), models in zip(ports.items(), answers, strict=True):
        if models:
            upstream = UpstreamConfig(name=name, base_url=f"http://127.0.0.1:{port}/v1")
            return Detected((upstream,), f"a model server answers on port {port}", _chat_model(models))
    return Detected(
        (UpstreamConfig(name="offline", kind="offline"),),
        "no OPENAI_API_KEY, and no model server on a usual local port",
        "offline",
    )


def _listed_models(text: str) -> tuple[UpstreamConfig, ...]:
    """Parse MemOS' list of chat models, whose entries have `api_base`, `api_key` and `support_models` or
    `model_name_or_path`. Raises ConfigError."""
    try:
        return tuple(
            UpstreamConfig(
                name=f"chat-model-{number}",
                base_url=entry.get("api_base") or entry.get("base_url") or _OPENAI,
                api_key=SecretStr(entry["api_key"]) if entry.get("api_key") else None,
                models=tuple(entry.get("support_models") or [entry.get("model_name_or_path") or "*"]),
            )
            for number, entry in enumerate(orjson.loads(text), start=1)
        )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ConfigError(
            "the environment variable CHAT_MODEL_LIST must be a JSON list of objects with api_base, api_key and "
            "support_models"
        ) from error


async def _models(session: aiohttp.ClientSession, port: int) -> list[str]:
    """The model ids that a local server lists; empty if there is no server, no model server, or another gateway."""
    url = f"http://127.0.0.1:{port}/v1/models"
    try:
        async with session.get(url, timeout=_TIMEOUT, allow_redirects=False) as response:
            if response.status != 200 or "x-gateway-request-id" in response.headers:
                return []
            listed = orjson.loads(await response.content.read(_MAX_ANSWER))
        return [model["id"] for model in listed["data"] if isinstance(model["id"], str)]
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError):
        return []


def _chat_model(models: list[str]) -> str:
    return next((model for model in models if "embed" not in model.lower()), models[0])
