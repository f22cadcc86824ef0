"""A sweep or dry run that the daemon does for this command. The command prints its progress page by page."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from archiver.commands.sweep.asker import Asker
from archiver.commands.sweep.progress import SweepProgress
from archiver.failures import LedgerUnavailable
from archiver.ledger import DRY_RUN, Ledger, RequestProgress, ToldFailure
from archiver.sweep.counts import SweepCounts, SweepEnd
from archiver.sweep.dry_run import FamilyForecast, forecasts_of

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
    progress.leave_to_daemon(
        "the running daemon sweeps, within its query rate; Ctrl-C ends this display and not the sweep."
    )
    request_id = ledger.sweep_requests.request(account=asker.account, family=family, is_full=full)
    with _until_ended(ledger, asker, request_id, wait=wait) as looks:
        for shown in looks:
            counts = SweepCounts(family, full)
            if shown.counts:
                counts = SweepCounts(**{**shown.counts, "end": SweepEnd(shown.counts["end"])})
                progress.page(counts)
            if shown.has_ended:
                return counts, shown.failure
    return None


def show_dry_run(
    ledger: Ledger,
    asker: Asker,
    families: Sequence[str],
    *,
    full: bool,
    progress: SweepProgress,
    wait: Callable[[float], object],
) -> list[FamilyForecast] | None:
    """The same for a dry run of all families."""
    progress.leave_to_daemon("the running daemon counts, within its query rate.")
    request_id = ledger.sweep_requests.request(
        account=asker.account, family=DRY_RUN, is_full=full, dry_run_of=families
    )
    with _until_ended(ledger, asker, request_id, wait=wait) as looks:
        for shown in looks:
            forecasts = forecasts_of(shown.counts)
            for forecast in forecasts:
                progress.page(forecast.counts)
            if shown.has_ended and shown.failure is not None:
                forecasts = forecasts or [FamilyForecast(SweepCounts(families[0], full))]
                forecasts[-1].failure = shown.failure
            if shown.has_ended:
                return forecasts
    return None


@contextlib.contextmanager
def _until_ended(
    ledger: Ledger, asker: Asker, request_id: str, *, wait: Callable[[float], object]
) -> Iterator[Iterator[RequestProgress]]:
    """How far it is, at every look; no more where no daemon is left to do it. Withdraws it in the end."""
    requests = ledger.sweep_requests

    def looks() -> Iterator[RequestProgress]:
        while (shown := requests.progress(request_id)) is not None:
            yield shown
            if not asker.has_another():
                return
            wait(POLL_SECONDS)

    try:
        yield looks()
    finally:
        with contextlib.suppress(LedgerUnavailable):  # it is dropped after a day
            requests.withdraw(request_id)
