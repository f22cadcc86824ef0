"""Queries `/tasks` and `/solutions` for 20 ids in one call. This needs an API Key, and an API that offers them."""

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
    families: tuple[str, ...]
    client: KlingClient
    availability: Availability

    def is_offered(self) -> bool:
        return self.client.has_api_key and not self.availability.is_unavailable(COLLECTION_SWEEPS[TASKS])

    def ask(self, leases: Sequence[Lease]) -> Mapping[str, NewStandardTask | Failure] | None:
        """The API's answers about these ids; None if it does not offer this query. Raises a Failure that concerns all
        of them.

        The leases are all confirmed or all not: the first decides the priority.
        """
        priority = Priority.VERIFY if leases[0].confirmed else Priority.BACKGROUND
        answers: Answers = {}
        covers_solutions = any(collection_of(family) == SOLUTIONS for family in self.families)
        first = [
            lease
            for lease in leases
            if _collection(lease) == SOLUTIONS or (covers_solutions and _may_be_solution(lease))
        ]
        if not self._add(answers, SOLUTIONS, first, priority=priority):
            not_offered = NotOffered("The API has no answer for a question at /solutions.")
            answers |= {lease.task_id: not_offered for lease in leases if _collection(lease) == SOLUTIONS}
        others = [lease for lease in leases if _collection(lease) != SOLUTIONS]
        if not self._add(answers, TASKS, others, priority=priority):
            return None
        registration = DiscoveredBy.REGISTRATION
        registered = [
            lease
            for lease in others
            if lease.discovered_by is registration and not lease.confirmed and not lease.named_by_create
        ]
        self._add(answers, TASKS, registered, priority=priority, external=True)
        if not covers_solutions:
            asked_before = [lease for lease in others if lease.asked > 0]
            self._add(answers, SOLUTIONS, asked_before, priority=priority)
        return answers

    def _add(
        self,
        answers: Answers,
        collection: str,
        leases: Sequence[Lease],
        *,
        priority: Priority,
        external: bool = False,
    ) -> bool:
        """Ask `collection` about those of `leases` that have no answer yet; False where it is not offered."""
        # An external id may have a comma, which the API would read as two ids.
        ids = [lease.task_id for lease in leases if TASK_ID.fullmatch(lease.task_id)]
        unanswered = [task_id for task_id in ids if task_id not in answers]
        if not unanswered:
            return True
        if self.availability.is_unavailable(COLLECTION_SWEEPS[collection]):
            return False
        try:
            answers |= ask_ids(self.client, collection, unanswered, priority=priority, external=external)
        except (NotOffered, ApiAnswerUnreadable, ApiBadParameter, ApiForbidden, ApiRequestInvalid) as error:
            return self._is_offered_after(error, collection)
        self.availability.answered(COLLECTION_SWEEPS[collection])
        return True

    def _is_offered_after(self, error: Failure, collection: str) -> bool:
        """Whether `collection` still counts as offered. Raises `error` where it is an outage."""
        name = COLLECTION_SWEEPS[collection]
        if isinstance(error, ApiForbidden):
            self.availability.refused(name, error)
            return False
        if isinstance(error, ApiBadParameter | ApiRequestInvalid) and self.availability.has_answered(name):
            return True  # it knows none of these ids
        if self.availability.refused(name, error) or not self.availability.has_answered(name):
            return False
        raise error


def _collection(lease: Lease) -> str | None:
    return collection_of(lease.family or lease.family_hint)


def _may_be_solution(lease: Lease) -> bool:
    return lease.family is None and _collection(lease) is None
