"""Finds tasks of an account that nothing would archive: of families that KLING_FAMILIES leaves out (and
KLING_IGNORED_FAMILIES does not name), and that no callback, registration or gateway has named.

It asks for one page of each such list a day, when no sweep is due, so it costs about as many queries a day as there are
families. A list that cannot be read shows nothing: the account may not use that family.
"""

import threading
import time
from collections.abc import Callable, Sequence

from archiver.failures import ApiForbidden, Failure, NotOffered
from archiver.families import FAMILIES, collection_of
from archiver.kling.client import KlingClient
from archiver.kling.limiter import Priority
from archiver.ledger import Ledger, unix_ms
from archiver.model import RETENTION_MS, Problem, Status, Task

LOOK_SECONDS = 86_400.0
FIRST_LOOK_SECONDS = 600.0
"""After a start. The sweeps come first, and a process that starts again and again does not look each time."""
RETRY_SECONDS = 3600.0
"""After a failure of more than one list."""
PAGE_ROWS = 20
NAMED_MS_MAX = 3_600_000
"""After its end, a task's callback has had this much time to come."""
REASON = "family_not_swept"
WHAT_TO_DO = (
    "They are archived only if a callback, a registration or the gateway names them. Add their families to "
    "KLING_FAMILIES, or set it to all. If you do not want their results, name them in KLING_IGNORED_FAMILIES."
)


def unswept(families: Sequence[str], *, ignored: Sequence[str] = ()) -> list[str]:
    """The families with a list of their own that are neither swept nor ignored on purpose."""
    named = {*families, *ignored}
    return [name for name in FAMILIES if name not in named and collection_of(name) is None]


class UnsweptFamilies:
    """Looks at the lists of one account. `step` belongs to one thread, `problems` to any."""

    def __init__(
        self,
        account: str,
        unswept: Sequence[str],
        *,
        client: KlingClient,
        ledger: Ledger,
        now: Callable[[], int] = unix_ms,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`unswept` are the families to look at; `now` gives Unix ms."""
        self._account = account
        self._unswept = list(unswept)
        self._client = client
        self._ledger = ledger
        self._now = now
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._found: dict[str, str] = {}
        """Family → a task of it that nothing has named."""
        self.begin()

    def begin(self) -> None:
        """This process asks for the account from now on."""
        self._forget()
        self._waiting = list(self._unswept)
        self._due_at = self._monotonic() + FIRST_LOOK_SECONDS

    def end(self) -> None:
        """Another process asks from now on, and says what it finds."""
        self._forget()

    def step(self) -> None:
        """Look at one list if it is time. Raises LedgerUnavailable, and Stopped."""
        if not self._unswept or self._monotonic() < self._due_at:
            return
        family = self._waiting[0]
        try:
            shown = self._client.list_page(family, page=1, size=PAGE_ROWS, priority=Priority.BACKGROUND).tasks
        except (NotOffered, ApiForbidden):
            shown = ()
        except Failure:  # the sweeps meet it too, and say it
            self._due_at = self._monotonic() + RETRY_SECONDS
            return
        unnamed = self._unnamed(shown)
        with self._lock:
            self._found.pop(family, None)
            self._found |= {family: unnamed[0]} if unnamed else {}
        self._waiting.pop(0)
        if not self._waiting:
            self._waiting = list(self._unswept)
            self._due_at = self._monotonic() + LOOK_SECONDS

    def problems(self) -> list[Problem]:
        """What the last looks have found. Never waits for a look."""
        with self._lock:
            found = dict(self._found)
        if not found:
            return []
        named = ", ".join(f"{family} (such as {task_id})" for family, task_id in sorted(found.items()))
        message = f"{self._account} has tasks that no sweep finds, and that nothing else has named: {named}"
        return [Problem("settings", message, WHAT_TO_DO, self._account, stage="sweep", reason=REASON)]

    def _forget(self) -> None:
        with self._lock:
            self._found.clear()

    def _unnamed(self, shown: Sequence[Task]) -> list[str]:
        """The ids of those that have results which Kling still keeps, and that the ledger does not know."""
        now = self._now()
        ids = [
            task.task_id
            for task in shown
            if task.status is Status.SUCCEEDED
            and (task.created_at or 0) > now - RETENTION_MS
            and (task.updated_at or task.created_at or now) < now - NAMED_MS_MAX
        ]
        known = {task.task_id for task in self._ledger.views.known_tasks(account=self._account, task_ids=ids)}
        known |= self._ledger.tombstones.ids(account=self._account, task_ids=ids)
        return [task_id for task_id in ids if task_id not in known]
