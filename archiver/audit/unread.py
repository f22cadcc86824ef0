"""When objects that cannot be read mean that none can, while the bucket itself answers.

A policy may refuse some folders, of one family or of another team. Those are reported, and the run goes on behind them.
It ends where nothing but refusals has come (credentials that may list and not read), and where other failures come in a
row, each of which has been retried for minutes.
"""

from collections.abc import Sequence

from archiver.failures import BucketForbidden, Failure, StoreRefused

FAILURES_IN_A_ROW_MAX = 20
REFUSALS_AT_FIRST_MAX = 100
"""Refusals before anything was read: more than one folder has, so that the run reaches those behind it."""
REFUSALS_IN_A_ROW_MAX = 10_000
"""Refusals in a row after that. It bounds a run whose credentials have lost the right to read."""


class UnreadObjects:
    """Counts the unread objects of one run. Belongs to one thread."""

    def __init__(self, *, has_read: bool = False) -> None:
        """`has_read`: whether the run, or the one that it goes on with, has read any object."""
        self._has_read = has_read
        self._refusals = 0
        self._failures = 0

    def note(self, failures: Sequence[Failure], *, has_read: bool) -> None:
        """Count one folder, document or object: why parts of it were not read, and whether any part was. Raises a
        failure where no object can be read."""
        if has_read:
            self._has_read, self._refusals = True, 0
        if not failures:
            self._failures = 0
        for failure in failures:
            is_refusal = isinstance(failure, BucketForbidden | StoreRefused)
            self._refusals += is_refusal
            self._failures += not is_refusal
            if self._refusals >= self._refusals_max or self._failures >= FAILURES_IN_A_ROW_MAX:
                raise failure

    @property
    def _refusals_max(self) -> int:
        return REFUSALS_IN_A_ROW_MAX if self._has_read else REFUSALS_AT_FIRST_MAX
