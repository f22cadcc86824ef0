"""Whether this machine's clock agrees with the APIs': no deadline is decided by a wrong clock."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from archiver.kling.client import KlingClient

SKEW_MS_MAX = 5 * 60 * 1000
"""While the local clock and the API's differ by more, no deadline of the account is decided."""
AGE_MS_MAX = 15 * 60 * 1000
"""How old the API's last answer may be, or two sweep intervals, for our clock to be believed."""

WHAT_TO_DO = "Set this machine's clock by NTP; until then no deadline is decided."


@dataclasses.dataclass(frozen=True)
class ApiClocks:
    """Compares our clock with the API's of each account. `now` gives Unix ms."""

    clients: Mapping[str, KlingClient]
    """By account: whose clock decides about its deadlines."""
    sweep_interval_ms: int
    now: Callable[[], int]

    def widest_skew_ms(self) -> int | None:
        """The largest difference: how far that API's clock is ahead of ours; None before the first answer."""
        skews = [client.skew_ms for client in self.clients.values() if client.skew_ms is not None]
        return max(skews, key=abs, default=None)

    def skewed(self) -> Iterator[tuple[str, int]]:
        """Accounts whose API's clock differs too much from ours, and by how many ms."""
        for account, client in self.clients.items():
            if client.skew_ms is not None and abs(client.skew_ms) > SKEW_MS_MAX:
                yield account, client.skew_ms

    def has_answered(self, account: str) -> bool:
        """Whether the account's API told its time lately. A local clock that was set since makes the age absurd."""
        client = self.clients[account]
        if client.skew_ms is None or client.skew_measured_at is None:
            return False
        age_ms = self.now() - client.skew_measured_at * 1000
        return 0 <= age_ms <= max(AGE_MS_MAX, 2 * self.sweep_interval_ms)
