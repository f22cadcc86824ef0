"""Within the hour, looks again in the bucket at everything that was archived.

1. One LIST shows many objects. It begins right before the smallest key that waits, and is no longer than the number of
   keys that wait. The next LIST begins at the next key that waits. So there are never more LISTs than there would be
   HEADs. A key that waits alone gets a HEAD.
2. A listing may lag, and may be wrong. An object that it does not show gets a HEAD, and another HEAD after 10 min. Only
   then it counts as missing and is logged (`object.missing`).
3. At most `CALLS_PER_MINUTE_MAX` requests are sent, one at a time, however much is missing: also where the bucket was
   emptied or replaced by another one.

All that waits is in the ledger (`ledger/second_looks`). A crash anywhere costs the looks of one round, which are due
again 5 min after their claim.
"""

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence

from archiver import log
from archiver.failures import Failure, reason_of
from archiver.ledger import Doubt, DoubtedObject, ExpectedFolder, Ledger, MissingObject, MissingState
from archiver.metrics import Metrics
from archiver.model import Stage
from archiver.store import Store

CALLS_PER_MINUTE_MAX = 120
CALL_SECONDS = 60.0 / CALLS_PER_MINUTE_MAX
ROUND_CALLS_MAX = 100
"""For the folders of one round: it ends well before its claims do."""
PAGE_KEYS_MIN, PAGE_KEYS_MAX = 10, 1000
IDLE_SECONDS = 5.0

_WHAT_TO_DO: Mapping[MissingState, str] = {
    MissingState.WANTED: (
        "Something has removed it from the bucket: look for lifecycle rules, and for who may delete there. It is "
        "fetched again once."
    ),
    MissingState.LEFT_ALONE: "It was put back once, and is missing again: this is taken for your wish.",
    MissingState.UNRECOVERABLE: (
        "It lies there in another size. Nothing is overwritten: find out what has written to the bucket."
    ),
}


class _Interrupted(Exception):
    """The round has no requests left, or the process stops."""


@dataclasses.dataclass
class _Requests:
    """The requests of one round, each after a pause."""

    pause: Callable[[], bool]
    left: int = ROUND_CALLS_MAX

    def take(self) -> None:
        """Before each request. Raises _Interrupted."""
        if not self.left or not self.pause():
            raise _Interrupted
        self.left -= 1


