"""Sweeps that a command has requested: which of them wait, and the progress that the command shows."""

import dataclasses

from archiver.failures import ApiTokenRefused, ApiUnreachable, Disposition, Failure
from archiver.ledger import Ledger, SweepRequest, ToldFailure
from archiver.sweep.counts import SweepCounts


def concerns_every_family(error: Failure) -> bool:
    """Whether every other family would fail in the same way: the keys are refused, or the network is down."""
    of_account = error.disposition is Disposition.HOLD and error.family is None
    return of_account or isinstance(error, ApiUnreachable | ApiTokenRefused)


class RequestedSweeps:
    """The requested sweeps of one account. Requests for the same family wait for one another. Raises
    LedgerUnavailable."""

    def __init__(self, ledger: Ledger, *, account: str) -> None:
        self._requests = ledger.sweep_requests
        self._account = account
        self._taken: dict[str, SweepRequest] = {}
        self.dry_runs: tuple[SweepRequest, ...] = ()
        """The dry runs that wait, as last read."""

    def __contains__(self, family: str) -> bool:
        return family in self._taken

    def take(self, families: frozenset[str], *, busy: frozenset[str]) -> list[str]:
        """Take the waiting requests; the families to sweep now. A `busy` family is taken after its present sweep, which
        may have read the newest page already."""
        new: list[str] = []
        waiting = self._requests.open(account=self._account)
        self.dry_runs = tuple(request for request in waiting if request.is_dry_run)
        for request in waiting:
            if request.is_dry_run:
                continue
            if request.family not in families:
                self._requests.end(request.id, {}, failure=unswept(request.family))
            elif request.family not in self._taken and request.family not in busy:
                self._taken[request.family] = request
                new.append(request.family)
        return new

    def is_full(self, family: str) -> bool:
        """Whether a full sweep of it was asked for."""
        return family in self._taken and self._taken[family].is_full

    def advance(self, counts: SweepCounts) -> None:
        """A page was read."""
        if request := self._taken.get(counts.family):
            self._requests.advance(request.id, dataclasses.asdict(counts))

    def end(self, counts: SweepCounts, error: Exception | None = None) -> None:
        """The sweep has ended, well or with an error."""
        if request := self._taken.get(counts.family):
            failure = None if error is None else told(error)
            self._requests.end(request.id, dataclasses.asdict(counts), failure=failure)
            del self._taken[counts.family]

    def forget(self) -> None:
        """Forget the requests: another process continues them."""
        self._taken.clear()
        self.dry_runs = ()


def told(error: Exception) -> ToldFailure:
    """The failure as the command shows it."""
    if not isinstance(error, Failure):
        message = f"an unexpected error, {type(error).__name__}"
        return ToldFailure(Failure.reason, message, "See the daemon's log.", concerns_account=False)
    concerns_account = concerns_every_family(error)
    return ToldFailure(error.reason, str(error), error.what_to_do, concerns_account=concerns_account)


def unswept(family: str) -> ToldFailure:
    """The failure for a family that the daemon does not sweep."""
    return ToldFailure(
        "family_unswept",
        f"the daemon that asks for this account does not sweep {family}",
        "Give it the same KLING_FAMILIES, and restart it.",
        concerns_account=False,
    )
