"""What the ledger knows of the bucket, for the commands that compare the two and ask for missing objects to be
restored."""

from archiver.ledger.audits.audits import (
    AuditedTask,
    AuditPage,
    Audits,
    AuditTotals,
    RecordedObject,
    WantedBack,
)

__all__ = ["AuditPage", "AuditTotals", "AuditedTask", "Audits", "RecordedObject", "WantedBack"]
