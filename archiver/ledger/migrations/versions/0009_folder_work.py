"""Amendments, and `incomplete.json` of lost tasks: what is still to be put into the folders of finished tasks."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the tables. Archived tasks with an asset that is not stored are amended, finally lost ones described."""
    op.create_table(
        "folder_work",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="amend | incomplete"),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=True, comment="dropped after it; NULL: never"),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True, comment="why the last try failed"),
        sa.Column(
            "document",
            sa.Text(),
            nullable=True,
            comment="the answer that named what is amended; NULL: the task's",
        ),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["task"], ["tasks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task", "kind", name="folder_work_identity"),
    )
    op.create_table(
        "amendments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("amended_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["task"], ["tasks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task", "number", name="amendments_identity"),
    )
    op.execute(
        "INSERT INTO folder_work (task, kind, since, due_at, deadline_at, attempts)"
        " SELECT id, 'amend', archived_at, archived_at, deadline_at, 0 FROM tasks WHERE state = 'archived'"
        " AND EXISTS (SELECT 1 FROM assets WHERE assets.task = tasks.id AND assets.name IS NULL)"
    )
    op.execute(
        "INSERT INTO folder_work (task, kind, since, due_at, attempts)"
        " SELECT id, 'incomplete', deadline_at, deadline_at, 0 FROM tasks WHERE state = 'lost' AND due_at IS NULL"
        " AND EXISTS (SELECT 1 FROM assets WHERE assets.task = tasks.id AND assets.name IS NOT NULL)"
    )
