"""An id that the API does not know: for how long it is queried again, and when it becomes `unknown`."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from archiver.failures import TaskNotFound, backoff_ms
from archiver.ledger.outcomes.fencing import RELEASED, delete, write
from archiver.ledger.tables.history import add_line, trim
from archiver.model import DAY_MS, Lease, State

GRACE_MS = 10 * 60 * 1000
"""How long the API may not know an id, from the first definite not-found, before the id is `unknown`."""
UNCERTAIN_GRACE_MS = DAY_MS
"""The same, if nothing shows that the API works well: a gateway may be at fault."""


def still_unknown(
    connection: sa.Connection,
    lease: Lease,
    row: Mapping[Any, Any],
    *,
    grace_ms: int,
    now: int,
    rand: float,
) -> State:
    """The API does not know an unconfirmed id; the state that it is in now."""
    since, asked = row["not_found_since"] or now, row["asked"] + 1
    message = "the API does not know this id"
    values = {
        **RELEASED,
        "not_found_since": since,
        "asked_at": now,
        "asked": asked,
        "attempts": 0,
        "held": 0,
        "reason": TaskNotFound.reason,
        "message": message,
    }
    if now - since < grace_ms:
        # Past the short grace, only an uncertain denial is left, perhaps a gateway's bad hour: query rarely, but the
        # same day.
        seconds_max = 120 if now - since < GRACE_MS else 3600
        due_at = now + backoff_ms(asked, rand=rand, first_seconds=2, seconds_max=seconds_max)
        write(connection, lease, {**values, "due_at": due_at, "query_individually": False})
        return State(row["state"])
    if lease.is_console_test:
        # It named no real task. If it was a genuine callback after all, the next one or the sweep brings the id back.
        delete(connection, lease)
        return State.UNKNOWN
    # No list page has shown it: from now on it is queried individually, once a day.
    unknown = {"state": State.UNKNOWN, "due_at": now + DAY_MS, "query_individually": True}
    write(connection, lease, {**values, **unknown})
    if row["state"] != State.UNKNOWN:
        add_line(connection, lease.row_id, at=now, event="task.not_found", detail=message)
        trim(connection, lease.row_id)
    return State.UNKNOWN
