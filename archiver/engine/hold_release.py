"""A success ends the holds that it disproves: what was held goes on at once."""

from collections.abc import Callable, Sequence

from archiver import log
from archiver.ledger import Ledger
from archiver.model import Lease, Stage


class HoldRelease:
    """Ends the holds of one account."""

    def __init__(self, ledger: Ledger, *, account: str, wake: Callable[[Stage], None]) -> None:
        """`wake(stage)` is called for each stage whose hold has ended."""
        self._ledger = ledger
        self._account = account
        self._wake = wake

    def after_work(self, lease: Lease) -> None:
        """Work on this lease succeeded: its account, family and host do. That says nothing of lists: a gateway may
        refuse them alone."""
        self._release((lease.stage,), family=lease.family or lease.family_hint, host=lease.asset_host)

    def after_sweep(self, family: str) -> None:
        """A sweep of this family came to its end: the API answers, lists too."""
        self._release((Stage.VERIFY, Stage.SWEEP), family=family)

    def _release(self, stages: Sequence[Stage], *, family: str | None, host: str | None = None) -> None:
        if not self._ledger.holds.any():
            return
        ended = self._ledger.holds.release(
            account=self._account, stages=tuple(stages), family=family, host=host
        )
        for reason in ended:
            log.get().info(
                "hold.released", account=self._account, stage=stages[0], family=family, reason=reason
            )
        for stage in stages if ended else ():
            self._wake(stage)
