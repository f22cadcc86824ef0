"""A forward keeps what its task was like when it was queued: it may be sent long after that."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
is_compatible = True


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "forwards",
        sa.Column(
            "facts",
            sa.Text(),
            nullable=True,
            comment="of the task when it was queued, as JSON: reason, message, stems of stored files",
        ),
    )
