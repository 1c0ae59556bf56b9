"""`DEFAULT_CONFIG`: every default of a MemOS chat, in one place.

The order of precedence, lowest first: the defaults of MemOS' documentation, the environment under MemOS' names, the
changes of a tenant by `/product/configure` (stored in the registry), the fields of a request. None of them is secret.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import BadRequest, ConfigError, MemoryUnavailable
from gateway.storage.errors import StorageError
from gateway.storage.protocols import Registry
from gateway.storage.values import SETTINGS

__all__ = ["DEFAULT_CONFIG", "ENVIRONMENT", "ChatDefaults", "Defaults"]

_ID = "chat"


class ChatDefaults(BaseModel):
    """What a chat has where its request says nothing, within the limits that hold for requests too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field("default", min_length=1, max_length=256, description="Model of chats that name none.")
    temperature: float = Field(0.7, ge=0, le=2)
    top_p: float = Field(0.95, ge=0, le=1)
    max_tokens: int = Field(8192, ge=1, le=10_000_000)
    top_k: int | None = Field(None, ge=0, le=100, description="Memories; null: 6 on client routes, 10 on native ones.")
    pref_top_k: int = Field(6, ge=0, le=100, description="Preferences.")
    include_preference: bool = True
    relativity: float = Field(0.45, ge=0, le=1, description="Relevance floor.")
    threshold: float = Field(0.5, ge=0, le=1, description="Second floor; the best three pass it anyway.")
    add_message_on_answer: bool = Field(False, description="Remember the turn.")
    system_prompt: str | None = Field(None, max_length=65_536, description="null: the built-in one.")


DEFAULT_CONFIG: Final = ChatDefaults()

ENVIRONMENT: Final[Mapping[str, str]] = {
    "MOS_CHAT_MODEL": "model",
    "MOS_CHAT_TEMPERATURE": "temperature",
    "MOS_TOP_P": "top_p",
    "MOS_MAX_TOKENS": "max_tokens",
    "MOS_TOP_K": "top_k",
    "ENABLE_PREFERENCE_MEMORY": "include_preference",
}


class Defaults:
    """Chat defaults by tenant. `environment` is read once; ConfigError for an invalid value in it stops the start."""

    def __init__(self, registry: Registry, environment: Mapping[str, str] | None = None) -> None:
        self._registry = registry
        self._by_tenant: dict[str, ChatDefaults] = {}
        self._changes = 0  # that were noted so far: what was read before one may be outdated
        self.on_change: list[Callable[[str], None]] = []
        """Called with a tenant whose defaults were changed, which other processes may have cached."""
        variables = os.environ if environment is None else environment
        values = {field: variables[name] for name, field in ENVIRONMENT.items() if variables.get(name)}
        try:
            self._base = ChatDefaults.model_validate(values)
        except ValidationError as error:
            field = str(error.errors()[0]["loc"][0])
            name = next(name for name, mapped_field in ENVIRONMENT.items() if mapped_field == field)
            raise ConfigError(f"the environment variable {name} cannot be used: {error.errors()[0]['msg']}") from error

    async def of(self, tenant: str) -> ChatDefaults:
        """The defaults of a tenant, without its changes if the registry cannot be read."""
        defaults = self._by_tenant.get(tenant)
        if defaults is None:
            changes = self._changes
            try:
                item = await self._registry.item(tenant, SETTINGS, _ID)
                defaults = (
                    self._base if item is None else self._base.model_validate({**self._base.model_dump(), **item.value})
                )
            except (StorageError, ValidationError):
                return self._base
            if changes == self._changes:
                self._by_tenant[tenant] = defaults
        return defaults

    def forget_cached(self, tenant: str | None) -> None:
        """Read the defaults of a tenant (None: of all) again, since another process has changed them."""
        self._changes += 1
        if tenant is None:
            self._by_tenant.clear()
        else:
            self._by_tenant.pop(tenant, None)

    async def change(self, tenant: str, changes: Any) -> ChatDefaults:
        """Set some of a tenant's defaults; null resets one. Raises BadRequest or MemoryUnavailable."""
        if not isinstance(changes, dict) or not changes:
            raise BadRequest(f"the body must be an object of: {', '.join(ChatDefaults.model_fields)}")
        unknown = [str(name) for name in changes if name not in ChatDefaults.model_fields]
        if unknown:
            raise BadRequest(
                f"{unknown[0]}: cannot be configured; can be: {', '.join(ChatDefaults.model_fields)}", param=unknown[0]
            )
        try:
            async with self._registry.changing:
                item = await self._registry.item(tenant, SETTINGS, _ID)
                settings = {**(item.value if item else {}), **changes}
                settings = {name: value for name, value in settings.items() if value is not None}
                defaults = ChatDefaults.model_validate({**self._base.model_dump(), **settings})
                await self._registry.put_item(tenant, SETTINGS, _ID, settings)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            path = ".".join(str(part) for part in problem["loc"])
            raise BadRequest(f"{path}: {problem['msg']}", code="invalid_parameter", param=path) from error
        except StorageError as error:
            raise MemoryUnavailable("the change could not be written; nothing was changed") from error
        self.forget_cached(tenant)  # another process may have changed them after this one
        for listener in self.on_change:
            listener(tenant)
        return defaults
