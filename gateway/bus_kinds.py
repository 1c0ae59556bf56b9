"""The kinds of messages between the gateways of a cluster. Pure.

docs/develop/cluster.md has the rules. Gateways of two versions send them to each other while a cluster is upgraded: a
kind keeps its name and its value, and one that a gateway does not know is ignored.
"""

from typing import Final

# Each gateway to all others, without waiting

IDENTITY: Final = "identity"
"""The digest of an identity that came with a key."""
SCOPES_DROPPED: Final = "scopes-dropped"
"""Cached scopes of the registry are outdated."""
DEFAULTS: Final = "defaults"
"""A tenant whose defaults for MemOS requests were changed."""

REINDEX: Final = "reindex"
"""Rebuild your outdated buckets with the current embedder."""
REINDEXED: Final = "reindexed"
"""Scopes whose bucket was rebuilt with another embedder: load their working sets again."""

# Each gateway to all others, which must act on it before the sender goes on

FORGOTTEN: Final = "forgotten"
"""A tenant, a user and a session whose turns are dropped from RAM."""
USAGE_FLUSH: Final = "flush-usage"
"""Write your counts of usage: those of a user are to be anonymised."""
RESPONSE_OWNERS_DROP: Final = "drop-response-owners"
"""A tenant and a user: drop what you know of their stored responses."""

# Each gateway to the owner of some buckets, which must act on it

PURGE: Final = "purge"
"""Scopes whose buckets are to be rewritten without deleted rows."""
DISCARD: Final = "discard"
"""Numbers of entries of the log that need not be stored any more."""
