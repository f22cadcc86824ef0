"""Archived tasks keep no document and no URLs: upkeep drops those of the rows that are there."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Say up to which row."""
    op.execute(
        "INSERT INTO facts (name, value) SELECT 'rows_to_slim', CAST(newest AS TEXT)"
        " FROM (SELECT max(id) AS newest FROM tasks) AS ids WHERE newest IS NOT NULL"
    )
