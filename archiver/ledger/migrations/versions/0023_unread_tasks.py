"""`status` counts the tasks that the API shows in words that this version cannot read."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Add the index."""
    where = sa.text("state = 'running' AND reason = 'api_answer_unreadable'")
    op.create_index(
        "tasks_unread", "tasks", ["account", "confirmed_at"], sqlite_where=where, postgresql_where=where
    )
