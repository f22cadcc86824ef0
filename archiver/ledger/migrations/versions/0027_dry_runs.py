"""A command asks for dry runs as it asks for sweeps."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
is_compatible = True


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "sweep_requests",
        sa.Column("dry_run_of", sa.Text(), nullable=True, comment="the families of a dry run, a comma list"),
    )
