"""PostgreSQL numbers rows by eight bytes, as SQLite always has."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Widen what earlier revisions made four bytes wide."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table in ("tasks", "task_counts", "assets", "folder_work", "amendments", "history", "holds"):
        op.execute(f"ALTER TABLE {table} ALTER COLUMN id TYPE BIGINT")
        op.execute(f"ALTER SEQUENCE {table}_id_seq AS BIGINT")
    for table in ("assets", "folder_work", "amendments", "history", "passed_over"):
        op.execute(f"ALTER TABLE {table} ALTER COLUMN task TYPE BIGINT")
