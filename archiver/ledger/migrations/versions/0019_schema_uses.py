"""The ledger says which programs may use it, also such as do not know its newest revisions."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Create the table. Whoever migrates fills it."""
    op.create_table(
        "schema_uses",
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("oldest", sa.Text(), nullable=False, comment="revision that a program must know at least"),
        sa.PrimaryKeyConstraint("revision"),
    )
