"""The lanes' indexes begin with the account: a claim for one account no longer walks over the backlog of another. The
newest are those with the latest deadline, so they need no index of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make two indexes anew, and drop the third."""
    op.drop_index("tasks_by_age", "tasks")
    for name, order in (
        ("tasks_by_deadline", "deadline_at"),
        ("tasks_by_attempts", "attempts"),
    ):
        op.drop_index(name, "tasks")
        columns = ["queue", "account", order, "due_at", "lease_until", "asset_host", "confirmed_at"]
        where = sa.text("confirmed_at IS NOT NULL")
        op.create_index(name, "tasks", columns, unique=False, sqlite_where=where, postgresql_where=where)
