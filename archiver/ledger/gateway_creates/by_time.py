"""Judges by time which tasks were made by creates whose answers were lost. Pure; `lost_answers` reads what it needs.

Without an answer, a callback and an external id there is nothing but time: Kling's lists show neither prompts nor
callback URLs. Time alone proves nothing, because an application that calls Kling directly may have created the task
at that moment. So a task is matched only where nothing that the ledger knows speaks for another maker:

1. Kling gave no answer. After an error of Kling's there is hardly a task, and one that is found is another's.
2. A sweep has read the list to its end, and began when the create could make no task any more: all tasks are known.
3. The tasks of that time have ended, and their callbacks, which would name the creates, have had the time to come. A
   callback without a reference proves another maker.
4. All creates that may have made these tasks name the same callback URL.
5. There are no more tasks than creates.
6. The gateway's creates explain every other task of the account and family from a day before to a day after, as far as
   they are known by then. If one is unexplained, another application creates such tasks too. Tasks with an external id
   do not count: they cannot be mistaken.

What is left: an application that creates its first task past the gateway, without an external id, within these five
minutes, while the gateway's create has made none. Its task is forwarded to the client, which has access to all tasks of
the account anyway. The manifest takes no prompt by time, since it must not have a wrong one.
"""

import collections
import dataclasses
import enum
from collections.abc import Callable, Iterable, Sequence

BEFORE_MS, AFTER_MS = 30_000, 300_000
"""A task was created that long before its create's reference, by a clock that is behind, to that long after: the body's
way to Kling, and 120 s until the answer is given up."""
PATIENCE_MS = 120_000
"""How long after its end a task's callback may come."""
UNSWEPT_MS = 3_600_000
"""How long a create waits for a sweep until an operator must know."""


class MatchDoubt(enum.StrEnum):
    """Why tasks are not matched with the creates that may have made them."""

    CLIENTS = "several_clients"
    """The creates name different callback URLs."""
    TASKS = "too_many_tasks"
    """There are more tasks than creates."""
    APPLICATIONS = "other_applications"
    """An application creates tasks of this family past the gateway."""
    UNSWEPT = "not_swept"
    """No sweep has looked for the task."""


@dataclasses.dataclass(frozen=True, slots=True)
class SentCreate:
    """A create that may have made a task."""

    reference: str
    sent_at: int
    client_callback_url: str | None
    is_lost: bool
    """Nothing but time can lead to its task: neither an answer nor an external id."""
    is_swept: bool
    """A sweep that began when it could make no task any more has read the whole list."""

    def may_have_made(self, task: "UnclaimedTask") -> bool:
        """Whether the task was created while this create was under way."""
        return self.sent_at - BEFORE_MS <= task.created_at <= self.sent_at + AFTER_MS


@dataclasses.dataclass(frozen=True, slots=True)
class UnclaimedTask:
    """A task that nothing leads to its maker."""

    row_id: int
    task_id: str
    created_at: int
    is_quiet: bool
    """It has ended, and its callback has had the time to come."""


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of some creates and the tasks that they may have made."""

    matches: Sequence[tuple[SentCreate, UnclaimedTask]] = ()
    doubt: MatchDoubt | None = None
    creates: Sequence[SentCreate] = ()
    """Those that are doubted."""
    tasks: Sequence[UnclaimedTask] = ()


def judge(
    creates: Sequence[SentCreate],
    tasks: Sequence[UnclaimedTask],
    *,
    has_strangers: Callable[[UnclaimedTask], bool],
) -> list[Judgement]:
    """Of one account and family. Creates and tasks that wait are in no judgement.

    `has_strangers`: whether another application is known to create such tasks about the time of this one.
    """
    judged = []
    for group, made in _groups(creates, tasks):
        if not all(create.is_swept for create in group) or not all(task.is_quiet for task in made):
            continue
        lost = [create for create in group if create.is_lost]
        pairs = _pairs(lost, made)
        doubt = _doubt(group, made, are_explained=len(pairs) == len(made), has_strangers=has_strangers)
        if doubt is None:
            judged.append(Judgement(matches=pairs))
        elif told := [create for create in lost if create.client_callback_url is not None]:
            judged.append(Judgement(doubt=doubt, creates=told, tasks=made))
    return judged


def _doubt(
    group: Sequence[SentCreate],
    made: Sequence[UnclaimedTask],
    *,
    are_explained: bool,
    has_strangers: Callable[[UnclaimedTask], bool],
) -> MatchDoubt | None:
    urls = {create.client_callback_url for create in group}
    if len(urls) > 1 or None in urls:
        return MatchDoubt.CLIENTS
    if not are_explained:
        return MatchDoubt.TASKS
    return MatchDoubt.APPLICATIONS if any(has_strangers(task) for task in made) else None


def _pairs(
    lost: Iterable[SentCreate], made: Iterable[UnclaimedTask]
) -> list[tuple[SentCreate, UnclaimedTask]]:
    """Each task with the earliest create that is left for it. All creates take equally long, so no other choice pairs
    more."""
    left = list(lost)
    pairs = []
    for task in made:
        create = next((create for create in left if create.may_have_made(task)), None)
        if create is not None:
            left.remove(create)
            pairs.append((create, task))
    return pairs


def _groups(
    creates: Iterable[SentCreate], tasks: Iterable[UnclaimedTask]
) -> list[tuple[list[SentCreate], list[UnclaimedTask]]]:
    """Creates that share tasks, with these tasks; both the oldest first. A create that can have made none, and a task
    that none can have made, are left out."""
    in_order = sorted(creates, key=lambda create: (create.sent_at, create.reference))
    group_of: dict[str, int] = {}
    made: dict[int, list[UnclaimedTask]] = collections.defaultdict(list)
    for number, task in enumerate(sorted(tasks, key=lambda task: (task.created_at, task.row_id))):
        makers = [create.reference for create in in_order if create.may_have_made(task)]
        if not makers:
            continue
        joined = {group_of[reference] for reference in makers if reference in group_of}
        earlier = [task for group in sorted(joined) for task in made.pop(group)]
        made[number] = [*earlier, task]
        members = {reference for reference, group in group_of.items() if group in joined}
        group_of |= dict.fromkeys(members | set(makers), number)
    return [
        ([create for create in in_order if group_of.get(create.reference) == group], of_group)
        for group, of_group in made.items()
    ]
