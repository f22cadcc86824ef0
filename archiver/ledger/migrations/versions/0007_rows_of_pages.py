"""How many rows of a list the API can answer with at a time."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "sweeps",
        sa.Column(
            "page_rows",
            sa.Integer(),
            nullable=True,
            comment="that the API can answer with at a time; NULL: the most there can be",
        ),
    )
