"""Which tasks a page is of, and where a page begins."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Self

from archiver.model import ACCOUNT_NAME, FAMILY, State
from archiver.times import parse_time

TEXT_CHARACTERS_MAX = 500
_PAGE = re.compile(r"([0-9]{1,15})\.([0-9]{1,18})\.([0-9]{1,9})")


class FilterProblem(ValueError):
    """The message is for the caller and repeats nothing that the caller sent."""


@dataclasses.dataclass(frozen=True, slots=True)
class TaskFilter:
    """None of a field: any. Times are Unix ms, of creation, or of the first word of a task that the API has not
    confirmed."""

    state: State | None = None
    family: str | None = None
    """The family by the API, or by the callback or registration while the API has not confirmed the task."""
    account: str | None = None
    since: int | None = None
    until: int | None = None
    """Not included."""
    text: str | None = None
    """Case does not count."""

    def __post_init__(self) -> None:
        """Raises FilterProblem for what no task can have."""
        if self.family is not None and not FAMILY.fullmatch(self.family):
            raise FilterProblem("family must be one such as images/generations.")
        if self.account is not None and not ACCOUNT_NAME.fullmatch(self.account):
            raise FilterProblem("account must be the name of an account.")
        text = self.text or ""
        if len(text) > TEXT_CHARACTERS_MAX:
            raise FilterProblem(f"text must have at most {TEXT_CHARACTERS_MAX} characters.")
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise FilterProblem("text must be text without NUL.")

    @classmethod
    def parse(cls, written: Mapping[str, str], *, now: int) -> Self:
        """Make it from the fields of a form or a query, by their names; an empty field means any value. Raises
        FilterProblem."""
        given = {name: value.strip() for name, value in written.items() if value.strip()}
        state = given.get("state")
        if state is not None and state not in set(State):
            raise FilterProblem(f"state must be one of: {', '.join(State)}.")
        return cls(
            state=None if state is None else State(state),
            family=given.get("family"),
            account=given.get("account"),
            since=_time("since", given, now=now),
            until=_time("until", given, now=now),
            text=given.get("text"),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Position:
    """Behind the last row of a page, in the order of all pages: the newest first."""

    deadline_at: int
    """As the ledger has it: 30 days after creation."""
    row_id: int
    looked_at: int
    """How many rows a search by text has looked at, on all pages so far."""

    @classmethod
    def parse(cls, page: str) -> Self:
        """Read a `TaskPage.next_page`. Raises FilterProblem."""
        found = _PAGE.fullmatch(page)
        if found is None:
            raise FilterProblem("page must be the next_page of another answer.")
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.deadline_at}.{self.row_id}.{self.looked_at}"


def _time(name: str, given: Mapping[str, str], *, now: int) -> int | None:
    try:
        return parse_time(given[name], now=now) if name in given else None
    except ValueError as error:
        raise FilterProblem(f"{name} {error}.") from None
