"""Bounds of labels: each maps a value to itself or to `other`."""

import re
import threading
from collections.abc import Callable, Iterable

from archiver import failures, model

OTHER = "other"
DISTINCT_VALUES_MAX = 100
Bound = Callable[[str], str]


def account_or_none() -> Bound:
    """A bound for names of accounts; empty for a value that concerns all of them."""
    bound = account_name()
    return lambda value: bound(value) if value else ""


def account_name() -> Bound:
    """A bound for names of accounts."""
    return first_matching(model.ACCOUNT_NAME)


def only(values: Iterable[str]) -> Bound:
    """A bound for values that are known beforehand."""
    known = frozenset(str(value) for value in values)
    return lambda value: str(value) if value in known else OTHER


def first_matching(pattern: re.Pattern[str], *, count_max: int = DISTINCT_VALUES_MAX) -> Bound:
    """A bound for values from settings or from outside: the first `count_max` that match."""
    seen: set[str] = set()
    lock = threading.Lock()

    def bound(value: str) -> str:
        if not pattern.fullmatch(value):
            return OTHER
        with lock:
            if value not in seen and len(seen) >= count_max:
                return OTHER
            seen.add(value)
        return value

    return bound


def failure_reasons() -> frozenset[str]:
    """The slug of every class of failure."""
    found = {failures.Failure.reason}
    waiting = [failures.Failure]
    while waiting:
        subclasses = waiting.pop().__subclasses__()
        found.update(failure.reason for failure in subclasses)
        waiting.extend(subclasses)
    return frozenset(found)
