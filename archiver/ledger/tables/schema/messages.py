"""What is sent: forwards to applications, alerts to the operator."""

import sqlalchemy as sa

from archiver.ledger.tables.schema.elements import ROW_ID, metadata, partial_index

forwards = sa.Table(
    "forwards",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("task", ROW_ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False, comment="operator | client"),
    sa.Column("consumer", sa.Text, nullable=False, comment="origin of a client's URL; '' for the operator's"),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False, comment="of the amendment, else 0"),
    sa.Column("webhook_id", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column(
        "document", sa.Text, comment="the API's own object, as JSON; NULL: the bucket or the task has it"
    ),
    sa.Column("queued_at", sa.BigInteger, nullable=False),
    sa.Column("due_at", sa.BigInteger, comment="NULL: ended"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0", comment="the running one included"),
    sa.Column("last_status", sa.Integer, comment="HTTP status of the last answer"),
    sa.Column("reason", sa.Text, comment="why the last try failed"),
    sa.Column("lease_token", sa.Text),
    sa.Column("lease_until", sa.BigInteger),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("unseen_since", sa.BigInteger, comment="since when it is dead; NULL: acknowledged"),
    sa.Column(
        "facts",
        sa.Text,
        comment="of the task when it was queued, as JSON: reason, message, stems of stored files",
    ),
    sa.UniqueConstraint("task", "target", "event", "number", name="forwards_identity"),
    sa.CheckConstraint("state IN ('waiting', 'delivered', 'dead')", name="forward_state_known"),
    sa.CheckConstraint(
        "(state = 'waiting') = (due_at IS NOT NULL) AND (state = 'waiting') = (ended_at IS NULL)",
        name="forward_waits_or_ended",
    ),
    sa.CheckConstraint("(lease_token IS NULL) = (lease_until IS NULL)", name="forward_lease_whole"),
)
partial_index(
    "forwards_due",
    forwards.c.consumer,
    forwards.c.due_at,
    where=forwards.c.state == sa.literal_column("'waiting'"),
)
partial_index(
    "forwards_waiting", forwards.c.queued_at, where=forwards.c.state == sa.literal_column("'waiting'")
)
for _state in ("delivered", "dead"):
    partial_index(
        f"forwards_{_state}", forwards.c.ended_at, where=forwards.c.state == sa.literal_column(f"'{_state}'")
    )
partial_index(
    "forwards_unseen",
    forwards.c.account,
    forwards.c.unseen_since,
    where=forwards.c.unseen_since.is_not(None),
)

forward_counts = sa.Table(
    "forward_counts",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column(
        "forwards", sa.BigInteger, nullable=False, comment="how many more, or fewer; the sum is the count"
    ),
)

alerts = sa.Table(
    "alerts",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("problem", sa.Text, nullable=False, comment="as JSON"),
    sa.Column("began_at", sa.BigInteger, nullable=False),
    sa.Column("is_told", sa.Boolean, nullable=False),
)

alert_messages = sa.Table(
    "alert_messages",
    metadata,
    sa.Column("id", sa.Text, primary_key=True, comment="the webhook-id"),
    sa.Column("number", sa.Integer, nullable=False, comment="their order"),
    sa.Column("key", sa.Text, nullable=False, comment="of the problem"),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("made_at", sa.BigInteger, nullable=False),
    sa.Column("due_at", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
)
