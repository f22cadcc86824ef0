"""Claim groups: the due rows that a hold stops together.

`tasks.claim_group` is NULL while a row waits for its due time or is leased. A claim first puts due rows into their
groups (`claims.promotion`). Then it looks at one row of each group instead of walking over a backlog that it may not
take: rows that are not due are in no group, and a held host or family is a group that is left out.

A group is a rank and a name: the CDN host of a task to archive, the family of a task to query.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from archiver.failures import UNLISTED_HOSTS
from archiver.ledger.tables import schema
from archiver.model import State

UNTRIED = "1:"
"""The rank of tasks that were never tried on their host, and of all tasks to query."""
TRIED = "2:"
LOST = "3:"
RANKS = (UNTRIED, TRIED, LOST)
END = "4"
"""Above every group."""


def untried(host: str | None) -> str:
    """The group of a task that has just succeeded."""
    return UNTRIED + (host or "")


def group_of() -> sa.ColumnElement[str]:
    """The group of a due row."""
    table = schema.tasks
    rank = sa.case((table.c.state == State.LOST, LOST), (table.c.host_tried.is_(True), TRIED), else_=UNTRIED)
    archived = rank + sa.func.coalesce(table.c.asset_host, "")
    queried = sa.literal(UNTRIED) + sa.func.coalesce(table.c.family, table.c.family_hint, "")
    return sa.case((table.c.queue == schema.QUEUE_ARCHIVE, archived), else_=queried)


def covered_by(hold: Mapping[Any, Any]) -> list[str]:
    """The groups that a hold of one host or family stops. A task that was never tried on a held host gets its first
    try. Lost tasks wait for no settings: they keep their own slow rhythm."""
    if hold["host"] == UNLISTED_HOSTS:
        return [TRIED + hold["host"]]
    if hold["host"]:
        return [TRIED + hold["host"], LOST + hold["host"]]
    return [UNTRIED + hold["family"]]
