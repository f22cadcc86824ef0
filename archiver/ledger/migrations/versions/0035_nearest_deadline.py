"""Neither forged ids that are buried nor acknowledged tasks slow the search for the nearest deadline."""

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
is_compatible = True
is_concurrent = True


def upgrade() -> None:
    """Add the index: of a few rows, which it takes a walk over all tasks to find."""
    where = sa.text("state = 'buried' AND confirmed_at IS NOT NULL AND unseen_since IS NOT NULL")
    op.create_index(
        "tasks_buried_unseen",
        "tasks",
        ["state", "deadline_at"],
        if_not_exists=True,
        postgresql_concurrently=True,
        sqlite_where=where,
        postgresql_where=where,
    )
