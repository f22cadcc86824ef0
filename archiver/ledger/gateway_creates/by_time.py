"""Judges by time which tasks were made by creates whose answers were lost. Pure; `lost_answers` reads what it needs.

Without an answer, a callback and an external id there is nothing but time: Kling's lists show neither prompts nor
callback URLs. Time alone proves nothing, because an application that calls Kling directly may have created the task
at that moment. So a task is matched only where nothing that the ledger knows speaks for another maker:

1. Kling gave no answer. After an error of Kling's there is hardly a task, and one that is found is another's.
2. A sweep that began an hour after the create was sent has read the list to its end: all tasks of the create are known,
   and so are those that another application has created in this hour.
3. The tasks of that time have ended, and their callbacks, which would name the creates, have had the time to come. A
   callback without a reference proves another maker.
4. All creates that may have made these tasks name the same callback URL.
5. There are no more tasks than creates.
6. The lost creates of the outage have at least half as many tasks. If most of them made none, a task is as likely
   another application's.
7. The gateway's creates explain every other task of the account and family from a day before to a day after, as far as
   they are known by then. If one is unexplained, another application creates such tasks too. Tasks with an external id
   do not count: they cannot be mistaken.

One error remains. An application calls Kling directly, for the first time in a day, without external ids. It creates
all its tasks while gateway creates are under way that have created nothing. Its tasks are no more than these creates,
and at least half as many. Then its tasks are forwarded to the gateway's client, which has access to all tasks of the
account anyway. A match by time puts no prompt into the manifest, because it could be a wrong one.
"""

import bisect
import dataclasses
import enum
from collections.abc import Callable, Iterable, Sequence

AFTER_MS = 300_000
"""How long after its sending a create can make a task, by one clock: the body's way to Kling, and 120 s until the
answer is given up."""
CLOCKS_MS = 300_000
"""How far Kling's clock may be from the ledger's, either way. Beyond that the daemon warns of the clock."""
MADE_BEFORE_MS, MADE_AFTER_MS = CLOCKS_MS, AFTER_MS + CLOCKS_MS
"""Kling's clock dates the task of a create from this long before the sending, by our clock, to this long after it."""
MATCHED_MS = 3_600_000
"""Only a sweep that begins this long after the sending counts. By then another application has mostly shown itself by
more tasks."""
PATIENCE_MS = 120_000
"""How long after its end a task's callback may come."""
UNSWEPT_MS = 3_600_000
"""How long a create waits for a sweep, and then for a decision, until an operator must know."""
OUTAGE_MS = 3_600_000
"""Lost creates that follow each other within this time are of one outage."""
GROUP_MAX = 50
"""Creates, and tasks, that are judged together."""


class MatchDoubt(enum.StrEnum):
    """Why tasks are not matched with the creates that may have made them."""

    CLIENTS = "several_clients"
    """The creates name different callback URLs."""
    TASKS = "too_many_tasks"
    """There are more tasks than creates."""
    FEW = "too_few_tasks"
    """Most creates of the outage have made no task."""
    APPLICATIONS = "other_applications"
    """An application creates tasks of this family past the gateway."""
    MANY = "too_much_to_judge"
    """There are more creates or tasks at that time than are read."""
    UNSWEPT = "not_swept"
    """No sweep has looked for the task."""
    UNDECIDED = "undecided"
    """The tasks do not end, or creates follow each other without a pause."""

    @property
    def is_final(self) -> bool:
        """Whether the create is not judged again. A callback that names it is still believed."""
        return self not in PASSING


PASSING = (MatchDoubt.UNSWEPT, MatchDoubt.UNDECIDED)


@dataclasses.dataclass(frozen=True, slots=True)
class SentCreate:
    """A create that may have made a task."""

    reference: str
    sent_at: int
    client_callback_url: str | None
    is_lost: bool
    """Nothing but time can lead to its task: neither an answer nor an external id."""
    is_swept: bool
    """A sweep that began MATCHED_MS after its sending has read the whole list."""
    doubt: MatchDoubt | None = None
    """Why it is not judged again."""

    def may_have_made(self, task: "UnclaimedTask") -> bool:
        """Whether the task was created while this create was under way."""
        return self.sent_at - MADE_BEFORE_MS <= task.created_at <= self.sent_at + MADE_AFTER_MS


@dataclasses.dataclass(frozen=True, slots=True)
class UnclaimedTask:
    """A task of an unknown maker."""

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


