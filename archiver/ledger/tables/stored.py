"""Records an asset that is in the bucket."""

from collections.abc import Sequence

import sqlalchemy as sa

from archiver.ledger.tables import schema
from archiver.model import StoredAsset

_COLUMNS = (
    "name",
    "key",
    "bytes",
    "sha256",
    "content_type",
    "width",
    "height",
    "source_url",
    "suspect",
)

_SAVE = (
    sa.update(schema.assets)
    .where(
        schema.assets.c.task == sa.bindparam("task_row"), schema.assets.c.stem == sa.bindparam("asset_stem")
    )
    .values(
        {"reason": sa.null(), "failing_since": sa.null()}
        | {name: sa.bindparam(f"new_{name}") for name in _COLUMNS}
    )
)


def save_stored(connection: sa.Connection, row_id: int, stored: Sequence[StoredAsset]) -> None:
    """Record the assets of a task that are in the bucket."""
    if stored:
        rows = [
            {"task_row": row_id, "asset_stem": asset.stem}
            | {f"new_{name}": getattr(asset, name) for name in _COLUMNS}
            for asset in stored
        ]
        connection.execute(_SAVE, rows)
