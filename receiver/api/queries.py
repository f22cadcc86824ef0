"""The query of `GET /api/tasks`."""

import dataclasses
import re
from collections.abc import Sequence

from archiver.ledger.views import FilterProblem, TaskFilter

LIMIT = 50
"""The number of tasks if no limit is given."""
LIMIT_MAX = 200
FILTERS = ("state", "family", "account", "since", "until", "text")
_LIMIT = re.compile("[0-9]{1,3}")


@dataclasses.dataclass(frozen=True, slots=True)
class TaskQuery:
    """The tasks that a program asks for."""

    chosen: TaskFilter
    limit: int
    page: str | None


def read_query(written: Sequence[tuple[str, str]], *, now: int) -> TaskQuery:
    """`now` is Unix ms. Raises FilterProblem: a filter that was misspelled and ignored would show every task."""
    given = dict(written)
    known = (*FILTERS, "limit", "page")
    if not given.keys() <= set(known):
        raise FilterProblem(f"There is an unknown parameter; the known ones are {', '.join(known)}.")
    if len(given) != len(written):
        raise FilterProblem("A parameter was given twice.")
    chosen = TaskFilter.parse({name: given[name] for name in FILTERS if name in given}, now=now)
    limit = given.get("limit", str(LIMIT))
    if not _LIMIT.fullmatch(limit) or not 1 <= int(limit) <= LIMIT_MAX:
        raise FilterProblem(f"limit must be a number from 1 to {LIMIT_MAX}.")
    return TaskQuery(chosen, int(limit), given.get("page"))
