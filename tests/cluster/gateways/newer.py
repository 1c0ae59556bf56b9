"""Gateways of a later version of the schema: what their processes do before they start."""

from gateway.storage.postgres import schema

__all__ = ["add_column", "add_column_for_newer_gateways"]

_ADD_COLUMN = """
ALTER TABLE {s}.entries ADD COLUMN note TEXT NOT NULL DEFAULT 'as before';
CREATE INDEX entries_by_note ON {s}.entries (note) WHERE note<>'as before';
"""


def add_column() -> None:
    """Add a migration that gateways without it can start on."""
    _add(oldest=len(schema.MIGRATIONS))


def add_column_for_newer_gateways() -> None:
    """Add a migration that gateways without it cannot start on."""
    _add(oldest=len(schema.MIGRATIONS) + 1)


def _add(oldest: int) -> None:
    schema.MIGRATIONS = (*schema.MIGRATIONS, schema.SchemaMigration(script=_ADD_COLUMN, oldest=oldest))
