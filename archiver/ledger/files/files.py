"""Finds one file of a task. Changes nothing."""

import dataclasses

import sqlalchemy as sa

from archiver.ledger.part import Part
from archiver.ledger.tables import schema
from archiver.ledger.tables.rows import read_asset
from archiver.ledger.tables.tombstones import require_not_forgotten
from archiver.model import Asset, FolderWorkKind, State, StoredAsset

_FILE = (
    sa.select(
        schema.assets,
        schema.tasks.c.state,
        schema.tasks.c.due_at,
        sa.exists()
        .where(
            schema.folder_work.c.task == schema.tasks.c.id,
            schema.folder_work.c.kind == FolderWorkKind.AMEND,
        )
        .label("is_amended"),
    )
    .join_from(schema.tasks, schema.assets, schema.assets.c.task == schema.tasks.c.id)
    .where(
        schema.tasks.c.account == sa.bindparam("account"),
        schema.tasks.c.task_id == sa.bindparam("task_id"),
        schema.assets.c.stem == sa.bindparam("stem"),
    )
)


@dataclasses.dataclass(frozen=True, slots=True)
class FileView:
    """A file of a task, as the API names it and as it is stored."""

    asset: Asset
    stored: StoredAsset | None
    is_tried: bool
    """Whether the archiver still tries to store a missing file, without an operator."""


class Files(Part):
    """The files of tasks, for links."""

    def find(self, *, account: str, task_id: str, stem: str) -> FileView | None:
        """None when the ledger knows no such file. The id is the API's own, not an external one. Raises
        TaskForgotten."""
        given = {"account": account, "task_id": task_id, "stem": stem}
        with self._database.read() as connection:
            row = connection.execute(_FILE, given).mappings().first()
            if row is None:
                require_not_forgotten(connection, account=account, task_id=task_id)
                return None
        leased = read_asset(row)
        is_archived = row["state"] == State.ARCHIVED
        # An archived task waits for nothing; a file that the API named later waits as its amendment.
        is_tried = bool(row["is_amended"]) if is_archived else row["due_at"] is not None
        return FileView(leased.asset, leased.stored, is_tried)
