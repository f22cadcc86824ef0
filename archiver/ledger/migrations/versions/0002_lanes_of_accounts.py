"""The indexes begin with the account: a claim for one account no longer walks over the backlog of another. The newest
are those with the latest deadline, so they need no index of their own; what the API has denied is pruned first."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the indexes anew."""
    op.drop_index("tasks_by_age", "tasks")
    for name, order in (
        ("tasks_by_deadline", "deadline_at"),
        ("tasks_by_attempts", "attempts"),
    ):
        op.drop_index(name, "tasks")
        columns = ["queue", "account", order, "due_at", "lease_until", "asset_host", "confirmed_at"]
        _create_partial_index(name, columns, where="confirmed_at IS NOT NULL")
    op.drop_index("tasks_unconfirmed", "tasks")
    _create_partial_index(
        "tasks_unconfirmed", ["account", "first_seen_at", "confirmed_at"], where="confirmed_at IS NULL"
    )
    _create_partial_index(
        "tasks_denied",
        ["first_seen_at", "account", "confirmed_at", "not_found_since"],
        where="confirmed_at IS NULL AND not_found_since IS NOT NULL",
    )
    for name, columns in (
        ("tasks_by_due", ["queue", "account", "due_at"]),
        ("tasks_to_match", ["queue", "account", "ask_singly", "due_at"]),
    ):
        op.drop_index(name, "tasks")
        op.create_index(name, "tasks", columns, unique=False)


def _create_partial_index(name: str, columns: list[str], *, where: str) -> None:
    clause = sa.text(where)
    op.create_index(name, "tasks", columns, unique=False, sqlite_where=clause, postgresql_where=clause)
