"""Holds know whether a look has met them too: then a look may end them."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "holds",
        sa.Column(
            "seen_by_look",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
            comment="a look may end it",
        ),
    )
