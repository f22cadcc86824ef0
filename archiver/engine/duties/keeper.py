"""The duties of this process, by its own clock.

A lease ends here `LEASE_SECONDS` after the process *asked* for it, by a clock that also runs while the machine is
suspended. The ledger does not give it to another process for another five seconds. So this process stops beginning work
before another one begins. Work in flight may end; the ledger refuses its writes once another process has the account
(`ledger/duties/fence`).

A duty that another process should have is given to it as soon as the queries in flight are answered. A process that
ends in order gives back everything.

What a process remembers of an API starts afresh when it takes the account over: the sweeps are due, the API is looked
at, the ledger says which endpoints are unavailable, the query rate is the configured one. That costs a few list pages,
and one answer "too fast" where the API had slowed the last process down. The burst is not given twice: if another
process has sent queries until just now, this one waits for the first second.
"""

import dataclasses
import threading
from collections.abc import Callable, Collection, Mapping, Sequence

from archiver import log
from archiver.clock import seconds_passed
from archiver.engine.api_clocks import ApiClocks
from archiver.engine.worker import Worker
from archiver.kling.client import KlingClient
from archiver.leases import RENEW_SECONDS
from archiver.ledger import UPKEEP, Duty, DutyLease, Ledger, asking, new_daemon_name
from archiver.ledger.claims import LEASE_SECONDS

LEAVE_SECONDS = 20.0
"""How long queries under way may delay giving an account to another process."""


class DutyKeeper:
    """The duties of this process. Thread-safe, except `step` and `leave`."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        name: str,
        accounts: Sequence[str],
        sound: Callable[[], Collection[str]] = tuple,
        monotonic: Callable[[], float] = seconds_passed,
    ) -> None:
        """`name` is that of the process in `daemons`, `accounts` are those of its settings, `sound` tells for which of
        them the API's clock agrees with the ledger's."""
        self.name = name
        self.is_asking: Callable[[str], bool] = lambda _account: False
        """Whether questions of the account are under way."""
        self.on_taken: Callable[[DutyLease], None] = lambda _lease: None
        """Called for each duty before it begins."""
        self.shunned: Callable[[], Collection[str]] = frozenset
        """Accounts whose API this process does not reach: others should ask for them."""
        self._ledger = ledger
        self._accounts = tuple(accounts)
        self._sound = sound
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._held: dict[Duty, tuple[DutyLease, float]] = {}
        """Held duties, with the end of each lease."""
        self._leaving: dict[Duty, float] = {}
        """Duties that other processes should have, and since when."""
        self._round_at = float("-inf")

    def token(self, duty: Duty) -> str | None:
        """The token of the lease while it lasts: running work may still write."""
        with self._lock:
            lease, ends_at = self._held.get(duty, (None, 0.0))
            return lease.token if lease is not None and self._monotonic() < ends_at else None

    def may_begin(self, duty: Duty) -> str | None:
        """The token of the lease while new work may begin."""
        with self._lock:
            is_leaving = duty in self._leaving
        return None if is_leaving else self.token(duty)

    def keeps_up(self) -> bool:
        """Whether this process does the upkeep."""
        return self.may_begin(UPKEEP) is not None

    def accounts(self) -> tuple[str, ...]:
        """The accounts that this process asks for."""
        return tuple(account for account in self._accounts if self.token(asking(account)) is not None)

    def step(self) -> None:
        """Give duties to processes that should have them and can take them. Renew leases and take more duties when it
        is time. Raises LedgerUnavailable."""
        self._give_away()
        is_due = self._monotonic() >= self._round_at + RENEW_SECONDS
        if is_due or self._ledger.duties.is_restless(self.name, accounts=self._wanted(), held=self._leases()):
            self._round()

    def leave(self) -> None:
        """The process ends in order. Raises LedgerUnavailable; then the leases end by themselves."""
        leases = self._leases()
        with self._lock:
            self._held.clear()
        self._ledger.duties.leave(self.name, held=leases)

    def _wanted(self) -> list[str]:
        shunned = self.shunned()
        return [account for account in self._accounts if account not in shunned]

    def _leases(self) -> tuple[DutyLease, ...]:
        with self._lock:
            return tuple(lease for lease, _ in self._held.values())

    def _give_away(self) -> None:
        with self._lock:
            leaving = [(self._held[duty][0], since) for duty, since in self._leaving.items()]
        now = self._monotonic()
        given = [
            lease
            for lease, since in leaving
            if now - since >= LEAVE_SECONDS or not self.is_asking(lease.duty.account)
        ]
        if not given:
            return
        with self._lock:
            for lease in given:
                del self._held[lease.duty], self._leaving[lease.duty]
        self._ledger.duties.release(given)
        for lease in given:
            _log("duty.left", lease.duty)

    def _round(self) -> None:
        asked_at = self._monotonic()
        before = self._leases()
        part = self._ledger.duties.take_part(
            self.name, accounts=self._wanted(), held=before, sound=self._sound()
        )
        taken = [lease for lease in part.held if lease not in before]
        for lease in taken:
            self.on_taken(lease)
        with self._lock:
            self._held = {lease.duty: (lease, asked_at + LEASE_SECONDS) for lease in part.held}
            self._leaving = {lease.duty: self._leaving.get(lease.duty, asked_at) for lease in part.surplus}
        self._round_at = asked_at
        for lease in taken:
            _log("duty.taken", lease.duty)
        for lease in before:
            if lease not in part.held:
                log.get().warning("duty.lost", duty=lease.duty.kind, account=lease.duty.account or None)


@dataclasses.dataclass(frozen=True)
class Tenure:
    """The right to query the API for one account, as the account's loops see it."""

    keeper: DutyKeeper
    account: str

    def token(self) -> str | None:
        """The token of the lease while running work may still write."""
        return self.keeper.token(asking(self.account))

    def may_ask(self) -> str | None:
        """The token of the lease while queries may begin. A different token means that another process may have asked
        in between."""
        return self.keeper.may_begin(asking(self.account))


def build_keeper(
    ledger: Ledger,
    clients: Mapping[str, KlingClient],
    clocks: ApiClocks,
    workers: Mapping[str, Worker],
) -> DutyKeeper:
    """For a process with these accounts. `workers` is filled before the first duty is taken."""
    keeper = DutyKeeper(
        ledger,
        name=new_daemon_name(),
        accounts=tuple(clients),
        sound=lambda: [account for account in clients if clocks.may_decide(account)],
    )

    def begin(lease: DutyLease) -> None:
        if lease.follows and lease.duty != UPKEEP:
            clients[lease.duty.account].limiter.spend_burst()

    keeper.on_taken = begin
    keeper.is_asking = lambda account: account in workers and workers[account].is_asking()
    return keeper


def _log(event: str, duty: Duty) -> None:
    log.get().info(event, duty=duty.kind, account=duty.account or None)
