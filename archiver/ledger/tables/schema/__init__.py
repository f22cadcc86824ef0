"""The tables, with the state machine repeated as CHECKs: a row of a wrong shape cannot be committed.

Times are Unix ms. Nothing waits in memory: `queue` says which stage works on a task, `due_at` when, and a row in
`holds` may stop a whole stage.

    task          tasks, their queues and indexes
    task_records  counts, history, creates of the gateway, forgotten ids
    files         assets, and what the bucket has of them
    stages        holds, sweeps
    messages      forwards, alerts
    processes     daemons, duties, named values
    elements      what all of these are declared with
"""

from archiver.ledger.tables.schema.elements import ROW_ID, metadata
from archiver.ledger.tables.schema.files import (
    amendments,
    assets,
    folder_work,
    missing_objects,
    second_looks,
    trust,
)
from archiver.ledger.tables.schema.messages import alert_messages, alerts, forward_counts, forwards
from archiver.ledger.tables.schema.processes import askers, daemons, duties, named_values, schema_uses
from archiver.ledger.tables.schema.stages import doubts, holds, passed_over, sweep_requests, sweeps
from archiver.ledger.tables.schema.task import (
    QUEUE_ARCHIVE,
    QUEUE_UNCONFIRMED,
    QUEUE_VERIFY,
    STAGE_QUEUES,
    tasks,
)
from archiver.ledger.tables.schema.task_records import (
    forgotten,
    gateway_creates,
    history,
    hourly_counts,
    task_counts,
)

__all__ = [
    "QUEUE_ARCHIVE",
    "QUEUE_UNCONFIRMED",
    "QUEUE_VERIFY",
    "ROW_ID",
    "STAGE_QUEUES",
    "alert_messages",
    "alerts",
    "amendments",
    "askers",
    "assets",
    "daemons",
    "doubts",
    "duties",
    "folder_work",
    "forgotten",
    "forward_counts",
    "forwards",
    "gateway_creates",
    "history",
    "holds",
    "hourly_counts",
    "metadata",
    "missing_objects",
    "named_values",
    "passed_over",
    "schema_uses",
    "second_looks",
    "sweep_requests",
    "sweeps",
    "task_counts",
    "tasks",
    "trust",
]
