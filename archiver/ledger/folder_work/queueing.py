"""Queues folder work in the transaction that makes it necessary, so that no crash forgets it."""

from typing import Any

import sqlalchemy as sa

from archiver.ledger.databases.dialect import insert_missing
from archiver.ledger.part import require_written
from archiver.ledger.tables import schema
from archiver.ledger.tables.history import add_line, trim
from archiver.model import DAY_MS, FolderWorkKind


def queue_amendment(
    connection: sa.Connection, row_id: int, *, document: str | None, deadline_at: int, now: int
) -> None:
    """An archived task has an asset that no manifest names. `document` is the answer that named it, None to take the
    task's own.

    It has the task's deadline, and a day at least: an answer of today may name what an old task has only now.
    """
    if document is None:
        query = sa.select(schema.tasks.c.document).where(schema.tasks.c.id == row_id)
        document = connection.execute(query).scalar_one()
    until = max(deadline_at, now + DAY_MS)
    values = {"document": document, "due_at": now, "deadline_at": until}
    _queue(connection, row_id, FolderWorkKind.AMEND, values, now=now)
    add_line(connection, row_id, at=now, event="amendment.queued", detail="the API names a further file")
    trim(connection, row_id)


def queue_missing(connection: sa.Connection, row_id: int, *, documented: set[str], now: int) -> bool:
    """Queue an amendment of all assets except these stems, which the manifest names; False if it names all."""
    assets, tasks = schema.assets, schema.tasks
    stems = connection.execute(sa.select(assets.c.stem).where(assets.c.task == row_id)).scalars()
    if documented.issuperset(stems):
        return False
    query = sa.select(tasks.c.deadline_at).where(tasks.c.id == row_id)
    deadline_at = connection.execute(query).scalar_one()
    queue_amendment(connection, row_id, document=None, deadline_at=deadline_at, now=now)
    return True


def queue_incomplete(connection: sa.Connection, row_id: int, *, now: int) -> None:
    """This lost task is not tried any more: if some of its files are saved, queue the description of what is
    missing."""
    assets = schema.assets
    saved = sa.select(assets.c.id).where(assets.c.task == row_id, assets.c.name.is_not(None)).limit(1)
    if connection.execute(saved).first() is not None:
        _queue(connection, row_id, FolderWorkKind.INCOMPLETE, {"due_at": now}, now=now)


def queue_restore(connection: sa.Connection, row_id: int, *, now: int) -> None:
    """An object of this archived task is missing. The API is queried first: its old answer is not kept, and the old
    URLs have expired."""
    _queue(connection, row_id, FolderWorkKind.RESTORE, {"due_at": now, "document": None}, now=now)


def drop_incomplete(connection: sa.Connection, row_id: int) -> None:
    """The task is archived after all. A worker that is about to put `incomplete.json` loses its lease."""
    table = schema.folder_work
    connection.execute(
        sa.delete(table).where(table.c.task == row_id, table.c.kind == FolderWorkKind.INCOMPLETE)
    )


def all_assets_accounted_for(row_id: int) -> sa.ColumnElement[bool]:
    """Every asset that the ledger knows is stored, or an amendment waits for it."""
    assets, work = schema.assets, schema.folder_work
    unstored = sa.exists().where(assets.c.task == row_id, assets.c.name.is_(None))
    amended = sa.exists().where(work.c.task == row_id, work.c.kind == FolderWorkKind.AMEND)
    return sa.or_(~unstored, amended)


def _queue(
    connection: sa.Connection, row_id: int, kind: FolderWorkKind, values: dict[str, Any], *, now: int
) -> None:
    """Work that waits already goes on with these values; a worker that is at it finds the new asset in its next try."""
    table = schema.folder_work
    same = (table.c.task == row_id, table.c.kind == kind)
    if connection.execute(sa.update(table).where(*same).values(values)).rowcount:
        return
    row = {"task": row_id, "kind": kind, "since": now, "attempts": 0} | values
    require_written(connection.execute(insert_missing(connection, table).values(row)).rowcount)
