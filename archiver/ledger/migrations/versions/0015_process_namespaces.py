"""Daemons say in which namespace their process id counts: then a command beside one sees that it was killed."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the column."""
    op.add_column("daemons", sa.Column("pid_namespace", sa.Text(), nullable=True, comment="where pid counts"))
