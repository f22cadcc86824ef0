"""An id that the API gave in its answer to a create is never taken for another task's external id."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
is_compatible = True


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "tasks",
        sa.Column(
            "named_by_create",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
            comment="the API gave this id in its answer to a create, so it is no external id",
        ),
    )
