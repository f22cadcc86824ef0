"""When a ledger must not be moved, and when a database must not be moved into."""

import sqlalchemy as sa

from archiver.ledger.daemons import BEAT_MS_MAX
from archiver.ledger.databases import whole
from archiver.ledger.databases.errors import LedgerUnusable
from archiver.ledger.migrations import upgrade
from archiver.ledger.moving.marks import MOVED, MOVING, Move, read_mark, sentence_of
from archiver.ledger.tables import schema
from archiver.phrases import count_of, span


def require_nobody(connection: sa.Connection, *, name: str, now: int) -> None:
    """Raises LedgerUnusable if a process has beaten on the ledger within two minutes and has not ended in good order.
    The ledger may be of any revision."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(schema.daemons.name):
        return
    table = schema.daemons
    names = {column["name"] for column in inspector.get_columns(table.name)}
    query = sa.select(table.c.host, table.c.pid, table.c.seen_at).where(table.c.seen_at > now - BEAT_MS_MAX)
    if table.c.left_at.name in names:
        query = query.where(table.c.left_at.is_(None))
    seen = connection.execute(query.order_by(table.c.seen_at.desc())).all()
    if seen:
        last = seen[0]
        raise LedgerUnusable(
            f"{count_of(len(seen), 'process')} worked on the ledger {name} within the last two minutes, the last one "
            f"(pid {last.pid} on {last.host}) {span(max(0, now - last.seen_at))} ago: stop all of them first. After a "
            "clean stop there is no wait, after a kill it is two minutes"
        )


def require_room(connection: sa.Connection, move: Move, *, now: int) -> None:
    """Raises LedgerUnusable unless the target has no ledger, or one that may be dropped: one without tasks and without
    processes, or one that an earlier move from the same ledger has left."""
    mark = read_mark(connection)
    if mark is not None:
        if mark[0] == MOVING and mark[1].source != move.source:
            raise LedgerUnusable(f"the ledger {move.target} {sentence_of(mark)}")
        if mark[0] in {MOVED, MOVING}:
            return
    inspector = sa.inspect(connection)
    ours = set(schema.metadata.tables) & set(inspector.get_table_names())
    if not inspector.has_table("alembic_version"):
        if ours:
            raise LedgerUnusable(
                f"{move.target} has a table {min(ours)} of another program: name a database without"
            )
        return
    upgrade.require_not_newer(connection, name=move.target)
    require_nobody(connection, name=move.target, now=now)
    if schema.tasks.name in ours:
        whole.lock_tables(connection, [schema.tasks.name])
        if connection.execute(sa.select(schema.tasks.c.id).limit(1)).first() is not None:
            raise LedgerUnusable(
                f"the ledger {move.target} has tasks already: two ledgers cannot become one. Name another one as TO"
            )
