"""A command asks for sweeps by a row, and whoever asks for the account shows its progress there."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
is_compatible = True


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "sweep_requests",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("is_full", sa.Boolean(), nullable=False, comment="whatever is due"),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=True, comment="so far, as JSON"),
        sa.Column("failure", sa.Text(), nullable=True, comment="as JSON"),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
