"""Every object of an archived task is seen again in the bucket; what is missing there is written down. Tasks that are
archived already were seen when their manifest was put."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the column and the tables."""
    op.add_column(
        "tasks",
        sa.Column(
            "seen_again_at",
            sa.BigInteger(),
            nullable=True,
            comment="when all of its objects were last seen in the bucket",
        ),
    )
    op.create_table(
        "second_looks",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("task", _ROW_ID, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["task"], ["tasks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task"),
    )
    op.create_index("second_looks_by_due", "second_looks", ["account", "due_at"])
    op.create_table(
        "missing_objects",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("task", _ROW_ID, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="of MissingState"),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True, comment="of its second HEAD"),
        sa.Column(
            "restored_at", sa.BigInteger(), nullable=True, comment="when it was put back: that is done once"
        ),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it cannot be had again"),
        sa.Column(
            "problem_since",
            sa.BigInteger(),
            nullable=True,
            comment="from when on it is a problem; NULL: it is none, or acknowledged",
        ),
        sa.ForeignKeyConstraint(["task"], ["tasks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task", "key", name="missing_objects_identity"),
    )
    for name, column, condition in (
        ("missing_objects_doubted", "due_at", "state = 'doubted'"),
        ("missing_objects_unsettled", "problem_since", "problem_since IS NOT NULL"),
    ):
        where = sa.text(condition)
        columns = ["account", column]
        op.create_index(name, "missing_objects", columns, sqlite_where=where, postgresql_where=where)
