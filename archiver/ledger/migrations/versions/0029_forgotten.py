"""What an operator has forgotten comes back by no callback, no sweep and no query."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
is_compatible = True


def upgrade() -> None:
    """Create the table, empty: its index costs no writer anything."""
    op.create_table(
        "forgotten",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("task_id", sa.Text(), nullable=False),
        sa.Column("external_task_id", sa.Text(), nullable=True),
        sa.Column("family", sa.Text(), nullable=True, comment="NULL: the API had not confirmed it"),
        sa.Column("created_at", sa.BigInteger(), nullable=True, comment="of the task; NULL as its family"),
        sa.Column("forgotten_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "task_id"),
    )
    given = sa.text("external_task_id IS NOT NULL")
    op.create_index(
        "forgotten_by_external",
        "forgotten",
        ["account", "external_task_id"],
        sqlite_where=given,
        postgresql_where=given,
    )
