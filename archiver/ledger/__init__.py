"""The ledger: every task and what it waits for, in SQL. `Ledger` is the way in; its module says how the parts fit."""

from archiver.ledger.databases.sqlite import LedgerMissing, LedgerUnusable
from archiver.ledger.deadlines import Expiry
from archiver.ledger.ledger import Ledger, RetryResult, new_daemon_id, unix_ms
from archiver.ledger.records import RecordedTask, RecordOutcome
from archiver.ledger.sweeps import SweepMemory
from archiver.ledger.views import ExistingTask, KnownState, PendingCounts

__all__ = [
    "ExistingTask",
    "Expiry",
    "KnownState",
    "Ledger",
    "LedgerMissing",
    "LedgerUnusable",
    "PendingCounts",
    "RecordOutcome",
    "RecordedTask",
    "RetryResult",
    "SweepMemory",
    "new_daemon_id",
    "unix_ms",
]
