"""Counts of tasks, and an index of the leased ones: a scrape and a start no longer look at every task."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Count the tasks for the last time."""
    leased = sa.text("lease_token IS NOT NULL")
    op.create_index(
        "tasks_leased", "tasks", ["lease_token"], unique=False, sqlite_where=leased, postgresql_where=leased
    )
    op.create_table(
        "task_counts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("is_confirmed", sa.Boolean(), nullable=False),
        sa.Column(
            "tasks",
            sa.BigInteger(),
            nullable=False,
            comment="how many more, or fewer; the sum is the count",
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute(
        "INSERT INTO task_counts (account, state, is_confirmed, tasks)"
        " SELECT account, state, confirmed_at IS NOT NULL, count(*) FROM tasks"
        " GROUP BY account, state, confirmed_at IS NOT NULL"
    )
