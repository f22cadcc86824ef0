"""Which tasks a page is of, and where a page begins."""

import dataclasses
import re
from typing import Self

from archiver.model import State

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
    """That of the API, or of the callback or registration while the API has not confirmed it."""
    account: str | None = None
    since: int | None = None
    until: int | None = None
    """Not included."""
    text: str | None = None
    """Case does not count. Raises FilterProblem for what no text can contain."""

    def __post_init__(self) -> None:
        text = self.text or ""
        if len(text) > TEXT_CHARACTERS_MAX:
            raise FilterProblem(f"text must have at most {TEXT_CHARACTERS_MAX} characters.")
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise FilterProblem("text must be text without NUL.")


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
        """Of `TaskPage.next_page`. Raises FilterProblem."""
        found = _PAGE.fullmatch(page)
        if found is None:
            raise FilterProblem("page must be the next_page of another answer.")
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.deadline_at}.{self.row_id}.{self.looked_at}"
