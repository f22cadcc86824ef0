"""A look: the cheapest request that shows whether work could go on. It writes nothing outside.

Each look returns, or raises the `Failure` that work would meet.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

from archiver.failures import (
    ApiForbidden,
    ApiRateLimited,
    ApiRefusedWithoutCode,
    ApiTimeout,
    ApiUnreachable,
    Disposition,
    Failure,
    NotOffered,
    Outside,
    TaskNotFound,
    TaskNotShown,
)
from archiver.families import FAMILIES, TASKS, collection_of
from archiver.kling.client import KlingClient
from archiver.kling.limiter import Priority
from archiver.kling.new_standard_calls import ask_window
from archiver.ledger import unix_ms
from archiver.model import DAY_MS
from archiver.store import Store

PAGE_ROWS = 1
WRONG_SERVER = (
    "What answers at KLING_BASE_URL knows none of Kling's paths (404 to a list and to a task): check its host and its "
    "path."
)
NO_TASK_ID = "0"
"""An id that no task has. The API answers that it does not know the id; a server that is not Kling's API does not."""


class Look(Protocol):
    """One look. `outside` is what it looks at."""

    @property
    def outside(self) -> Outside: ...

    def look(self) -> None:
        """Raises Failure, and Stopped."""


@dataclasses.dataclass(frozen=True)
class ApiLook:
    """Reads a list page of one row, with the account's own keys and within its query rate.

    If the API offers no list, it queries one task: the last that the API has shown, because only that one surely
    exists.
    """

    client: KlingClient
    families: tuple[str, ...]
    """The families of the settings."""
    now: Callable[[], int] = unix_ms
    outside: Outside = Outside.API

    def look(self) -> None:
        family = self._family()
        of_new_standard = family is None and self.client.has_api_key
        family = family or next(iter(self.families if of_new_standard else FAMILIES))
        try:
            if of_new_standard:
                self._look_at_tasks()
            else:
                self.client.list_page(family, page=1, size=PAGE_ROWS, priority=Priority.VERIFY)
        except (ApiForbidden, ApiRateLimited):
            return  # it answers; a family's right is for its own sweep to find out
        except (ApiTimeout, ApiUnreachable):
            raise  # a second question would wait as long
        except Failure as error:
            if error.disposition is Disposition.HOLD:
                raise
            self._look_at_task(*(self.client.shown_last or (family, NO_TASK_ID)), error)

    def _family(self) -> str | None:
        """A family whose list every account may read; None if only the new standard is configured."""
        own_paths = [family for family in self.families if collection_of(family) is None]
        known = [family for family in own_paths if family in FAMILIES]
        return next(iter([*known, *own_paths]), None)

    def _look_at_task(self, family: str, task_id: str, error: Failure) -> None:
        """Gateways may answer single questions only. Where the list fails and a single question is answered as
        documented, the API is up, and the list's failure is the sweep's to say. A server that answers neither is not
        Kling's API."""
        try:
            self.client.query(family, task_id, priority=Priority.VERIFY)
        except (TaskNotFound, ApiForbidden, ApiRateLimited):
            return
        except (TaskNotShown, NotOffered) as not_shown:
            if isinstance(error, NotOffered):
                message = f"{error}; {not_shown}"
                raise ApiRefusedWithoutCode(message, what_to_do=WRONG_SERVER) from None
            raise error from None
        except Failure:
            raise error from None

    def _look_at_tasks(self) -> None:
        now = self.now()
        ask_window(
            self.client,
            TASKS,
            start=now - DAY_MS,
            end=now,
            cursor="",
            priority=Priority.VERIFY,
            rows_max=PAGE_ROWS,
        )


@dataclasses.dataclass(frozen=True)
class StoreLook:
    """Lists one key below the account's prefix: the archive stage needs that right too."""

    store: Store
    prefix: str
    outside: Outside = Outside.STORE

    def look(self) -> None:
        self.store.check(self.prefix)
