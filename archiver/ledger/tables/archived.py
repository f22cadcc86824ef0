"""The part of an archived task that the ledger keeps: what a repeated callback, a sweep's row and `show` need.

These are its ids and times, the names of its assets as the API and the bucket have them, and their digests. The API's
document and the signed URLs were four fifths of a row; the manifest in the bucket has the document.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.tables import schema

TASK_LEFT: Mapping[str, Any] = {"document": "{}", "asset_host": None, "result_arrays": ""}
_ASSET_LEFT: Mapping[str, Any] = {
    "url": "",
    "source_url": "",
    "incomplete_sha256": None,
    "incomplete_at": None,
}

_SLIM_ASSETS = (
    sa.update(schema.assets)
    .where(
        schema.assets.c.task.in_(sa.bindparam("task_rows", expanding=True)),
        schema.assets.c.name.is_not(None),
    )
    .values(_ASSET_LEFT)
)


def lacking_columns(
    *, external_task_id: str | None, request: Mapping[str, object] | None, updated_at: int | None
) -> dict[str, sa.ColumnElement[Any]]:
    """Values of the manifest for the empty columns of a task's row: after the ledger was lost, only the bucket has what
    a registration or a create has named."""
    table = schema.tasks
    said = {
        table.c.external_task_id: external_task_id,
        table.c.request: None if request is None else json.dumps(request),
        table.c.updated_at: updated_at,
    }
    return {
        column.name: sa.func.coalesce(column, value) for column, value in said.items() if value is not None
    }


def slim_assets(connection: sa.Connection, row_ids: Sequence[int]) -> None:
    """Drop data that the assets of these archived tasks no longer need."""
    connection.execute(_SLIM_ASSETS, {"task_rows": row_ids})


def slim_tasks(connection: sa.Connection, *, after: int, until: int) -> None:
    """Drop data of archived tasks with row ids above `after`, up to `until`, and of their assets. Tasks with an asset
    that is not stored are skipped: their work is not done. Indexed columns stay: changing them would cost most of the
    time."""
    tasks, assets, work = schema.tasks, schema.assets, schema.folder_work
    waits = sa.or_(
        sa.exists().where(assets.c.task == tasks.c.id, assets.c.name.is_(None)),
        sa.exists().where(work.c.task == tasks.c.id),
    )
    old = (tasks.c.id > after, tasks.c.id <= until, tasks.c.state == "archived", ~waits)
    slimmed = sa.update(tasks).where(*old).values(document=TASK_LEFT["document"]).returning(tasks.c.id)
    slim_assets(connection, list(connection.execute(slimmed).scalars()))
