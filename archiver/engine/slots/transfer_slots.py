"""The transfer slots of the process, shared fairly between its accounts.

Two rules:

1. The next free slot goes to the account with work that has the fewest slots; among equals, to the account that waited
   longest. So neither a backlog nor the slow files of one account take another account's share.
2. One free slot is reserved for each account that has none, at most a quarter of all slots. So a fresh task of an idle
   account starts at once, even while all other slots wait for a host that has stopped answering.

Rejected: a fixed number for each account, most of which would be idle; and slots in turn, which would give nearly all
slots to an account whose files take ten times as long.

No thread waits here: an account that gets no slot is woken when one comes free. In memory only, like the work.
"""

import collections
import threading
from collections.abc import Callable, Mapping


class TransferSlots:
    """A fixed number of transfer slots, shared fairly between accounts. Thread-safe."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._lock = threading.Lock()
        self._taken: collections.Counter[str] = collections.Counter()
        self._waiting: set[str] = set()
        """Accounts that have work and got fewer slots than they wanted when they last asked."""
        self._last_take: dict[str, int] = {}
        """The number of the take that last gave the account a slot."""
        self._takes = 0
        self._wakes: dict[str, Callable[[], None]] = {}

    def join(self, account: str, *, wake: Callable[[], None]) -> None:
        """Call `wake` (from any thread, without a lock) when a slot comes free that `account` waits for."""
        self._wakes[account] = wake

    def take(self, account: str, count_max: int) -> int:
        """Take up to `count_max` slots for work that is due; how many were given."""
        with self._lock:
            given = min(count_max, self._share(account, wanted=count_max))
            self._taken[account] += given
            self._takes += 1
            if given:
                self._last_take[account] = self._takes
            if given < count_max:
                self._waiting.add(account)
            else:
                self._waiting.discard(account)
            return given

    def idle(self, account: str) -> None:
        """The account is idle; no slot is reserved for it."""
        with self._lock:
            self._waiting.discard(account)

    def give_back(self, account: str, count: int = 1) -> None:
        """Free slots, and wake the accounts that wait for one."""
        if not count:
            return
        with self._lock:
            self._taken[account] -= count
            wakes = [self._wakes[waiting] for waiting in self._waiting if waiting in self._wakes]
        for wake in wakes:
            wake()

    def _share(self, account: str, *, wanted: int) -> int:
        """How many free slots the account gets by the two rules."""
        free = self._total - self._taken.total()
        counts = {name: self._taken[name] for name in {*self._wakes, *self._waiting, account}}
        before = counts[account]
        while free > 0 and counts[account] - before < wanted:
            entitled = [name for name in {*self._waiting, account} if free > self._reserved(name, counts)]
            if not entitled:
                break
            fewest = min(entitled, key=lambda name: (counts[name], self._last_take.get(name, 0), name))
            counts[fewest] += 1
            free -= 1
        return counts[account] - before

    def _reserved(self, account: str, counts: Mapping[str, int]) -> int:
        """How many free slots the account must leave to accounts without any."""
        if not counts[account]:
            return 0
        return min(list(counts.values()).count(0), self._total // 4)
