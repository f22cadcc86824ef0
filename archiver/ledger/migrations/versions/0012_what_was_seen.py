"""Since when a task has succeeded, and which lost and buried ones an operator has still to see."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the columns. What is lost or buried now counts as unseen, unless it was lost at first sight."""
    for column in (
        sa.Column(
            "succeeded_at",
            sa.BigInteger(),
            nullable=True,
            comment="when the API first said that it succeeded",
        ),
        sa.Column(
            "unseen_since",
            sa.BigInteger(),
            nullable=True,
            comment="since when it is lost or buried; NULL: acknowledged",
        ),
        sa.Column("set_aside_for", sa.Text(), nullable=True, comment="the reason of its last burial"),
    ):
        op.add_column("tasks", column)
    names = "state", "asked_at", "first_seen_at", "deadline_at", "reason", "confirmed_at"
    added = "succeeded_at", "unseen_since", "set_aside_for"
    tasks = sa.table("tasks", *(sa.column(name) for name in (*names, *added)))
    change, first_seen_at = sa.update(tasks), tasks.c.first_seen_at
    since = sa.func.coalesce(tasks.c.asked_at, first_seen_at)
    seen_in_time = first_seen_at < tasks.c.deadline_at
    buried = change.where(tasks.c.state == "buried", seen_in_time)
    op.execute(buried.values(unseen_since=since, set_aside_for=tasks.c.reason))
    lost = change.where(tasks.c.state == "lost", seen_in_time)
    op.execute(lost.values(unseen_since=tasks.c.deadline_at))
    succeeded = change.where(tasks.c.state == "succeeded")
    op.execute(succeeded.values(succeeded_at=tasks.c.confirmed_at))
    op.create_index("folder_work_by_kind", "folder_work", ["kind", "since"])
    for name, columns, where in (
        ("tasks_succeeded", ["account", "succeeded_at"], "state = 'succeeded'"),
        ("tasks_unseen", ["account", "state", "deadline_at"], "unseen_since IS NOT NULL"),
    ):
        condition = sa.text(where)
        op.create_index(name, "tasks", columns, sqlite_where=condition, postgresql_where=condition)
