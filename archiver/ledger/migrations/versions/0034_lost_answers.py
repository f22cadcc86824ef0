"""What is known of a create whose answer was lost: whether Kling answered at all, and why no task is its own."""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
is_compatible = True


def upgrade() -> None:
    """Add the columns, and an index of the few rows that have them."""
    for name, kind, comment in (
        ("answered_at", sa.BigInteger(), "when Kling answered without saying what it created"),
        ("doubt", sa.Text(), "why no task was matched to it, of MatchDoubt"),
        ("possible_tasks", sa.Text(), "tasks that it may have created, a JSON list"),
        ("unseen_since", sa.BigInteger(), "since when it is doubted; NULL: acknowledged"),
    ):
        op.add_column("gateway_creates", sa.Column(name, kind, comment=comment))
    where = sa.text("doubt IS NOT NULL")
    op.create_index(
        "gateway_creates_doubted", "gateway_creates", ["account"], sqlite_where=where, postgresql_where=where
    )
