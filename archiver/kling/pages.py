"""Rows of an answer → tasks: of a list page, or of a question for one task. No I/O."""

import dataclasses

from archiver import failures
from archiver.kling import responses, results
from archiver.model import Task

PAGE_ROWS = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """One page of a family's list, as far as it could be read."""

    tasks: tuple[Task, ...]
    ids: tuple[str, ...]
    """The ids of all rows in order, malformed rows included where their id can be read."""
    rows: int
    """The number of rows that the API sent; 0 past the end."""
    malformed: int
    reasons: tuple[str, ...] = ()
    """One sentence for each malformed row."""
    unread: tuple[Task, ...] = ()
    """The tasks of malformed rows whose id and creation time can be read."""

    def require_readable(self) -> None:
        """Raises ApiAnswerUnreadable where most rows cannot be read: each may be a task that nothing else names."""
        if is_mostly_unreadable(rows=self.rows, malformed=self.malformed):
            raise unreadable_page(rows=self.rows, malformed=self.malformed)


def is_mostly_unreadable(*, rows: int, malformed: int) -> bool:
    """Whether more than half of a page's rows cannot be read: not a few odd rows, but another format."""
    return 2 * malformed > rows


def unreadable_page(*, rows: int, malformed: int) -> failures.ApiPageUnreadable:
    """The failure for a page that is mostly unreadable."""
    return failures.ApiPageUnreadable(f"{malformed} of the {rows} rows of a page could not be read.")


def task_asked_for(rows: list[object], *, family: str, identifier: str) -> Task:
    if not rows and family.startswith(("tasks/", "solutions/")):
        # These paths leave out an id they do not know; a `/v1` path answers 1201.
        raise failures.TaskNotFound(f"The API knows no task of that id under {family}.")
    if not rows:
        raise failures.TaskNotShown(f"The API answered a question for one task of {family} without a task.")
    unreadable: failures.ApiAnswerUnreadable | None = None
    for row in rows:
        try:
            task = _read_row(row, family=family)
        except failures.ApiAnswerUnreadable as error:
            if unreadable is None or error.shown is not None:
                unreadable = error
            continue
        if identifier in (task.task_id, task.external_task_id):
            return task
    raise unreadable or failures.ApiAnswerUnreadable(
        f"The API answered a question for one task of {family} with {len(rows)} others."
    )


def read_page(rows: list[object], *, family: str) -> Page:
    tasks: list[Task] = []
    ids: list[str] = []
    reasons: list[str] = []
    unread: list[Task] = []
    for row in rows:
        readable_id = results.readable_id(row)
        ids += [readable_id] if readable_id else []
        try:
            tasks.append(_read_row(row, family=family))
        except failures.ApiAnswerUnreadable as error:
            reasons.append(str(error))
            unread += [error.shown] if error.shown is not None else []
    return Page(tuple(tasks), tuple(ids), len(rows), len(reasons), tuple(reasons), tuple(unread))


def _read_row(row: object, *, family: str) -> Task:
    try:
        document = responses.sound(row)
    except failures.ApiAnswerUnreadable as error:
        error.shown = results.unread_task(responses.sound_fields(row), family=family, why=str(error))
        raise
    return results.read_task(document, family=family)
