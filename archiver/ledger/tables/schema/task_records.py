"""What else is kept of tasks: counts, history, creates of the gateway, forgotten ids."""

import sqlalchemy as sa

from archiver.ledger.tables.schema.elements import ROW_ID, metadata, partial_index

task_counts = sa.Table(
    "task_counts",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("is_confirmed", sa.Boolean, nullable=False),
    sa.Column(
        "tasks", sa.BigInteger, nullable=False, comment="how many more, or fewer; the sum is the count"
    ),
)

hourly_counts = sa.Table(
    "hourly_counts",
    metadata,
    sa.Column("hour_at", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("archived", sa.BigInteger, nullable=False, comment="by the first look in that hour, ever"),
)

history = sa.Table(
    "history",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("task", ROW_ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)

gateway_creates = sa.Table(
    "gateway_creates",
    metadata,
    sa.Column("reference", sa.Text, primary_key=True, comment="stands in the callback URL"),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("family", sa.Text, nullable=False),
    sa.Column("external_task_id", sa.Text),
    sa.Column("client_callback_url", sa.Text, comment="NULL: nobody is to be told"),
    sa.Column("request", sa.Text, comment="what was asked for, as JSON"),
    sa.Column("state", sa.Text, nullable=False, comment="open | abandoned | matched"),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("answered_at", sa.BigInteger, comment="when Kling answered without saying what it created"),
    sa.Column("doubt", sa.Text, comment="why no task was matched to it, of MatchDoubt"),
    sa.Column("possible_tasks", sa.Text, comment="tasks that it may have created, a JSON list"),
    sa.Column("unseen_since", sa.BigInteger, comment="since when it is doubted; NULL: acknowledged"),
)
sa.Index("gateway_creates_by_age", gateway_creates.c.created_at)
partial_index(
    "gateway_creates_doubted", gateway_creates.c.account, where=gateway_creates.c.doubt.is_not(None)
)

forgotten = sa.Table(
    "forgotten",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("task_id", sa.Text, primary_key=True),
    sa.Column("external_task_id", sa.Text),
    sa.Column("family", sa.Text, comment="NULL: the API had not confirmed it"),
    sa.Column("created_at", sa.BigInteger, comment="of the task; NULL as its family"),
    sa.Column("forgotten_at", sa.BigInteger, nullable=False),
)
partial_index(
    "forgotten_by_external",
    forgotten.c.account,
    forgotten.c.external_task_id,
    where=forgotten.c.external_task_id.is_not(None),
)
