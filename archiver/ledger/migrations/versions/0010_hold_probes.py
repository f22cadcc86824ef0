"""Holds know how often they were probed in vain; a failure that may be one task's own is noted before it holds; probes
find the task that was blamed least often; claims remember which ids of held families they have passed over."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the columns, the table and the index."""
    op.add_column(
        "holds",
        sa.Column(
            "probes", sa.Integer(), nullable=False, server_default="0", comment="in a row, without success"
        ),
    )
    op.add_column("holds", sa.Column("probed_at", sa.BigInteger(), comment="when the last probe began"))
    op.create_table(
        "doubts",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False, comment="'' for every family"),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "stage", "family"),
    )
    op.create_table(
        "passed_over",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("task", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("account", "queue"),
    )
    grouped = sa.text("claim_group IS NOT NULL")
    op.create_index(
        "tasks_to_probe",
        "tasks",
        ["queue", "account", "claim_group", "held", "due_at"],
        unique=False,
        sqlite_where=grouped,
        postgresql_where=grouped,
    )
