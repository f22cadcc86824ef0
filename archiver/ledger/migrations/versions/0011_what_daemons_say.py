"""What each daemon says of itself: what it serves, for which accounts, its leases, and what it warns of."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the columns. The rows of earlier versions are of whole daemons."""
    for column in (
        sa.Column("serves", sa.Text(), nullable=False, server_default='["door", "work"]', comment="as JSON"),
        sa.Column("accounts", sa.Text(), nullable=False, server_default="[]", comment="as JSON"),
        sa.Column(
            "leases", sa.Integer(), nullable=False, server_default="0", comment="that it holds on tasks"
        ),
        sa.Column("warnings", sa.Text(), nullable=False, server_default="[]", comment="problems, as JSON"),
        sa.Column("left_at", sa.BigInteger(), nullable=True, comment="when it ended in good order"),
    ):
        op.add_column("daemons", column)
