"""Whether this machine's clock agrees with the clocks of the APIs. A clock that is known to be wrong decides no
deadline."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from archiver.kling.client import KlingClient
from archiver.model import Problem
from archiver.phrases import span

SKEW_MS_MAX = 5 * 60 * 1000
"""While the local clock and the API's differ by more, no deadline of the account is decided."""
AGE_MS_MAX = 15 * 60 * 1000
"""How old the API's last answer may be, or two sweep intervals, for our clock to be believed."""
UNDATED_ANSWERS_MIN = 3
"""After this many answers of its own in a row without a `Date`, the API counts as one that sends none. A start with
four families asks more than that."""

WHAT_TO_DO = (
    "Set this machine's clock by NTP. Until then the daemon declares no task lost, and checks the times of signed "
    "callbacks against the API's clock."
)
WHAT_TO_DO_UNCHECKED = (
    "Nothing checks this machine's clock, which decides the deadlines: keep it right by NTP."
)


@dataclasses.dataclass(frozen=True)
class ApiClocks:
    """Compares our clock with the API's of each account. `now` gives Unix ms."""

    clients: Mapping[str, KlingClient]
    """By account: whose clock decides about its deadlines."""
    sweep_interval_ms: int
    now: Callable[[], int]

    def widest_skew_ms(self) -> int | None:
        """The largest difference: how far that API's clock is ahead of ours; None before the first answer."""
        skews = [
            client.skew_ms
            for account, client in self.clients.items()
            if client.skew_ms is not None and not self.is_unchecked(account)
        ]
        return max(skews, key=abs, default=None)

    def skewed(self) -> Iterator[tuple[str, int]]:
        """Accounts whose API's clock differs too much from ours, and by how many ms."""
        for account, client in self.clients.items():
            off = client.skew_ms is not None and abs(client.skew_ms) > SKEW_MS_MAX
            if client.skew_ms is not None and off and not self.is_unchecked(account):
                yield account, client.skew_ms

    def skew_ms(self, account: str) -> int | None:
        """How far the account's API's clock is ahead of ours; None while it has not told its time lately."""
        client = self.clients[account]
        return client.skew_ms if self._is_recent(client.skew_measured_at) else None

    def is_unchecked(self, account: str) -> bool:
        """The account's API sends no `Date`: our clock cannot be compared with its."""
        return self.clients[account].undated_answers >= UNDATED_ANSWERS_MIN

    def problems(self) -> Iterator[Problem]:
        """The accounts whose API's clock differs from ours, or cannot be compared with it."""
        for account, skew_ms in self.skewed():
            side = "behind" if skew_ms > 0 else "ahead of"
            message = f"this machine's clock is {span(abs(skew_ms))} {side} the API's"
            yield _problem(account, "clock_skewed", message, WHAT_TO_DO)
        for account in self.clients:
            if self.is_unchecked(account):
                message = "the API sends no Date header, so nothing checks this machine's clock"
                yield _problem(account, "clock_unchecked", message, WHAT_TO_DO_UNCHECKED)

    def may_decide(self, account: str) -> bool:
        """Whether our clock may decide a deadline of the account: its API has answered lately and told a time like
        ours, or tells none at all."""
        skew_ms = self.skew_ms(account)
        if skew_ms is None and self.is_unchecked(account):
            return self._is_recent(self.clients[account].answered_at)
        return skew_ms is not None and abs(skew_ms) <= SKEW_MS_MAX

    def is_lately(self, moment_ms: int | None) -> bool:
        """Whether this moment (Unix ms) is recent enough to rely on."""
        return self._is_recent(None if moment_ms is None else moment_ms / 1000)

    def _is_recent(self, moment: float | None) -> bool:
        """A local clock that was set since `moment` makes its age absurd."""
        if moment is None:
            return False
        return 0 <= self.now() - moment * 1000 <= max(AGE_MS_MAX, 2 * self.sweep_interval_ms)


def _problem(account: str, reason: str, message: str, what_to_do: str) -> Problem:
    return Problem("settings", message, what_to_do, account, stage="clock", reason=reason)
