"""Leases: which rows a worker may work on, and for how long. Start at `claims`."""

from archiver.ledger.claims.claims import Claims
from archiver.ledger.claims.leasing import LEASE_SECONDS, TAKEOVER_MS, TAKEOVER_SECONDS
from archiver.ledger.claims.matching import PendingCounts

__all__ = ["LEASE_SECONDS", "TAKEOVER_MS", "TAKEOVER_SECONDS", "Claims", "PendingCounts"]
