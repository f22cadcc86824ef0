"""What the stages go by: holds, sweeps, and sweeps that an operator requested."""

import sqlalchemy as sa

from archiver.ledger.tables.schema.elements import ROW_ID, metadata

holds = sa.Table(
    "holds",
    metadata,
    sa.Column("id", ROW_ID, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("family", sa.Text, nullable=False, comment="'' for every family"),
    sa.Column("host", sa.Text, nullable=False, comment="'' for every host"),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("what_to_do", sa.Text, nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("probe_at", sa.BigInteger, nullable=False),
    sa.Column("probes", sa.Integer, nullable=False, server_default="0", comment="in a row, without success"),
    sa.Column("probed_at", sa.BigInteger, comment="when the last probe began"),
    sa.Column(
        "seen_by_look", sa.Boolean, nullable=False, server_default=sa.false(), comment="a look may end it"
    ),
    sa.UniqueConstraint("account", "stage", "family", "host", name="holds_identity"),
)

doubts = sa.Table(
    "doubts",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("stage", sa.Text, primary_key=True),
    sa.Column("family", sa.Text, primary_key=True, comment="'' for every family"),
    sa.Column("since", sa.BigInteger, nullable=False),
)

passed_over = sa.Table(
    "passed_over",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("queue", sa.Text, primary_key=True),
    sa.Column("due_at", sa.BigInteger, nullable=False),
    sa.Column("task", ROW_ID, nullable=False),
)

sweeps = sa.Table(
    "sweeps",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("family", sa.Text, primary_key=True),
    sa.Column("last_success_at", sa.BigInteger),
    sa.Column("last_full_at", sa.BigInteger),
    sa.Column("last_page", sa.Integer, comment="the last page with rows, where the list runs oldest first"),
    sa.Column("oldest_first", sa.Boolean, nullable=False),
    sa.Column(
        "page_rows", sa.Integer, comment="that the API can answer with at a time; NULL: the most there can be"
    ),
    sa.Column("missed_callbacks", sa.BigInteger, nullable=False),
    sa.Column("lease_token", sa.Text),
    sa.Column("lease_until", sa.BigInteger),
)

sweep_requests = sa.Table(
    "sweep_requests",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("family", sa.Text, nullable=False),
    sa.Column("is_full", sa.Boolean, nullable=False, comment="whatever is due"),
    sa.Column("requested_at", sa.BigInteger, nullable=False),
    sa.Column("counts", sa.Text, comment="so far, as JSON"),
    sa.Column("failure", sa.Text, comment="as JSON"),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("dry_run_of", sa.Text, comment="the families of a dry run, a comma list"),
)
