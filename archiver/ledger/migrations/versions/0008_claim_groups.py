"""Claims look at one row of each group of due rows; a task says which host it waits for, and when it needs fresh URLs;
a file says since when it fails for the same reason."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns, and make the indexes of the lanes anew."""
    for column in (
        sa.Column(
            "host_tried", sa.Boolean(), nullable=False, server_default=sa.false(), comment="and has failed at"
        ),
        sa.Column("claim_group", sa.Text(), comment="what a hold stops together; NULL unless due and free"),
        sa.Column("fresh_wanted_at", sa.BigInteger(), comment="since when its URLs do not work"),
        sa.Column("fresh_due_at", sa.BigInteger(), comment="when to ask the API for others"),
        sa.Column("fresh_asked_at", sa.BigInteger(), comment="when the API last answered that"),
    ):
        op.add_column("tasks", column)
    op.add_column("assets", sa.Column("failing_since", sa.BigInteger(), comment="since when for that reason"))
    for name, order in (
        ("tasks_by_deadline", ["deadline_at"]),
        ("tasks_by_attempts", ["attempts", "due_at"]),
    ):
        op.drop_index(name, "tasks")
        columns = ["queue", "account", "claim_group", *order]
        _create_partial_index(name, columns, where="claim_group IS NOT NULL")
    _create_partial_index(
        "tasks_to_promote",
        ["queue", "account", "due_at", "asset_host"],
        where="claim_group IS NULL AND confirmed_at IS NOT NULL",
    )
    _create_partial_index(
        "tasks_wanting_fresh_urls", ["account", "fresh_due_at"], where="fresh_due_at IS NOT NULL"
    )


def _create_partial_index(name: str, columns: list[str], *, where: str) -> None:
    clause = sa.text(where)
    op.create_index(name, "tasks", columns, unique=False, sqlite_where=clause, postgresql_where=clause)
