"""Creates of the gateway's clients are known before they are sent, and whom to tell of them."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
is_compatible = True


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "gateway_creates",
        sa.Column("reference", sa.Text(), nullable=False, comment="stands in the callback URL"),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("external_task_id", sa.Text(), nullable=True),
        sa.Column("client_callback_url", sa.Text(), nullable=True, comment="NULL: nobody is to be told"),
        sa.Column("request", sa.Text(), nullable=True, comment="what was asked for, as JSON"),
        sa.Column("state", sa.Text(), nullable=False, comment="open | abandoned"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reference"),
    )
    op.create_index("gateway_creates_by_age", "gateway_creates", ["created_at"])
