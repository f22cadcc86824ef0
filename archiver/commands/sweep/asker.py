"""A sweep by the command itself: only while no daemon asks the API for the account, and with the account's lease."""

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from archiver.commands.sweep.progress import SweepProgress
from archiver.composition.clients import build_account
from archiver.config.settings import Settings
from archiver.engine.stages import Clock, build_sweeper
from archiver.failures import Deposed, LedgerUnavailable
from archiver.leases import RENEW_SECONDS
from archiver.ledger import DutyLease, Ledger, asking
from archiver.metrics import Metrics
from archiver.sweep.counts import SweepCounts, SweepEnd
from archiver.sweep.dry_run import DryRun, FamilyForecast


class Asker:
    """Sweeps one account in this process. Use it as a context, which gives the lease on the account back."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        progress: SweepProgress,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._progress = progress
        self._monotonic = monotonic
        self.account = settings.account
        self._duty = asking(settings.account)
        self._lease: DutyLease | None = None
        self._renewed_at = 0.0
        metrics = Metrics()
        account = build_account(settings, metrics, stop=threading.Event())
        self._client = account.client
        fenced = ledger.fenced(self._duty, lambda: self._lease.token if self._lease else None)
        self._sweeper = build_sweeper(account, ledger=fenced, metrics=metrics, clock=Clock())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()
        with contextlib.suppress(LedgerUnavailable):  # then the lease ends by itself
            self._give_back()

    def has_another(self) -> bool:
        """Whether a daemon lives that asks for the account, or is about to."""
        return self._ledger.duties.is_wanted(self._duty.account)

    def dry_run(self, families: Sequence[str], *, full: bool) -> list[FamilyForecast] | None:
        """Count what a sweep would bring; None where another process has the account, or has begun to want it. Raises
        LedgerUnavailable."""
        if not self._has_taken():
            return None
        run = DryRun(self._sweeper, families, is_full=full)
        try:
            for counts in run.pages():
                self._progress.page(counts)
                self._keep()
        except Deposed:
            self._give_back()
            return None
        return run.forecasts

    def sweep(self, family: str, *, full: bool) -> SweepCounts:
        """Sweep it; BUSY where another process has the account or the family, OVERTAKEN where one has begun to want
        the account meanwhile. Raises Failure."""
        counts = SweepCounts(family, full)
        if not self._has_taken():
            return dataclasses.replace(counts, end=SweepEnd.BUSY)

        def on_page(counted: SweepCounts) -> None:
            nonlocal counts
            counts = counted
            self._progress.page(counted)
            self._keep()

        try:
            return self._sweeper.sweep(
                family, full=full or self._sweeper.is_full_due(family), on_page=on_page
            )
        except Deposed:
            self._give_back()
            return dataclasses.replace(counts, end=SweepEnd.OVERTAKEN)

    def _has_taken(self) -> bool:
        """Whether the account is ours."""
        if self._lease is None:
            self._lease = self._ledger.duties.take(self._duty, holder=f"command-{os.getpid()}")
            self._renewed_at = self._monotonic()
        return self._lease is not None

    def _keep(self) -> None:
        """Raises Deposed where another process has the account, or should have it."""
        if self.has_another() or self._lease is None:
            raise Deposed(self._duty.account)
        if self._monotonic() - self._renewed_at >= RENEW_SECONDS:
            self._renewed_at = self._monotonic()
            if not self._ledger.duties.renew(self._lease):
                raise Deposed(self._duty.account)

    def _give_back(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            self._ledger.duties.release([lease])
