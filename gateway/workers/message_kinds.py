"""The kinds of messages between processes: from worker to worker, and between a worker and its supervisor. Pure.

The owner is worker 0, which owns the store; the followers are the other workers. docs/develop/workers.md has the rules.
"""

from typing import Final

# The connection between two workers

HELLO: Final = "hello"
"""Follower to owner, once: its number."""
PUBLISHED: Final = "published"
"""Follower to owner: a kind and a value for all workers."""

# Working sets and the journal

JOIN: Final = "join"
"""Follower to owner: its number; it asks for a snapshot."""
SNAPSHOT: Final = "snapshot"
"""Owner to a follower: the rows and deletions that the store does not have yet."""
ROWS: Final = "rows"
"""Owner to followers: rows of new journal entries."""
STORED_ROWS: Final = "stored-rows"
"""Owner to followers: rows that the store has, which followers may not know."""
STORED: Final = "stored"
"""Owner to followers: journal numbers of rows that the store has now."""
RETRACTED: Final = "retracted"
"""Owner to followers: journal numbers and scopes of rows that the store rejected, or has newer versions of."""
DELETED: Final = "deleted"
"""Owner to followers, which must reply: memories that no chat may recall from now on."""
UNDELETED: Final = "undeleted"
"""Owner to followers: memories whose deletion could not be recorded."""
DROPPED: Final = "dropped"
"""Owner to followers: scopes whose working sets are to be loaded again."""
APPENDED: Final = "appended"
"""Follower to owner: the journal has entries up to this number."""
SEARCHABLE: Final = "searchable"
"""A question of a follower to the owner: a time-out and a journal number to wait for."""
BACKLOG: Final = "backlog"
"""A question of a follower to the owner: entries and bytes of the journal that are not stored."""

# What depends on memories and users

CHANGED: Final = "changed"
"""Owner to followers, which must reply: scopes whose memories were changed."""
SCOPES_DROPPED: Final = "scopes-dropped"
"""Owner to followers: cached scopes of the registry are outdated."""
FORGOTTEN: Final = "forgotten"
"""Owner to followers, which must reply: a tenant, a user and a session whose turns are dropped from RAM."""
BLOCK: Final = "block"
"""Any worker to all others: a block of memories that was put into the prompt of a conversation."""
SESSION: Final = "session"
"""Any worker to all others: the session that a conversation got."""
IDENTITY: Final = "identity"
"""Any worker to all others: the digest of an identity that came with a key."""
IDENTITIES: Final = "identities"
"""Both ways at connecting: all digests that the sender knows, by key."""

# What the owner answers for all

TURN: Final = "turn"
"""Follower to owner: the entry of a turn for the list of turns."""
EXPLANATION: Final = "explanation"
"""A question of the owner to followers: what they have for the id of a turn."""
USAGE_FLUSH: Final = "usage-flush"
"""A question of the owner to followers, before usage is read: write your counts."""
METRICS: Final = "metrics"
"""A question of the owner to followers: their metrics."""
STATE: Final = "state"
"""A question of the owner to followers: their part of `/ready`."""
RESPONSE_OWNER: Final = "response-owner"
"""A question of a follower to the owner: whom a stored response belongs to."""
RECENT_RESPONSE_OWNER: Final = "recent-response-owner"
"""A question of the owner to followers: the same, from their RAM only."""
RESPONSE_OWNERS_DROP: Final = "response-owners-drop"
"""Owner to followers, which must reply: drop what you know of a user's stored responses."""

# A worker and its supervisor

ASSIGNMENT: Final = "assignment"
"""Supervisor to worker, first: what it is to be."""
STOP: Final = "stop"
"""Supervisor to worker: end your responses and stop."""
SERVING: Final = "serving"
"""Supervisor to owner: the numbers of the other workers that serve now."""
OPEN: Final = "open"
"""Owner to supervisor: the others can connect."""
READY: Final = "ready"
"""Worker to supervisor: it answers requests; the owner adds the text for the operator."""
REFUSED: Final = "refused"
"""Worker to supervisor: it cannot start, and has written why; the exit status."""
END: Final = "end"
"""Owner to supervisor: kill the worker of this number, which does not reply."""
PING: Final = "ping"
"""Supervisor to worker, every few seconds: reply, or count as hanging."""
PONG: Final = "pong"
"""Worker to supervisor: the reply."""
