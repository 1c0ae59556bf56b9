"""The configuration: one YAML file, validated as a whole before the start.

Every key has a working default. Unknown keys, wrong types and unset environment variables stop the
start with the path of the key. `${NAME}` and `${NAME:-default}` are replaced in string values only, after parsing,
so that a value from the environment can never change the shape of the file. Relative paths are relative to the file.
"""

from gateway.config.location import DATA_VARIABLE, default_folder, find_stranded, move_stranded
from gateway.config.memory import (
    EmbedderConfig,
    ExtractionConfig,
    MemoryConfig,
    RecallConfig,
    RememberConfig,
    RetentionConfig,
)
from gateway.config.sections import (
    KeyConfig,
    LimitsConfig,
    LogConfig,
    OtelConfig,
    PluginConfig,
    PriceConfig,
    ServerConfig,
)
from gateway.config.upstreams import ModelsConfig, TimeoutsConfig, TlsConfig, UpstreamConfig
from gateway.config.whole import Config, is_loopback, load

__all__ = [
    "DATA_VARIABLE",
    "Config",
    "EmbedderConfig",
    "ExtractionConfig",
    "KeyConfig",
    "LimitsConfig",
    "LogConfig",
    "MemoryConfig",
    "ModelsConfig",
    "OtelConfig",
    "PluginConfig",
    "PriceConfig",
    "RecallConfig",
    "RememberConfig",
    "RetentionConfig",
    "ServerConfig",
    "TimeoutsConfig",
    "TlsConfig",
    "UpstreamConfig",
    "default_folder",
    "find_stranded",
    "is_loopback",
    "load",
    "move_stranded",
]
