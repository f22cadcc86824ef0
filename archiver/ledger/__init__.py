"""The ledger: every task and what it waits for, in SQL. `Ledger` is the way in; its module says how the parts fit."""

from archiver.ledger.databases.sqlite import LedgerMissing, LedgerUnusable
from archiver.ledger.deadlines import Expired
from archiver.ledger.ledger import Ledger, Retried, new_daemon_id, unix_ms
from archiver.ledger.records import Outcome, Recorded
from archiver.ledger.sweeps import SweepMemory
from archiver.ledger.views import Known, Standing, Waiting

__all__ = [
    "Expired",
    "Known",
    "Ledger",
    "LedgerMissing",
    "LedgerUnusable",
    "Outcome",
    "Recorded",
    "Retried",
    "Standing",
    "SweepMemory",
    "Waiting",
    "new_daemon_id",
    "unix_ms",
]
