"""The ledger: every task and what it waits for, in SQL.

`ledger.Ledger` opens the database and holds the parts, one module each; `outcomes` writes when a task is due again.
"""

from archiver.ledger.audits import AuditedTask, AuditTotals, RecordedObject, WantedBack
from archiver.ledger.claims import PendingCounts
from archiver.ledger.daemons import DaemonView, Service, new_daemon_name
from archiver.ledger.databases.clock import unix_ms
from archiver.ledger.databases.errors import (
    LedgerAltered,
    LedgerMissing,
    LedgerRefused,
    LedgerTaken,
    LedgerUnfit,
    LedgerUnusable,
)
from archiver.ledger.databases.protocol import Obstacle
from archiver.ledger.deadlines import Expiry
from archiver.ledger.duties import UPKEEP, Duty, DutyLease, DutyView, Round, asking
from archiver.ledger.files import FileView
from archiver.ledger.folder_work import DroppedAmendment, FolderLease, WantedObject
from archiver.ledger.forwards import (
    ForwardContent,
    ForwardLease,
    ForwardView,
)
from archiver.ledger.gateway_creates.by_time import MatchDoubt
from archiver.ledger.gateway_creates.doubts import DoubtedCreates, DoubtView
from archiver.ledger.gateway_creates.joining import Joined
from archiver.ledger.holds import HoldOutcome, HoldView
from archiver.ledger.ledger import Ledger
from archiver.ledger.rebuilding import ROWS_MAX as REBUILT_ROWS_MAX
from archiver.ledger.rebuilding import TASKS_MAX as REBUILT_TASKS_MAX
from archiver.ledger.rebuilding import FolderContents, RebuiltTask
from archiver.ledger.records import KnownState, RecordedTask, RecordOutcome
from archiver.ledger.registrations import ExistingTask, RetryResult
from archiver.ledger.second_looks import (
    Doubt,
    DoubtedObject,
    ExpectedFolder,
    MissingObject,
    MissingState,
    StoreTrust,
)
from archiver.ledger.status.acknowledgements import Acknowledged
from archiver.ledger.status.alerts import Alert, AlertMessage
from archiver.ledger.status.trends import HourView
from archiver.ledger.status.view import StatusView, SweepView, TaskInTime, TasksInTime
from archiver.ledger.sweep_requests import DRY_RUN, RequestProgress, SweepRequest, ToldFailure
from archiver.ledger.sweeps import SweepMemory
from archiver.ledger.tables.forwards import (
    OPERATOR_CONSUMER,
    PASSED_ON,
    ForwardEvent,
    ForwardState,
    ForwardTarget,
    queue_for_client,
)
from archiver.ledger.tombstones import Forgotten, Tombstone
from archiver.ledger.views import AssetView, TaskView

__all__ = [
    "DRY_RUN",
    "OPERATOR_CONSUMER",
    "PASSED_ON",
    "REBUILT_ROWS_MAX",
    "REBUILT_TASKS_MAX",
    "UPKEEP",
    "Acknowledged",
    "Alert",
    "AlertMessage",
    "AssetView",
    "AuditTotals",
    "AuditedTask",
    "DaemonView",
    "Doubt",
    "DoubtView",
    "DoubtedCreates",
    "DoubtedObject",
    "DroppedAmendment",
    "Duty",
    "DutyLease",
    "DutyView",
    "ExistingTask",
    "ExpectedFolder",
    "Expiry",
    "FileView",
    "FolderContents",
    "FolderLease",
    "Forgotten",
    "ForwardContent",
    "ForwardEvent",
    "ForwardLease",
    "ForwardState",
    "ForwardTarget",
    "ForwardView",
    "HoldOutcome",
    "HoldView",
    "HourView",
    "Joined",
    "KnownState",
    "Ledger",
    "LedgerAltered",
    "LedgerMissing",
    "LedgerRefused",
    "LedgerTaken",
    "LedgerUnfit",
    "LedgerUnusable",
    "MatchDoubt",
    "MissingObject",
    "MissingState",
    "Obstacle",
    "PendingCounts",
    "RebuiltTask",
    "RecordOutcome",
    "RecordedObject",
    "RecordedTask",
    "RequestProgress",
    "RetryResult",
    "Round",
    "Service",
    "StatusView",
    "StoreTrust",
    "SweepMemory",
    "SweepRequest",
    "SweepView",
    "TaskInTime",
    "TaskView",
    "TasksInTime",
    "ToldFailure",
    "Tombstone",
    "WantedBack",
    "WantedObject",
    "asking",
    "new_daemon_name",
    "queue_for_client",
    "unix_ms",
]
