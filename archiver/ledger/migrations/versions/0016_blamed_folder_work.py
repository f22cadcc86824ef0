"""Folder work obeys the holds of the store: which of it has failed so."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the column."""
    held = sa.Column(
        "held", sa.Integer(), nullable=False, server_default="0", comment="failures that held, in a row"
    )
    op.add_column("folder_work", held)
