"""How a lease ends. `outcomes` is the way in."""

from archiver.ledger.outcomes.not_found import GRACE_MS
from archiver.ledger.outcomes.outcomes import Outcomes

__all__ = ["GRACE_MS", "Outcomes"]
