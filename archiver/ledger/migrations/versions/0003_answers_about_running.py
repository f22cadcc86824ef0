"""When the API last said that a task runs: past its deadline, one that nobody could ask about is lost."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column. Until now only the last question was kept: take it for the answer, as before."""
    op.add_column(
        "tasks",
        sa.Column(
            "running_at",
            sa.BigInteger(),
            nullable=True,
            comment="when the API last said that it runs, to the hour",
        ),
    )
    tasks = sa.table("tasks", sa.column("state"), sa.column("asked_at"), sa.column("running_at"))
    running = sa.update(tasks).where(tasks.c.state == "running")
    op.execute(running.values(running_at=tasks.c.asked_at))
