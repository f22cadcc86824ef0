"""How a lease ends. Start at `outcomes`."""

from archiver.ledger.outcomes.not_found import GRACE_MS
from archiver.ledger.outcomes.outcomes import Outcomes

__all__ = ["GRACE_MS", "Outcomes"]
