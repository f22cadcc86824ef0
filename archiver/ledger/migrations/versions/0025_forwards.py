"""Applications are told of tasks that are archived, amended, failed or lost: what is still to be sent, and to whom."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
is_compatible = True

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the column and the tables."""
    op.add_column(
        "tasks",
        sa.Column(
            "client_callback_url",
            sa.Text(),
            nullable=True,
            comment="that a client of the gateway gave at the create",
        ),
    )
    op.create_table(
        "forwards",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("task", _ROW_ID, nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False, comment="operator | client"),
        sa.Column(
            "consumer", sa.Text(), nullable=False, comment="origin of a client's URL; '' for the operator's"
        ),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="of the amendment, else 0"),
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "document",
            sa.Text(),
            nullable=True,
            comment="the API's own object, as JSON; NULL: the bucket or the task has it",
        ),
        sa.Column("queued_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True, comment="NULL: ended"),
        sa.Column(
            "attempts", sa.Integer(), nullable=False, server_default="0", comment="the running one included"
        ),
        sa.Column("last_status", sa.Integer(), nullable=True, comment="HTTP status of the last answer"),
        sa.Column("reason", sa.Text(), nullable=True, comment="why the last try failed"),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column(
            "unseen_since",
            sa.BigInteger(),
            nullable=True,
            comment="since when it is dead; NULL: acknowledged",
        ),
        sa.ForeignKeyConstraint(["task"], ["tasks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task", "target", "event", "number", name="forwards_identity"),
        sa.CheckConstraint("state IN ('waiting', 'delivered', 'dead')", name="forward_state_known"),
        sa.CheckConstraint(
            "(state = 'waiting') = (due_at IS NOT NULL) AND (state = 'waiting') = (ended_at IS NULL)",
            name="forward_waits_or_ended",
        ),
        sa.CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name="forward_lease_whole"),
    )
    for name, columns, condition in (
        ("forwards_due", ["consumer", "due_at"], "state = 'waiting'"),
        ("forwards_waiting", ["queued_at"], "state = 'waiting'"),
        ("forwards_delivered", ["ended_at"], "state = 'delivered'"),
        ("forwards_dead", ["ended_at"], "state = 'dead'"),
        ("forwards_unseen", ["account", "unseen_since"], "unseen_since IS NOT NULL"),
    ):
        where = sa.text(condition)
        op.create_index(name, "forwards", columns, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "forward_counts",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column(
            "forwards",
            sa.BigInteger(),
            nullable=False,
            comment="how many more, or fewer; the sum is the count",
        ),
        sa.PrimaryKeyConstraint("id"),
    )
