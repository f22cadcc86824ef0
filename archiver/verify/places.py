"""Which families' paths to query for an id, and what follows if no path knows it. No I/O."""

import dataclasses
from collections.abc import Sequence

from archiver.failures import Failure, NeedsApiKey, NotOffered
from archiver.families import FAMILIES, OUTPUTS, collection_of, families_fitting
from archiver.model import Lease

SEARCH_ALL_EVERY = 3
"""Every third time `/tasks` omits an id, also query each family's own path. By then `/tasks` has nearly always shown a
genuine id, and a forged one costs few questions."""


@dataclasses.dataclass(frozen=True, slots=True)
class NotThere:
    refusal: Failure | None = None
    """The first refusal of a known family's path: it may hide the task."""
    not_shown: tuple[str, ...] = ()
    """Known families that denied the id otherwise than documented."""
    searched_all: bool = True
    """False when the hinted family ended the search."""


def is_known(family: str, families: Sequence[str]) -> bool:
    """Whether `family` is configured or in our tables; a callback may name a made-up one."""
    return family in families or family in FAMILIES


def places(lease: Lease, families: Sequence[str], *, omitted_by_batch: bool) -> list[str]:
    """The families to query, in order: the settled one, else the hint and then every configured family.

    `omitted_by_batch`: `/tasks` omits the id, but is not documented to show every legacy task (API.md 5.3).
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
    """Whether "not found" from `family` is enough: a known hint is nearly always right, so the first time a genuine id
    has only not appeared yet, and a forged one costs one question."""
    return lease.asked == 0 and family == lease.family_hint and is_known(family, families)


def verdict(lease: Lease, found: NotThere, *, has_api_key: bool) -> Failure | None:
    """The failure that may hide the task; None where the API does not know the id."""
    if not found.searched_all:
        return None
    if found.refusal is None:
        is_new_standard = OUTPUTS in lease.result_arrays and not lease.confirmed
        if not is_new_standard or has_api_key:
            return None
        return NeedsApiKey(f"The callback of {lease.task_id} is of the new standard, and no family knows it.")
    # The console's test callback names a made-up id; a path that we cannot ask hides nothing.
    if lease.is_console_test and isinstance(found.refusal, NeedsApiKey | NotOffered):
        return None
    return found.refusal
