"""A flood of forged ids slows neither pages of one account or family nor the search for the nearest deadline."""

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
is_compatible = True
is_concurrent = True

_INDEXES = (
    ("tasks_by_hint", ["account", "family_hint", "state", "deadline_at"], "confirmed_at IS NULL"),
    ("tasks_buried", ["state", "deadline_at"], "state = 'buried' AND confirmed_at IS NOT NULL"),
)


def upgrade() -> None:
    """Add the indexes."""
    for name, columns, words in _INDEXES:
        where = sa.text(words)
        op.create_index(
            name,
            "tasks",
            columns,
            if_not_exists=True,
            postgresql_concurrently=True,
            sqlite_where=where,
            postgresql_where=where,
        )
