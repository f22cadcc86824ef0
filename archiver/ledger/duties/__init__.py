"""Duties: what one process at a time does. Querying an account's API is one, the upkeep of the ledger another.

`duties` has the leases, `plan` decides which process should have which duty, `fence` refuses the writes of a process
that has lost its duty.
"""

from archiver.ledger.duties.duties import Duties, DutyView, Round
from archiver.ledger.duties.fence import FencedDatabase
from archiver.ledger.duties.leasing import UPKEEP, Duty, DutyLease, asking

__all__ = ["UPKEEP", "Duties", "Duty", "DutyLease", "DutyView", "FencedDatabase", "Round", "asking"]
