"""Asks `/tasks` and `/solutions` about many leased ids at once: 20 a call, where a path of their own takes one.

Only with an API Key, and only where the API offers it: `is_offered` says so, and the worker leases nothing for this
while it is False. What comes back goes to `Verifier.ask`, lease by lease.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from archiver.failures import (
    ApiAnswerUnreadable,
    ApiBadParameter,
    ApiForbidden,
    ApiRequestInvalid,
    Failure,
    NotOffered,
)
from archiver.families import COLLECTION_SWEEPS, SOLUTIONS, TASKS, collection_of
from archiver.kling.client import KlingClient
from archiver.kling.limiter import Priority
from archiver.kling.new_standard import NewStandardTask
from archiver.kling.new_standard_calls import Answers, ask_ids
from archiver.model import TASK_ID, DiscoveredBy, Lease
from archiver.verify.availability import Availability


@dataclasses.dataclass(frozen=True)
class BatchQuery:
    """One account's questions for many ids."""

    families: tuple[str, ...]
    client: KlingClient
    offers: Availability

    def is_offered(self) -> bool:
        """Whether there is anything to ask here."""
        return self.client.has_api_key and not self.offers.is_unavailable(COLLECTION_SWEEPS[TASKS])

    def ask(self, leases: Sequence[Lease]) -> Mapping[str, NewStandardTask | Failure] | None:
        """What the API shows of these ids, all of them confirmed or none (their precedence is the first one's); an id
        that it leaves out is not in it. None where it turned out not to offer the question: ask for each one singly.

        Raises Failure, which then is the answer to all of them.
        """
        priority = Priority.VERIFY if leases[0].confirmed else Priority.BACKGROUND
        found: Answers = {}
        solutions_first = any(collection_of(family) == SOLUTIONS for family in self.families)
        first = [lease for lease in leases if _is_of_solutions(lease, otherwise=solutions_first)]
        if not self._add(found, SOLUTIONS, first, priority=priority):
            lost = NotOffered("The API has no answer for a question at /solutions.")
            found |= {lease.task_id: lost for lease in leases if _is_of_solutions(lease, otherwise=False)}
        others = [lease for lease in leases if not _is_of_solutions(lease, otherwise=False)]
        if not self._add(found, TASKS, others, priority=priority):
            return None
        named = DiscoveredBy.REGISTRATION
        registered = [lease for lease in others if lease.discovered_by is named and not lease.confirmed]
        self._add(found, TASKS, registered, priority=priority, external=True)
        last = [] if solutions_first else [lease for lease in others if lease.asked > 0]
        self._add(found, SOLUTIONS, last, priority=priority)
        return found

    def _add(
        self,
        found: Answers,
        collection: str,
        leases: Sequence[Lease],
        *,
        priority: Priority,
        external: bool = False,
    ) -> bool:
        """Ask for those of `leases` that nothing is known of yet; False where it cannot be asked."""
        # An external id that somebody chose freely could be two ids to the API, or none.
        ids = [lease.task_id for lease in leases if TASK_ID.fullmatch(lease.task_id)]
        wanted = [task_id for task_id in ids if task_id not in found]
        if not wanted:
            return True
        if self.offers.is_unavailable(COLLECTION_SWEEPS[collection]):
            return False
        try:
            found |= ask_ids(self.client, collection, wanted, priority=priority, external=external)
        except (NotOffered, ApiAnswerUnreadable, ApiBadParameter, ApiForbidden, ApiRequestInvalid) as error:
            return self._refused(collection, error)
        self.offers.answered(COLLECTION_SWEEPS[collection])
        return True

    def _refused(self, collection: str, error: Failure) -> bool:
        """What a refusal of the question as a whole means; see `_add`. Raises it where it is no more than trouble."""
        name = COLLECTION_SWEEPS[collection]
        if isinstance(error, ApiForbidden):
            self.offers.refused(name, error)
            return False
        if isinstance(error, ApiBadParameter | ApiRequestInvalid) and self.offers.has_answered(name):
            return True  # it takes none of these ids for one of its own
        if self.offers.refused(name, error) or not self.offers.has_answered(name):
            return False
        raise error


def _is_of_solutions(lease: Lease, *, otherwise: bool) -> bool:
    """Whether the id is one of `/solutions`; `otherwise` for an id whose collection is not known."""
    collection = collection_of(lease.family or lease.family_hint)
    if collection is not None:
        return collection == SOLUTIONS
    return otherwise and lease.family is None
