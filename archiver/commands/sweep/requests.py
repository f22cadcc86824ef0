"""A sweep that the daemon does for this command, page by page on this screen."""

import contextlib
from collections.abc import Callable

from archiver.commands.sweep.asker import Asker
from archiver.commands.sweep.progress import SweepProgress
from archiver.failures import LedgerUnavailable
from archiver.ledger import Ledger, ToldFailure
from archiver.sweep.counts import SweepCounts, SweepEnd

POLL_SECONDS = 0.5


def show_request(
    ledger: Ledger,
    asker: Asker,
    family: str,
    *,
    full: bool,
    progress: SweepProgress,
    wait: Callable[[float], object],
) -> tuple[SweepCounts, ToldFailure | None] | None:
    """Ask for a sweep and show it until it ends; None where no daemon is left to do it."""
    progress.leave_to_daemon()
    requests = ledger.sweep_requests
    request_id = requests.request(account=asker.account, family=family, is_full=full)
    try:
        while True:
            shown = requests.progress(request_id)
            counts = SweepCounts(family, full)
            if shown is not None and shown.counts:
                counts = SweepCounts(**{**shown.counts, "end": SweepEnd(shown.counts["end"])})
                progress.page(counts)
            if shown is not None and shown.has_ended:
                return counts, shown.failure
            if shown is None or not asker.has_another():
                return None
            wait(POLL_SECONDS)
    finally:
        with contextlib.suppress(LedgerUnavailable):  # it is dropped after a day
            requests.withdraw(request_id)
