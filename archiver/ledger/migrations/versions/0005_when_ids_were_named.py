"""Unconfirmed ids are dropped by when they were last named, and an account's without a walk past another's."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column, and make the two indexes of unconfirmed ids anew."""
    op.drop_index("tasks_unconfirmed", "tasks")
    op.drop_index("tasks_denied", "tasks")
    op.add_column(
        "tasks",
        sa.Column(
            "named_at",
            sa.BigInteger(),
            nullable=True,
            comment="when anybody last named an id that the API has not confirmed",
        ),
    )
    op.execute(
        "UPDATE tasks SET named_at = coalesce(last_callback_at, first_seen_at) WHERE confirmed_at IS NULL"
    )
    for name, columns, where in (
        ("tasks_unconfirmed", ["account", "named_at", "confirmed_at"], "confirmed_at IS NULL"),
        (
            "tasks_denied",
            ["account", "named_at", "confirmed_at", "not_found_since"],
            "confirmed_at IS NULL AND not_found_since IS NOT NULL",
        ),
    ):
        clause = sa.text(where)
        op.create_index(name, "tasks", columns, unique=False, sqlite_where=clause, postgresql_where=clause)
