"""How many tasks were archived by the beginning of each hour, for the console's chart of the last day."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
is_compatible = True


def upgrade() -> None:
    """Create the table. What was archived before, nobody has counted by hours."""
    op.create_table(
        "hourly_counts",
        sa.Column("hour_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "archived", sa.BigInteger(), nullable=False, comment="by the first look in that hour, ever"
        ),
        sa.PrimaryKeyConstraint("hour_at"),
    )
