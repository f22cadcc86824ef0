"""Processes take turns at what one at a time does: the askers that live, and the leases of duties."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "askers",
        sa.Column("name", sa.Text(), nullable=False, comment="as in daemons"),
        sa.Column("accounts", sa.Text(), nullable=False, comment="that its settings name, as JSON"),
        sa.Column("keeps_up", sa.Boolean(), nullable=False, comment="whether it may have the upkeep"),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "duties",
        sa.Column("kind", sa.Text(), nullable=False, comment="ask | upkeep"),
        sa.Column("account", sa.Text(), nullable=False, comment="'' for the upkeep"),
        sa.Column("holder", sa.Text(), nullable=True, comment="the last one"),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=False, comment="or since when nobody has it"),
        sa.Column(
            "clock_sound_at",
            sa.BigInteger(),
            nullable=True,
            comment="when the API's clock last agreed with the ledger's",
        ),
        sa.PrimaryKeyConstraint("kind", "account"),
    )
