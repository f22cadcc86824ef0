"""A task's files, and what the bucket has of them."""

import sqlalchemy as sa

from archiver.ledger.tables.schema.elements import ROW_ID, metadata, partial_index

assets = sa.Table(
    "assets",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("task", ROW_ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("stem", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("api_index", sa.Integer),
    sa.Column("watermarked", sa.Boolean, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, comment="why it is not stored, after a try"),
    sa.Column("failing_since", sa.BigInteger, comment="since when for that reason"),
    sa.Column("incomplete_sha256", sa.Text, comment="of a body that only the wholeness check refused"),
    sa.Column("incomplete_at", sa.BigInteger),
    sa.Column("name", sa.Text, comment="file name, extension included; NULL until stored, like all below"),
    sa.Column("key", sa.Text),
    sa.Column("bytes", sa.BigInteger),
    sa.Column("sha256", sa.Text),
    sa.Column("content_type", sa.Text),
    sa.Column("width", sa.Integer),
    sa.Column("height", sa.Integer),
    sa.Column("source_url", sa.Text, comment="the URL these bytes came from"),
    sa.Column("suspect", sa.Text),
    sa.UniqueConstraint("task", "stem", name="assets_identity"),
    sa.CheckConstraint(
        "(name IS NULL) = (key IS NULL) AND (name IS NULL) = (bytes IS NULL) AND (name IS NULL) = (sha256 IS NULL)"
        " AND (name IS NULL) = (content_type IS NULL) AND (name IS NULL) = (source_url IS NULL)",
        name="stored_whole",
    ),
)

folder_work = sa.Table(
    "folder_work",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("task", ROW_ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("kind", sa.Text, nullable=False, comment="amend | incomplete"),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("due_at", sa.BigInteger, nullable=False),
    sa.Column("deadline_at", sa.BigInteger, comment="dropped after it; NULL: never"),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, comment="why the last try failed"),
    sa.Column("document", sa.Text, comment="the answer that named what is amended; NULL: the task's"),
    sa.Column("lease_token", sa.Text),
    sa.Column("lease_until", sa.BigInteger),
    sa.Column("held", sa.Integer, nullable=False, server_default="0", comment="failures that held, in a row"),
    sa.UniqueConstraint("task", "kind", name="folder_work_identity"),
)
sa.Index("folder_work_by_kind", folder_work.c.kind, folder_work.c.since)

amendments = sa.Table(
    "amendments",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("task", ROW_ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("amended_at", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("task", "number", name="amendments_identity"),
)

second_looks = sa.Table(
    "second_looks",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("task", ROW_ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False, unique=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("due_at", sa.BigInteger, nullable=False),
)
sa.Index("second_looks_by_due", second_looks.c.account, second_looks.c.due_at)

trust = sa.Table(
    "trust",
    metadata,
    sa.Column("place", sa.Text, primary_key=True, comment="endpoint and bucket"),
    sa.Column("objects", sa.BigInteger, nullable=False, comment="seen again since the last miss"),
    sa.Column("second_put", sa.Text, comment="what it does with a second create-only put"),
)

missing_objects = sa.Table(
    "missing_objects",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("task", ROW_ID, sa.ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False, comment="of MissingState"),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("due_at", sa.BigInteger, comment="of its second HEAD"),
    sa.Column("restored_at", sa.BigInteger, comment="when it was put back: that is done once"),
    sa.Column("reason", sa.Text, comment="why it cannot be had again"),
    sa.Column(
        "problem_since",
        sa.BigInteger,
        comment="from when on it is a problem; NULL: it is none, or acknowledged",
    ),
    sa.UniqueConstraint("task", "key", name="missing_objects_identity"),
)
partial_index(
    "missing_objects_doubted",
    missing_objects.c.account,
    missing_objects.c.due_at,
    where=missing_objects.c.state == sa.literal_column("'doubted'"),
)
partial_index(
    "missing_objects_unsettled",
    missing_objects.c.account,
    missing_objects.c.problem_since,
    where=missing_objects.c.problem_since.is_not(None),
)