@dataclasses.dataclass(slots=True)
class _Group:
    """Creates that share tasks, as a stretch of all creates in order of their sending, with these tasks."""

    begin: int
    end: int
    tasks: list[UnclaimedTask]


def judge(
    creates: Iterable[SentCreate],
    tasks: Iterable[UnclaimedTask],
    *,
    now: int,
    has_strangers: Callable[[UnclaimedTask], bool],
) -> list[Judgement]:
    """Of one account and family. Creates and tasks that wait are in no judgement.

    `has_strangers`: whether another application is known to create such tasks about the time of this one.
    """
    in_order = sorted(creates, key=lambda create: (create.sent_at, create.reference))
    groups = _groups(in_order, tasks)
    barren = _barren(in_order, groups)
    judged = []
    for group in groups:
        members = in_order[group.begin : group.end]
        pairs, doubt = _decide(members, group.tasks, has_strangers=has_strangers)
        if doubt is None and any(create.reference in barren for create in members):
            doubt = MatchDoubt.FEW
        if doubt is None:
            judged.append(Judgement(matches=pairs))
        elif told := [create for create in members if _is_told(create, doubt, now=now)]:
            judged.append(Judgement(doubt=doubt, creates=told, tasks=group.tasks))
    return judged


def _decide(
    group: Sequence[SentCreate],
    made: Sequence[UnclaimedTask],
    *,
    has_strangers: Callable[[UnclaimedTask], bool],
) -> tuple[Sequence[tuple[SentCreate, UnclaimedTask]], MatchDoubt | None]:
    """The matches, or why there are none. A doubt about one create holds for all that share its tasks."""
    if known := [create.doubt for create in group if create.doubt is not None]:
        return (), known[0]
    if len(group) > GROUP_MAX or len(made) > GROUP_MAX:
        return (), MatchDoubt.MANY
    if not all(create.is_swept for create in group) or not all(task.is_quiet for task in made):
        return (), MatchDoubt.UNDECIDED
    urls = {create.client_callback_url for create in group}
    if len(urls) > 1 or None in urls:
        return (), MatchDoubt.CLIENTS
    pairs = _pairs([create for create in group if create.is_lost], made)
    if len(pairs) < len(made):
        return (), MatchDoubt.TASKS
    return pairs, MatchDoubt.APPLICATIONS if any(map(has_strangers, made)) else None


def _is_told(create: SentCreate, doubt: MatchDoubt, *, now: int) -> bool:
    """Whether an operator is to know of this create. A passing doubt must have lasted; for any other, the create's own
    answer must have had its time."""
    if not create.is_lost or create.client_callback_url is None or create.doubt is not None:
        return False
    if doubt.is_final:
        return create.is_swept
    return create.sent_at + MATCHED_MS + UNSWEPT_MS <= now


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


def _groups(in_order: Sequence[SentCreate], tasks: Iterable[UnclaimedTask]) -> list[_Group]:
    """The creates that may have made a task are a stretch of all. A create that can have made none, and a task that
    none can have made, are in no group."""
    times = [create.sent_at for create in in_order]
    groups: list[_Group] = []
    for task in sorted(tasks, key=lambda task: (task.created_at, task.row_id)):
        begin = bisect.bisect_left(times, task.created_at - MADE_AFTER_MS)
        end = bisect.bisect_right(times, task.created_at + MADE_BEFORE_MS)
        if begin == end:
            continue
        if groups and begin < groups[-1].end:
            groups[-1].end = end
            groups[-1].tasks.append(task)
        else:
            groups.append(_Group(begin, end, [task]))
    return groups


def _barren(in_order: Sequence[SentCreate], groups: Sequence[_Group]) -> set[str]:
    """References of lost creates of outages that have fewer tasks than half of their lost creates."""
    outages: list[list[SentCreate]] = []
    for create in in_order:
        if not create.is_lost:
            continue
        if outages and create.sent_at - outages[-1][-1].sent_at <= OUTAGE_MS:
            outages[-1].append(create)
        else:
            outages.append([create])
    tasks_of: dict[str, int] = {}
    for group in groups:
        tasks_of |= {create.reference: group.begin for create in in_order[group.begin : group.end]}
    sizes = {group.begin: len(group.tasks) for group in groups}
    barren: set[str] = set()
    for outage in outages:
        touched = {tasks_of[create.reference] for create in outage if create.reference in tasks_of}
        if 2 * sum(sizes[begin] for begin in touched) < len(outage):
            barren |= {create.reference for create in outage}
    return barren
