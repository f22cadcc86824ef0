"""Reads list pages for verification."""

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
        memory = self.ledger.sweeps.memory(account=self.account, family=family)
        rows = memory.page_rows or PAGE_ROWS
        return Listing(
            lambda number: self.client.list_page(family, page=number, size=rows, priority=priority),
            oldest_first=memory.oldest_first,
            last_page=memory.last_page,
        )

    def log_unreadable(self, family: str, error: Failure) -> None:
        """Count and log an unreadable list; back off if the API refuses us.

        A list sets no hold: individual queries, which answer instead, set it where the refusal concerns the account.
        A gateway may refuse lists alone, and each individual answer would lift the hold that each list sets.
        """
        self.metrics.failures_total.labels(
            account=self.account, stage=Stage.VERIFY, reason=error.reason
        ).inc()
        if error.disposition is Disposition.HOLD:
            self.availability.back_off(family)
        log.get().warning("list.unreadable", family=family, reason=error.reason, message=str(error))
