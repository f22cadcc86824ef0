"""Duties: what one process at a time does. To ask an account's API is one, the upkeep of the ledger another.

`duties` has the leases, `plan` says which process should have which, `fence` refuses the writes of one that has lost
its own.
"""

from archiver.ledger.duties.duties import Duties, DutyView, Round
from archiver.ledger.duties.fence import FencedDatabase
from archiver.ledger.duties.leasing import UPKEEP, Duty, DutyLease, asking

__all__ = ["UPKEEP", "Duties", "Duty", "DutyLease", "DutyView", "FencedDatabase", "Round", "asking"]