@dataclasses.dataclass(frozen=True)
class SecondLook:
    """Looks again at what the accounts of one process have archived."""

    ledger: Ledger
    store: Store
    metrics: Metrics
    accounts: Mapping[str, Callable[[Failure], object]]
    """Account → a function that is called with each failure, because the store may be down."""
    pause: Callable[[], bool]
    """Waits for `CALL_SECONDS`; False once the process stops."""

    def look_once(self) -> bool:
        """One round of each account; whether any had something to do. Raises LedgerUnavailable."""
        busy = [account for account in self.accounts if self._look_at(account)]
        return bool(busy)

    def _look_at(self, account: str) -> bool:
        folders = self.ledger.second_looks.claim(account=account)
        if folders:
            self._see(account, folders)
        doubts = self.ledger.missing_objects.claim(account=account)
        if doubts:
            self._ask_again(account, doubts)
        return bool(folders or doubts)

    # --- folders ----------------------------------------------------------------------------------------------

    def _see(self, account: str, folders: Sequence[ExpectedFolder]) -> None:
        """Look at the folders. If the requests for a day fail, its folders stay claimed: they come later, and the
        others do not wait for them."""
        requests = _Requests(self.pause)
        shown: dict[str, int | None] = {}
        failed_day: str | None = None
        for day, of_day in _by_day(folders).items():
            expected = {key: size for folder in of_day for key, size in folder.sizes.items()}
            try:
                self._fill(shown, day, expected, requests)
            except _Interrupted:
                break
            except Failure as error:
                failed_day = day
                self._failed(account, error)
                break
        seen = [folder for folder in folders if folder.sizes.keys() <= shown.keys()]
        done = {folder.row_id for folder in seen}
        unseen = [folder for folder in folders if folder.row_id not in done and folder.day != failed_day]
        doubted = [
            DoubtedObject(folder.row_id, key)
            for folder in seen
            for key, size in folder.sizes.items()
            if not _fits(shown[key], size)
        ]
        self.ledger.second_looks.finish(seen, place=self.store.location, unseen=unseen, doubted=doubted)

    def _fill(
        self,
        shown: dict[str, int | None],
        day: str,
        expected: Mapping[str, int | None],
        requests: _Requests,
    ) -> None:
        """Put the bytes of every expected object into `shown`, None where there is none.

        Raises Failure and _Interrupted.
        """
        waiting = sorted(expected)
        while waiting:
            # Where the store ignores StartAfter, LIST may show none of these keys: HEAD then decides about the first.
            listed = self._list(day, waiting, requests) or {waiting[0]: None}
            for key, size in listed.items():
                shown[key] = size if _fits(size, expected[key]) else self._head(key, requests)
            waiting = [key for key in waiting if key not in listed]

    def _list(self, day: str, waiting: Sequence[str], requests: _Requests) -> dict[str, int | None]:
        """One LIST: for every key that it shows or should show, the bytes; None for a key that it lacks."""
        if len(waiting) == 1:
            return {}
        requests.take()
        keys_max = min(PAGE_KEYS_MAX, max(PAGE_KEYS_MIN, 2 * len(waiting)))
        page = self.store.list_after(day, after=waiting[0][:-1], keys_max=keys_max)
        last = max(page.sizes, default="")
        return {key: page.sizes.get(key) for key in waiting if page.is_last or key <= last}

    def _head(self, key: str, requests: _Requests) -> int | None:
        requests.take()
        found = self.store.head(key)
        return None if found is None else found.bytes

    # --- objects that were missing ----------------------------------------------------------------------------

    def _ask_again(self, account: str, doubts: Sequence[Doubt]) -> None:
        """Send the second HEAD for doubted objects. An object that the store cannot be asked about now stays claimed,
        and comes later."""
        requests = _Requests(self.pause, left=len(doubts))
        sizes: dict[Doubt, int | None] = {}
        try:
            for doubt in doubts:
                sizes[doubt] = self._head(doubt.key, requests)
        except _Interrupted:
            pass
        except Failure as error:
            self._failed(account, error)
        found = [doubt for doubt, size in sizes.items() if _fits(size, doubt.bytes)]
        missing = [doubt for doubt, size in sizes.items() if size is None]
        changed = [doubt for doubt in sizes if doubt not in found and doubt not in missing]
        for each in self.ledger.missing_objects.settle(found=found, missing=missing, changed=changed):
            _log_missing(account, each)

    def _failed(self, account: str, error: Failure) -> None:
        self.accounts[account](error)
        labels = {"account": account, "stage": Stage.ARCHIVE, "reason": reason_of(error)}
        self.metrics.failures_total.labels(**labels).inc()
        log.get().warning("objects.unseen", account=account, reason=reason_of(error), message=str(error))


def _by_day(folders: Sequence[ExpectedFolder]) -> dict[str, list[ExpectedFolder]]:
    days: dict[str, list[ExpectedFolder]] = {}
    for folder in folders:
        days.setdefault(folder.day, []).append(folder)
    return days


def _fits(size: int | None, expected: int | None) -> bool:
    """Whether the object has the size that the ledger knows. The ledger does not know the sizes of manifests."""
    return size is not None and expected in (None, size)


def _log_missing(account: str, missing: MissingObject) -> None:
    log.get().error(
        "object.missing",
        account=account,
        task_id=missing.task_id,
        key=missing.key,
        state=missing.state,
        what_to_do=_WHAT_TO_DO[missing.state],
    )


class SecondLookLoop:
    """The second looks of a process. `step` belongs to one thread."""

    name = "second-look-loop"

    def __init__(
        self,
        second_look: SecondLook,
        *,
        stop: threading.Event,
        is_ours: Callable[[], bool] = lambda: True,
    ) -> None:
        """`is_ours`: whether this process does the upkeep. The ledger refuses the writes of any other."""
        self._is_ours = is_ours
        self._second_look = second_look
        self._stop = stop

    def step(self) -> None:
        """One round; wait a little where there is nothing to do."""
        if not self._is_ours() or not self._second_look.look_once():
            self._stop.wait(IDLE_SECONDS)
