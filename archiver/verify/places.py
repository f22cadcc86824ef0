"""Decides which families' paths to query for an id, and what it means that none of them knows it. No I/O."""

import dataclasses
from collections.abc import Sequence

from archiver.failures import Failure, NeedsApiKey, NotOffered
from archiver.families import FAMILIES, OUTPUTS, collection_of, families_fitting
from archiver.model import Lease

SEARCH_ALL_EVERY = 3
"""Every third time `/tasks` omits an id, also query each family's own path. A forged id then costs few questions, and a
genuine one is nearly always shown before."""


@dataclasses.dataclass(frozen=True, slots=True)
class NotThere:
    """No path that was queried knows the id."""

    refusal: Failure | None = None
    """The first refusal of a known family on the way: it may hide the task."""
    searched_all: bool = True
    """False when the hinted family's "not found" ended the search early."""


def is_known(family: str, families: Sequence[str]) -> bool:
    """Whether `family` is configured or known to this version; otherwise a callback may have invented it."""
    return family in families or family in FAMILIES


def places(lease: Lease, families: Sequence[str], *, omitted_by_batch: bool) -> list[str]:
    """The families whose paths to query, in order: the settled one, else the hint and then every configured family.

    `omitted_by_batch`: `/tasks` was asked and did not show the id. It may still exist: nothing promises that `/tasks`
    shows every legacy task (API.md 5.3).
    """
    if lease.family is not None:
        found = [lease.family]
    else:
        hint = [] if lease.family_hint is None else [lease.family_hint]
        found = list(dict.fromkeys([*hint, *families_fitting(lease.result_arrays, families)]))
    if not omitted_by_batch:
        return found
    if lease.confirmed or (lease.asked + 1) % SEARCH_ALL_EVERY:
        return []
    return [family for family in found if collection_of(family) is None]


def ends_search(lease: Lease, family: str, families: Sequence[str]) -> bool:
    """Whether "not found" from `family` is enough for now. A known hint is nearly always right: the first time, a
    forged id costs one question, and a genuine one only has not appeared yet."""
    return lease.asked == 0 and family == lease.family_hint and is_known(family, families)


def verdict(lease: Lease, found: NotThere, *, has_api_key: bool) -> Failure | None:
    """The failure that keeps us from knowing the task; None where the API does not know the id."""
    if not found.searched_all:
        return None
    if found.refusal is None:
        is_new_standard = OUTPUTS in lease.result_arrays and not lease.confirmed
        if not is_new_standard or has_api_key:
            return None
        return NeedsApiKey(f"The callback of {lease.task_id} is of the new standard, and no family knows it.")
    # The console's test callback names an id that exists nowhere, so a path that we cannot ask hides nothing.
    if lease.is_console_test and isinstance(found.refusal, NeedsApiKey | NotOffered):
        return None
    return found.refusal
