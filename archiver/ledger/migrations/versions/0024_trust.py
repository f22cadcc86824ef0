"""Stores earn trust: how many objects were seen again there without a miss."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
is_compatible = True


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "trust",
        sa.Column("place", sa.Text(), nullable=False, comment="endpoint and bucket"),
        sa.Column("objects", sa.BigInteger(), nullable=False, comment="seen again since the last miss"),
        sa.Column(
            "second_put", sa.Text(), nullable=True, comment="what it does with a second create-only put"
        ),
        sa.PrimaryKeyConstraint("place"),
    )
