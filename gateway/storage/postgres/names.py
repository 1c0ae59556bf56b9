"""Names that the schema and its users share."""

from typing import Final

__all__ = ["APPEND_LOCK", "CHANNEL", "FUNCTION_NAMES", "LEASE_LOST", "MAIL_CHANNEL", "SCHEMA", "TABLES"]

SCHEMA: Final = "memory_gateway"
"""The schema of all tables, so that they can be in a database beside those of other programs."""
CHANNEL: Final = "memory_gateway_entries"
"""The channel that new entries are announced on."""
MAIL_CHANNEL: Final = "memory_gateway_mail"
"""The channel that messages between gateways are announced on."""
APPEND_LOCK: Final = 7_460_231_002
"""The advisory lock that gives entries their numbers in the order of their commits."""
LEASE_LOST: Final = "MG001"
"""The SQLSTATE that functions of the schema raise when an epoch is not current."""
TABLES: Final = (
    "scopes items files tasks blocks used owners messages conversations spent places "
    "entries claims leases counters documents mail openings replays running_chats catalog meta"
).split()
FUNCTION_NAMES: Final = "now_seconds append_entries check_leases check_entries mark_stored mark_failed".split()
