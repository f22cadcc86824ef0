"""Each process says when it has succeeded at what: a machine that fails alone holds itself only."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
is_compatible = True


def upgrade() -> None:
    """Add the column."""
    column = sa.Column(
        "worked", sa.Text(), nullable=False, server_default="{}", comment="when it last succeeded at what"
    )
    op.add_column("daemons", column)
