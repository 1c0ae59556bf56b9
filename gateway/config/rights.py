"""The permissions of keys."""

from enum import StrEnum

__all__ = ["Right"]


class Right(StrEnum):
    """A permission of a key: chat with models, use memory, change defaults at run time, access resources that upstreams
    keep for the whole account (files, batches, fine-tuning), and write memories that all users of the tenant can
    read."""

    CHAT = "chat"
    MEMORY = "memory"
    ADMIN = "admin"
    UPSTREAM_STATE = "upstream_state"
    PUBLIC = "public"
