"""The transfer slots of the process, shared out between its accounts.

Two rules:

1. The next free slot goes to whichever account with work has the fewest; of equals, to the one that was given none for
   the longest. So neither a backlog nor slow files of one account keep the tasks of another from their part.
2. One slot is left free for each account that has none, at most a quarter of them all. So a fresh task of an account
   that was idle begins at once, even if all other slots wait for a host that has stopped answering.

Of one account alone there are no others, and every slot is its own. Rejected: a fixed number of slots for each account,
which would leave most of them idle most of the time; and slots in turn, by which an account whose files take ten times
as long would come to hold nearly all of them.

Nothing waits here: an account that gets no slot is woken when one comes free. In memory only, like the work it counts.
"""

import collections
import threading
from collections.abc import Callable, Mapping


class TransferSlots:
    """So many slots. Thread-safe."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._lock = threading.Lock()
        self._taken: collections.Counter[str] = collections.Counter()
        self._waiting: set[str] = set()
        """Accounts that have work and got fewer slots than they wanted when they last asked."""
        self._given_at: dict[str, int] = {}
        """When an account was last given one, in takes counted."""
        self._takes = 0
        self._wakes: dict[str, Callable[[], None]] = {}

    def join(self, account: str, *, wake: Callable[[], None]) -> None:
        """Call `wake` (from any thread, with no lock held) when a slot comes free that `account` waits for."""
        self._wakes[account] = wake

    def take(self, account: str, most: int) -> int:
        """Take up to `most` slots for work that is due; how many it is now."""
        with self._lock:
            given = min(most, self._share(account, wanted=most))
            self._taken[account] += given
            self._takes += 1
            if given:
                self._given_at[account] = self._takes
            if given < most:
                self._waiting.add(account)
            else:
                self._waiting.discard(account)
            return given

    def idle(self, account: str) -> None:
        """The account is idle; no slot is reserved for it."""
        with self._lock:
            self._waiting.discard(account)

    def give_back(self, account: str, count: int = 1) -> None:
        """Slots that are not needed any more."""
        if not count:
            return
        with self._lock:
            self._taken[account] -= count
            wakes = [self._wakes[one] for one in self._waiting if one in self._wakes]
        for wake in wakes:
            wake()

    def _share(self, account: str, *, wanted: int) -> int:
        """How many of the free slots are this account's, were they dealt out one by one by the two rules."""
        free = self._total - self._taken.total()
        counts = {one: self._taken[one] for one in {*self._wakes, *self._waiting, account}}
        own = counts[account]
        while free > 0 and counts[account] - own < wanted:
            entitled = [one for one in {*self._waiting, account} if free > self._left_by(one, counts)]
            if not entitled:
                break
            fewest = min(entitled, key=lambda one: (counts[one], self._given_at.get(one, 0), one))
            counts[fewest] += 1
            free -= 1
        return counts[account] - own

    def _left_by(self, account: str, counts: Mapping[str, int]) -> int:
        """How many free slots the account leaves to those that have none; having none itself, it leaves nothing."""
        if not counts[account]:
            return 0
        return min(list(counts.values()).count(0), self._total // 4)
