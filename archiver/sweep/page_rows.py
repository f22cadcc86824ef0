"""How many rows a request for a page asks for: fewer if the API cannot answer with so many."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

from archiver.failures import (
    ApiAnswerTooLarge,
    ApiAnswerUnreadable,
    ApiBadParameter,
    ApiRateLimited,
    ApiRequestInvalid,
    ApiServerError,
    ApiTimeout,
    ApiUnreachable,
    Failure,
)
from archiver.kling.pages import PAGE_ROWS
from archiver.sweep.loop import ask_again

ROWS = (PAGE_ROWS, 250, 125, 60, 30)
"""The numbers of rows to try, in this order."""

_MAY_BE_THE_SIZE = (
    ApiAnswerUnreadable,
    ApiBadParameter,
    ApiRequestInvalid,
    ApiServerError,
    ApiTimeout,
    ApiUnreachable,
)

Answer = TypeVar("Answer")


@dataclasses.dataclass
class PageRows:
    """The number of rows of one reading."""

    rows: int
    has_shrunk: bool = False

    def ask(
        self,
        ask: Callable[[int], Answer],
        *,
        except_for: tuple[type[Failure], ...] = (),
        may_ask_for: Callable[[int], bool] = lambda _rows: True,
    ) -> Answer:
        """`ask(rows)`, or the answer with the most rows that the API can give. Raises Failure.

        If the API does not answer with the fewest rows either, it is down, and the number of rows is not at fault: an
        outage costs one more query, and changes nothing. `may_ask_for` says which numbers are possible for this page.
        """
        try:
            return ask_again(lambda: ask(self.rows), except_for=(*except_for, ApiAnswerTooLarge))
        except _MAY_BE_THE_SIZE as error:
            if isinstance(error, except_for):
                raise
            smaller = [rows for rows in ROWS if rows < self.rows and may_ask_for(rows)]
            found = _with_most_rows(ask, smaller)
            if found is None:
                raise
        self.rows, answer = found
        self.has_shrunk = True
        return answer


def _with_most_rows(ask: Callable[[int], Answer], sizes: Sequence[int]) -> tuple[int, Answer] | None:
    """The first of `sizes` (descending) that is answered, with its answer; None where the last one is not."""
    fewest = _try(ask, sizes[-1]) if sizes else None
    if fewest is None:
        return None
    for rows in sizes[:-1]:
        if found := _try(ask, rows):
            return found
    return fewest


def _try(ask: Callable[[int], Answer], rows: int) -> tuple[int, Answer] | None:
    try:
        return rows, ask(rows)
    except (*_MAY_BE_THE_SIZE, ApiRateLimited):
        return None
