"""`list`, the console and the API find the tasks of an account or a family without reading others."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
is_compatible = True
is_concurrent = True


def upgrade() -> None:
    """Add the index."""
    where = sa.text("family IS NOT NULL")
    op.create_index(
        "tasks_by_family",
        "tasks",
        ["account", "family", "state", "deadline_at"],
        if_not_exists=True,
        postgresql_concurrently=True,
        sqlite_where=where,
        postgresql_where=where,
    )
