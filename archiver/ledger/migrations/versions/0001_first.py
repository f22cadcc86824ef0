"""The first schema.

A released revision is never edited: a change of `schema.py` after the first release is a revision of its own.
Until then this one creates what `schema.py` says.
"""

from alembic import op

from archiver.ledger.schema import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table."""
    metadata.create_all(op.get_bind())
