"""A success ends the holds that it disproves: the held work goes on at once."""

from collections.abc import Callable, Mapping, Sequence, Set

from archiver import log
from archiver.engine.looks.outage import Outages
from archiver.engine.process_holds import ProcessHolds
from archiver.failures import (
    ApiAccountAbnormal,
    ApiAccountInArrears,
    ApiAddressNotAllowed,
    ApiCredentialsRefused,
    ApiForbidden,
    ApiMaintenance,
    ApiPackUsedUp,
    ApiTokenRefused,
    ApiUnreachable,
    Outside,
)
from archiver.ledger import Ledger
from archiver.model import Lease, Stage

LISTS_DISPROVE: Set[str] = frozenset(
    failure.reason
    for failure in (
        ApiUnreachable,
        ApiTokenRefused,
        ApiCredentialsRefused,
        ApiAccountAbnormal,
        ApiAccountInArrears,
        ApiPackUsedUp,
        ApiForbidden,
        ApiAddressNotAllowed,
        ApiMaintenance,
    )
)
"""Reasons for which verification may be held, and which an answered list disproves."""


class HoldRelease:
    """Ends the holds of one account."""

    def __init__(
        self,
        ledger: Ledger,
        outages: Outages,
        *,
        account: str,
        wake: Callable[[Stage], None],
        process_holds: ProcessHolds | None = None,
    ) -> None:
        """`wake(stage)` is called for each stage whose hold has ended."""
        self._ledger = ledger
        self._outages = outages
        self._account = account
        self._wake = wake
        self._process_holds = process_holds

    def after_work(self, lease: Lease) -> None:
        """Work on this lease succeeded: end the holds of its account and family, but not those of lists, which a
        gateway may refuse alone. `after_files` ends the holds of hosts."""
        self._outages.at(lease.stage).worked()
        if self._process_holds is not None:
            self._process_holds.worked(self._account, lease.stage, host=lease.asset_host)
        self._release((lease.stage,), family=lease.family or lease.family_hint)

    def after_files(self, recovered: Mapping[str, Set[str]]) -> None:
        """Hosts have answered: end their holds of these reasons."""
        if self._process_holds is not None:
            self._process_holds.answered(self._account, recovered)
        if not recovered or not self._ledger.holds.any():
            return
        for host, reasons in recovered.items():
            for reason in self._ledger.holds.release_host(account=self._account, host=host, reasons=reasons):
                log.get().info(
                    "hold.released", account=self._account, stage=Stage.ARCHIVE, host=host, reason=reason
                )
                self._wake(Stage.ARCHIVE)

    def after_sweep(self, family: str) -> None:
        """A sweep of this family came to its end: the API is reached, takes the keys, and lists. It may still fail at
        every question for one task."""
        self._outages.of(Outside.API).worked()
        if self._process_holds is not None:
            self._process_holds.worked(self._account, Stage.SWEEP)
        self._release((Stage.SWEEP,), family=family)
        self._release((Stage.VERIFY,), family=family, reasons=LISTS_DISPROVE)

    def _release(
        self, stages: Sequence[Stage], *, family: str | None, reasons: Set[str] | None = None
    ) -> None:
        if not self._ledger.holds.are_disprovable():
            return
        ended = self._ledger.holds.release(
            account=self._account, stages=tuple(stages), family=family, reasons=reasons
        )
        for reason in ended:
            log.get().info(
                "hold.released", account=self._account, stage=stages[0], family=family, reason=reason
            )
        for stage in stages if ended else ():
            self._wake(stage)
