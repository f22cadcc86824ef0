"""What the ledger says of the bucket, for the commands that compare the two, and what they ask to be put back."""

from archiver.ledger.audits.audits import (
    AuditedTask,
    AuditPage,
    Audits,
    AuditTotals,
    RecordedObject,
    WantedBack,
)

__all__ = ["AuditPage", "AuditTotals", "AuditedTask", "Audits", "RecordedObject", "WantedBack"]
