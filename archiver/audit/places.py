"""Where a key of the bucket belongs: `<prefix><family>/<yyyy>/<mm>/<dd>/<task_id>/<name>`. No I/O."""

import dataclasses
import datetime
import re
from typing import Self

from archiver.model import DAY_MS, FAMILY, TASK_ID, folder_day

_KEY = re.compile(
    r"(?P<family>[^/]+(?:/[^/]+){1,2}?)/(?P<day>[0-9]{4}/[0-9]{2}/[0-9]{2})/(?P<task_id>[^/]+)/(?P<name>.+)",
    re.DOTALL,
)


@dataclasses.dataclass(frozen=True, slots=True)
class TaskPlace:
    """The task whose folder a key is in."""

    family: str
    day: str
    """`2026/11/20`: the task's `created_at`, in UTC."""
    task_id: str
    path: str
    """The folder's path: prefix included, with a slash at the end."""

    @classmethod
    def of_key(cls, key: str, *, prefix: str) -> Self | None:
        """None for a key that this program does not make."""
        found = _KEY.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
        if found is None or not FAMILY.fullmatch(found["family"]) or not TASK_ID.fullmatch(found["task_id"]):
            return None
        return cls(found["family"], found["day"], found["task_id"], key.removesuffix(found["name"]))

    @classmethod
    def of_stored(cls, key: str, *, family: str) -> Self:
        """The place of a key that the ledger has for a task of this family. The key may be below an old prefix."""
        path = key[: key.rfind("/") + 1]
        parts = path.split("/")
        return cls(family, "/".join(parts[-5:-2]), "".join(parts[-2:-1]), path)

    def is_below(self, prefix: str) -> bool:
        """Whether a listing below this prefix shows the folder as this task's."""
        return type(self).of_key(f"{self.path}-", prefix=prefix) == self


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """Which folders are meant. Days are inclusive, in UTC, as keys have them: `2026/11/20`."""

    family: str | None = None
    since_day: str | None = None
    until_day: str | None = None

    @classmethod
    def of_times(cls, *, family: str | None, since: int | None, until: int | None) -> Self:
        """The span between two times (Unix ms), in whole days."""
        since_day = None if since is None else folder_day(since)
        return cls(family, since_day, None if until is None else folder_day(until))

    @property
    def is_everything(self) -> bool:
        return self == type(self)()

    @property
    def since(self) -> int | None:
        """The first `created_at` that is meant, Unix ms."""
        return None if self.since_day is None else _start_of(self.since_day)

    @property
    def until(self) -> int | None:
        """The first `created_at` that is not meant any more, Unix ms."""
        return None if self.until_day is None else _start_of(self.until_day) + DAY_MS

    def root(self, prefix: str) -> str:
        """What all keys begin with."""
        return prefix if self.family is None else f"{prefix}{self.family}/"

    def covers(self, place: TaskPlace) -> bool:
        return (
            self.family in (None, place.family)
            and (self.since_day is None or place.day >= self.since_day)
            and (self.until_day is None or place.day <= self.until_day)
        )

    def next_after(self, place: TaskPlace) -> str:
        """For a place outside the span: the key up to which everything is outside. Empty if that is not known."""
        of_family = place.path.removesuffix(f"{place.day}/{place.task_id}/")
        if self.since_day is not None and place.day < self.since_day:
            return f"{of_family}{self.since_day}"
        if self.until_day is not None and place.day > self.until_day:
            # Behind all years, before a family whose name begins with this one's: `images/editing/expand`.
            return f"{of_family}:"  # the character after the nine
        return ""


def _start_of(day: str) -> int:
    year, month, of_month = map(int, day.split("/"))
    return round(datetime.datetime(year, month, of_month, tzinfo=datetime.UTC).timestamp() * 1000)
