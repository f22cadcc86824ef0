"""Rows of tasks and assets: found by an id, and read as leases."""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from archiver.ledger.databases.dialect import is_named, locking, locking_on, naming
from archiver.ledger.tables import schema
from archiver.model import (
    Asset,
    DiscoveredBy,
    Lane,
    Lease,
    LeasedAsset,
    Role,
    Stage,
    State,
    StoredAsset,
)

CONSOLE_TEST = "console_test"
"""`callback_status` of an id that only a test of the developer console has named."""

_ASSETS_OF = (
    sa.select(schema.assets)
    .where(schema.assets.c.task.in_(sa.bindparam("task_rows", expanding=True)))
    .order_by(schema.assets.c.id)
)


def find(
    connection: sa.Connection, *, account: str, task_id: str, to_write: bool = False
) -> sa.RowMapping | None:
    """The row of a task, by its id or else by its external id; None when the ledger has neither.

    Two queries instead of one OR: each takes one step along an index. The OR reads every row of the account, within
    the transaction that callbacks wait for.
    """
    table = schema.tasks
    for column in (table.c.task_id, table.c.external_task_id):
        query = sa.select(table).where(table.c.account == account, column == task_id).order_by(table.c.id)
        if to_write:
            query = locking(connection, query, table)
        row = connection.execute(query.limit(1)).mappings().first()
        if row is not None:
            return row
    return None


def find_all(
    connection: sa.Connection, *, account: str, task_ids: Sequence[str]
) -> dict[str, Mapping[Any, Any]]:
    """The rows of these tasks (not external ids), by id, to be written; unknown ids are left out."""
    statement = _rows_to_write(connection.dialect.name, several=len(task_ids) != 1)
    found = connection.execute(statement, {"account_is": account, **naming(task_ids)})
    return {row["task_id"]: row for row in found.mappings()}


@functools.cache
def _rows_to_write(dialect: str, *, several: bool) -> sa.Select[Any]:
    table = schema.tasks
    query = sa.select(table).where(
        table.c.account == sa.bindparam("account_is"), is_named(table.c.task_id, several=several)
    )
    return locking_on(dialect, query, table)


def assets_of(connection: sa.Connection, row_ids: Sequence[int]) -> dict[int, tuple[LeasedAsset, ...]]:
    """The assets of these rows, by row id."""
    if not row_ids:
        return {}
    assets: dict[int, list[LeasedAsset]] = {}
    for row in connection.execute(_ASSETS_OF, {"task_rows": row_ids}).mappings():
        assets.setdefault(row["task"], []).append(read_asset(row))
    return {row_id: tuple(of_task) for row_id, of_task in assets.items()}


def read_asset(row: Mapping[Any, Any]) -> LeasedAsset:
    """A row of `assets`, as the worker gets it."""
    asset = Asset(
        stem=row["stem"],
        url=row["url"],
        role=Role(row["role"]),
        index=row["api_index"],
        watermarked=row["watermarked"],
    )
    stored = None
    if row["name"] is not None:
        stored = StoredAsset(
            stem=row["stem"],
            name=row["name"],
            key=row["key"],
            role=asset.role,
            index=asset.index,
            watermarked=asset.watermarked,
            bytes=row["bytes"],
            sha256=row["sha256"],
            content_type=row["content_type"],
            width=row["width"],
            height=row["height"],
            source_url=row["source_url"],
            suspect=row["suspect"],
        )
    return LeasedAsset(
        asset, stored, row["incomplete_sha256"], row["incomplete_at"], row["reason"], row["failing_since"]
    )


def read_lease(
    row: Mapping[Any, Any],
    assets: tuple[LeasedAsset, ...],
    *,
    is_probe: bool,
    lane: Lane | None = None,
    stage: Stage | None = None,
) -> Lease:
    """A leased row of `tasks`, as the worker gets it; of its queue's stage, unless `stage` is another."""
    return Lease(
        row_id=row["id"],
        token=row["lease_token"],
        stage=stage or (Stage.ARCHIVE if row["queue"] == schema.QUEUE_ARCHIVE else Stage.VERIFY),
        account=row["account"],
        task_id=row["task_id"],
        external_task_id=row["external_task_id"],
        state=State(row["state"]),
        attempt=row["attempts"],
        asked=row["asked"],
        family=row["family"],
        family_hint=row["family_hint"],
        result_arrays=tuple(filter(None, row["result_arrays"].split(","))),
        confirmed=row["confirmed_at"] is not None,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deadline_at=row["deadline_at"],
        discovered_by=DiscoveredBy(row["discovered_by"]),
        asset_host=row["asset_host"],
        document=json.loads(row["document"]) if row["document"] else {},
        request=json.loads(row["request"]) if row["request"] else None,
        assets=assets,
        is_console_test=row["callback_status"] == CONSOLE_TEST,
        is_probe=is_probe,
        lane=lane,
        is_first_try=not row["host_tried"],
        named_by_create=row["named_by_create"],
        was_running=row["running_at"] is not None,
        fresh_wanted_at=row["fresh_wanted_at"],
        fresh_asked_at=row["fresh_asked_at"],
    )
