"""What a task is: states, the transition table, assets, leases and bucket keys. No I/O.

1. State only moves forward, as `TRANSITIONS` says. The ledger turns it into ``UPDATE … WHERE state IN (…)`` and CHECKs.
2. A key is made from the family, the UTC day of `created_at`, the task id and the asset's name; never from user input.

Times are integers: Unix milliseconds, as the API speaks them (archiver/kling/API.md 1.3).

    states      states, transitions, stages
    task        what Kling says of a task: callback, answer, assets
    lease       the right to work on a task
    problem     what an operator must know of
    names       ids, families, accounts, keys
    timestamps  Unix milliseconds and RFC 3339
"""

from archiver.model.lease import Lease, LeasedAsset
from archiver.model.names import (
    ACCOUNT_NAME,
    FAMILY,
    LOOKS_LIKE_TASK_ID,
    TASK_ID,
    folder_day,
    task_folder,
    text,
)
from archiver.model.problem import PROBLEM_CODES, Problem
from archiver.model.states import TERMINAL, TRANSITIONS, FolderWorkKind, Lane, Stage, State
from archiver.model.task import (
    STATUS_WORDS,
    Asset,
    Callback,
    CallbackOutcome,
    DiscoveredBy,
    Place,
    Role,
    Status,
    StoredAsset,
    Task,
)
from archiver.model.timestamps import DAY_MS, RETENTION_MS, api_time, rfc3339

__all__ = [
    "ACCOUNT_NAME",
    "DAY_MS",
    "FAMILY",
    "LOOKS_LIKE_TASK_ID",
    "PROBLEM_CODES",
    "RETENTION_MS",
    "STATUS_WORDS",
    "TASK_ID",
    "TERMINAL",
    "TRANSITIONS",
    "Asset",
    "Callback",
    "CallbackOutcome",
    "DiscoveredBy",
    "FolderWorkKind",
    "Lane",
    "Lease",
    "LeasedAsset",
    "Place",
    "Problem",
    "Role",
    "Stage",
    "State",
    "Status",
    "StoredAsset",
    "Task",
    "api_time",
    "folder_day",
    "rfc3339",
    "task_folder",
    "text",
]
