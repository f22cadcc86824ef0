"""Opens families' lists for verification, and logs those that cannot be read."""

import dataclasses

from archiver import log
from archiver.failures import Disposition, Failure
from archiver.kling.client import KlingClient
from archiver.kling.limiter import Priority
from archiver.kling.listing import Listing
from archiver.kling.pages import PAGE_ROWS
from archiver.ledger import Ledger
from archiver.metrics import Metrics
from archiver.model import Stage
from archiver.verify.availability import Availability


@dataclasses.dataclass(frozen=True)
class FamilyLists:
    """The lists of one account."""

    account: str
    client: KlingClient
    ledger: Ledger
    availability: Availability
    metrics: Metrics

    def open(self, family: str, priority: Priority) -> Listing:
        """The list of `family`, read from its newest end as sweeps have found it."""
        memory = self.ledger.sweep_memory(account=self.account, family=family)
        return Listing(
            lambda number: self.client.list_page(family, page=number, size=PAGE_ROWS, priority=priority),
            oldest_first=memory.oldest_first,
            last_page=memory.last_page,
        )

    def log_unreadable(self, family: str, error: Failure) -> None:
        """Count and log that the list cannot be read, and back off from it where the API refuses us.

        Individual queries answer instead, and meet whatever concerns the account; they set the hold. A list must not: a
        gateway may refuse lists alone, so each individual answer would lift the hold and each list set it again.
        """
        self.metrics.failures_total.labels(stage=Stage.VERIFY, reason=error.reason).inc()
        if error.disposition is Disposition.HOLD:
            self.availability.back_off(family)
        log.get().warning("list.unreadable", family=family, reason=error.reason, message=str(error))
