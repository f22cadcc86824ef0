"""Everything that an operator must know, found in one snapshot of the ledger. `status`, `/readyz` and the alerts all
read this list; alerts are sent only for problems that last five minutes.

The codes are a contract.
"""

import collections
import dataclasses
import itertools
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from archiver.failures import ApiAnswerUnreadable, LedgerUnavailable
from archiver.families import FAMILIES, collection_of
from archiver.ledger import HoldView, Ledger, LedgerRefused, MatchDoubt, Service, StatusView, TasksInTime
from archiver.ledger.daemons import BEAT_MS_MAX
from archiver.model import DAY_MS, Problem, State
from archiver.phrases import count_of, distance, listing, span

WAITING_MS_MAX = 3_600_000
"""How long a succeeded task, or an amendment, may wait for the bucket."""
DEADLINE_MS_MIN = 7 * DAY_MS
SWEEP_INTERVALS_MAX = 3
SWEEP_MS_MAX = 3_600_000
"""A sweep is late after this many intervals, but not before this time."""
DISK_BYTES_MIN = 2**30
DISK_SHARE_MIN = 0.05
"""The room that the ledger's disk must have free: the smaller of the two."""

UNASKED_MS_MAX = 120_000
"""While an account moves from one process to another, no process asks for it: for less than a minute."""
COMMITTED_MS_MAX = 30_000
"""How long a door's last sign of life proves that the ledger commits."""

IDS_MAX = 5

SHOW = "kling-archiver show ID"
SEE = f"To see why: {SHOW}."
ACKNOWLEDGE = "If nothing can be done any more: kling-archiver acknowledge ID."

_UNARCHIVED = (State.REPORTED, State.RUNNING, State.SUCCEEDED, State.BURIED, State.LOST)


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """What the settings ask for, which the problems are judged by."""

    families: Mapping[str, Sequence[str]]
    """Account → the families that are swept for it."""
    sweep_interval_ms: int


def door_closed(why: str | LedgerUnavailable | LedgerRefused) -> Problem:
    """Callbacks cannot be committed. A ledger in that state cannot say it."""
    what_to_do = LedgerUnavailable.what_to_do if isinstance(why, str) else why.what_to_do
    return Problem(
        "door_closed",
        f"callbacks cannot be committed: {why.said if isinstance(why, LedgerRefused) else why}",
        f"{what_to_do} Until then the door answers callbacks 503, and the sweep finds their tasks later.",
    )


def find_problems(view: StatusView, expected: Expected) -> list[Problem]:
    """Everything that is wrong; empty while all is well."""
    return list(itertools.chain.from_iterable(find(view, expected) for find in _FINDERS))


def look(ledger: Ledger, expected: Expected) -> tuple[StatusView | None, list[Problem]]:
    """A snapshot and its problems, including whether callbacks can be committed. The snapshot is None if the ledger
    cannot be read.

    A door that has just given a sign of life has committed it. On a database with one writer, this process tries a
    commit itself only if no door has: beside a busy door it would wait for its turn, and report the door as closed.
    """
    try:
        view = ledger.views.status()
        if not (ledger.database.has_one_writer and _has_just_beaten(view)):
            ledger.daemons.ping()
    except LedgerUnavailable as error:
        closed = door_closed(error)
        try:
            view = ledger.views.status()
        except LedgerUnavailable:
            return None, [closed]
        return view, [closed, *find_problems(view, expected)]
    return view, find_problems(view, expected)


NONE_RUNS = "No daemon runs on this ledger now. Nothing else is wrong."


def _has_just_beaten(view: StatusView) -> bool:
    doors = [daemon for daemon in view.daemons if Service.DOOR in daemon.serves]
    return any(view.now - daemon.seen_at < COMMITTED_MS_MAX for daemon in doors)


def verdict(problems: Sequence[Problem], view: StatusView | None = None) -> str:
    """The verdict in one line. For two minutes a daemon that stopped in order is not a problem, but the line mentions
    it."""
    if not problems:
        is_stopped = view is not None and not view.alive_daemons
        return NONE_RUNS if is_stopped else "All is well."
    counts = collections.Counter(problem.code for problem in problems)
    codes = ", ".join(code if count == 1 else f"{code} ({count})" for code, count in counts.items())
    return f"{count_of(len(problems), 'problem')}: {codes}."


def part_of(hold: HoldView, *, several: bool) -> str:
    """`archive`, `sweep (images/generations)`; with the account if there are several."""
    account = hold.account if several else None
    where = ", ".join(part for part in (account, hold.family, hold.host) if part)
    return f"{hold.stage} ({where})" if where else hold.stage


_STARTED_BY = {
    Service.WORK: "Start kling-receiver (beside a door: kling-archiver work)",
    Service.DOOR: "Start kling-receiver (beside workers: kling-receiver --edge-only)",
}


def _dead(view: StatusView, expected: Expected) -> Iterator[Problem]:
    """An orderly end counts from its last sign of life too: an upgrade takes less than two minutes. A kill counts at
    once where it can be seen, unless the next daemon has begun."""
    del expected
    for service, code, what in (
        (Service.WORK, "no_worker", "nothing is verified, archived or swept"),
        (Service.DOOR, "no_door", "no callback is taken"),
    ):
        serving = [daemon for daemon in view.daemons if service in daemon.serves]
        if any(daemon.is_alive(now=view.now) for daemon in serving):
            continue
        latest = max(serving, key=lambda daemon: daemon.seen_at, default=None)
        last = latest.seen_at if latest else None
        if latest is None or latest.is_gone or view.now - latest.seen_at >= BEAT_MS_MAX:
            message = f"no daemon has ever given a sign of life: {what}"
            if last is not None:
                message = f"no daemon has given a sign of life for {span(view.now - last)}: {what}"
            yield Problem(code, message, f"{_STARTED_BY[service]}, and read its log.", since=last)


def _unasked(view: StatusView, expected: Expected) -> Iterator[Problem]:
    workers = [daemon for daemon in view.alive_daemons if Service.WORK in daemon.serves]
    asked = {account for daemon in workers for account in daemon.accounts}
    asked |= {duty.account for duty in view.asked if view.now - duty.held_until < UNASKED_MS_MAX}
    unarchived: dict[str, int] = {}
    for (account, state), count in view.counts.items():
        if state in _UNARCHIVED:
            unarchived[account] = unarchived.get(account, 0) + count
    for account, count in unarchived.items():
        if account not in expected.families and account not in asked:
            yield Problem(
                "account_unasked",
                f"{count_of(count, 'task')} of the account {account}, which is not in the settings",
                f"Add the account to the settings, or rename it: kling-archiver rename-account {account} NEW.",
                account,
            )
    begun_at = min((worker.started_at for worker in workers), default=view.now)
    last = {duty.account: duty.held_until for duty in view.asked}
    for account in expected.families:
        since = max(last.get(account, 0), begun_at)
        if account not in asked and view.now - since >= UNASKED_MS_MAX:
            message = (
                f"no running daemon has asked Kling about the account {account} for {span(view.now - since)}"
            )
            what = (
                "Restart a worker (kling-receiver, or kling-archiver work) whose settings have the account."
            )
            yield Problem("account_unasked", message, what, account, since)


def _held(view: StatusView, expected: Expected) -> Iterator[Problem]:
    several = len(expected.families) > 1
    for hold in view.holds:
        yield Problem(
            "hold",
            f"{part_of(hold, several=several)} is held: {hold.reason}" + f": {hold.message}".rstrip(": "),
            hold.what_to_do,
            hold.account,
            hold.since,
            stage=hold.stage,
            reason=hold.reason,
            subject=f"{hold.family or ''} {hold.host or ''}".strip(),
        )


def _waiting(view: StatusView, expected: Expected) -> Iterator[Problem]:
    del expected
    for task in view.oldest_succeeded:
        if view.now - task.at > WAITING_MS_MAX:
            count = view.counts.get((task.account, State.SUCCEEDED), 0)
            message = (
                f"{count_of(count, 'succeeded task')} not in the bucket yet; {task.task_id} has waited longest, "
                f"{span(view.now - task.at)}"
            )
            yield Problem("waiting", message, _about(task.task_id, SEE), task.account, task.at)


def _unread(view: StatusView, expected: Expected) -> Iterator[Problem]:
    """Tasks that this version cannot read: they may have succeeded."""
    del expected
    what_to_do = f"Install a newer version of kling-archiver, which may read them. {SEE}"
    for tasks in view.unread:
        if view.now - tasks.since > WAITING_MS_MAX:
            problem = _of_tasks(
                "waiting", "that the API shows in a format unknown to this version", tasks, what_to_do
            )
            yield dataclasses.replace(problem, reason=ApiAnswerUnreadable.reason, subject="unread")


def _lost(view: StatusView, expected: Expected) -> Iterator[Problem]:
    del expected
    what = f"{SEE} The daemon tries it until a week after its deadline. When you have seen it: "
    return (
        _of_tasks("lost", "lost", tasks, f"{what}kling-archiver acknowledge --lost.") for tasks in view.lost
    )


def _buried(view: StatusView, expected: Expected) -> Iterator[Problem]:
    del expected
    what = f"{SEE} After removing the cause: kling-archiver retry --buried. {ACKNOWLEDGE}"
    return (_of_tasks("buried", "buried", tasks, what) for tasks in view.buried)


def _amendments(view: StatusView, expected: Expected) -> Iterator[Problem]:
    """Files that the API named after the manifest was put."""
    del expected
    for tasks in view.amendments:
        length = view.now - tasks.since
        if length > WAITING_MS_MAX:
            what = f"with files that the API named later, which wait for {span(length)}"
            yield _of_tasks("amendment_waiting", what, tasks, SEE)


def _missing(view: StatusView, expected: Expected) -> Iterator[Problem]:
    """Archived objects that are missing in the bucket."""
    del expected
    what_to_do = (
        f"{SEE} Find out what deletes in the bucket: a lifecycle rule, a script, a person. When you have seen it: "
        "kling-archiver acknowledge ID."
    )
    for tasks in view.missing_objects:
        yield _of_tasks("objects_missing", "with objects missing in the bucket", tasks, what_to_do)


def _dead_forwards(view: StatusView, expected: Expected) -> Iterator[Problem]:
    """Forwards that no application has accepted in seven days."""
    del expected
    what_to_do = (
        "See why: kling-archiver forwards list --state dead. When the application answers again: kling-archiver "
        "forwards retry --dead. If it needs no forward any more: kling-archiver acknowledge ID."
    )
    for tasks in view.dead_forwards:
        yield _of_tasks(
            "forwards_dead", "with forwards that an application did not accept", tasks, what_to_do
        )


_WHY_DOUBTED = {
    MatchDoubt.CLIENTS: "creates with different callback URLs were under way",
    MatchDoubt.TASKS: "there are more tasks than creates",
    MatchDoubt.FEW: "most creates of that time have made no task",
    MatchDoubt.APPLICATIONS: "an application creates such tasks without the gateway",
    MatchDoubt.MANY: "there are more creates or tasks at that time than the daemon judges",
    MatchDoubt.UNDECIDED: "for two hours tasks of that time have not ended, or no sweep has succeeded",
}


def _doubted_creates(view: StatusView, expected: Expected) -> Iterator[Problem]:
    """Whose applications may not know of their tasks."""
    del expected
    for doubt in view.doubts:
        message = f"{count_of(doubt.count, 'create')} of {doubt.family} through the gateway got no answer"
        if doubt.reason is MatchDoubt.UNSWEPT:
            message += f", and no sweep of {doubt.family} has succeeded since"
            what_to_do = (
                f"Add {doubt.family} to KLING_FAMILIES. If it is there, see why: kling-archiver sweep."
            )
        elif doubt.task_ids:
            ids = listing(doubt.task_ids[:IDS_MAX], count=len(doubt.task_ids))
            message += f", and may have made these tasks or not, because {_WHY_DOUBTED[doubt.reason]}: {ids}"
            what_to_do = _about(
                doubt.task_ids[0],
                f"See the task: {SHOW}. If your application has created it, give it the result yourself.",
            )
        else:
            message += f", and may have made tasks or not, because {_WHY_DOUBTED[doubt.reason]}"
            what_to_do = (
                "See in your application whether it lacks results, and in the console whether they are there."
            )
        # A reference may begin with a hyphen, and would be taken for an option.
        reference = f"{'-- ' * doubt.reference.startswith('-')}{shlex.quote(doubt.reference)}"
        what_to_do += f" When you have seen it: kling-archiver acknowledge {reference}."
        yield Problem(
            "forwards_dead",
            message,
            what_to_do,
            doubt.account,
            doubt.since,
            reason=doubt.reason,
            subject=f"{doubt.family} {doubt.reason}",
        )


def _of_tasks(code: str, what: str, tasks: TasksInTime, what_to_do: str) -> Problem:
    count = count_of(tasks.count, "task") if not tasks.is_more else f"{tasks.count} tasks or more"
    ids = listing(tasks.task_ids, count=tasks.count)
    what_to_do = _about(tasks.task_ids[0], what_to_do) if tasks.task_ids else what_to_do
    return Problem(code, f"{count} {what}: {ids}", what_to_do, tasks.account, tasks.since)


def _about(task_id: str, what_to_do: str) -> str:
    """Names the command that shows the first task, ready to be copied."""
    return what_to_do.replace(SHOW, SHOW.replace("ID", shlex.quote(task_id)))


def _deadline(view: StatusView, expected: Expected) -> Iterator[Problem]:
    del expected
    task = view.nearest_deadline
    if task is not None and task.at - view.now < DEADLINE_MS_MIN:
        verb = "is" if task.at > view.now else "was"
        yield Problem(
            "deadline",
            f"the nearest deadline of a task that is not in the bucket {verb} {distance(task.at - view.now)}: "
            f"{task.task_id}",
            _about(task.task_id, f"See what is held, and why the task waits: {SHOW}."),
            task.account,
            task.at - DEADLINE_MS_MIN,
        )


def _swept_late(view: StatusView, expected: Expected) -> Iterator[Problem]:
    """A list that the API has never offered is not a problem, because a gateway may offer no lists. A list that the API
    no longer offers is one."""
    patience_ms = max(SWEEP_INTERVALS_MAX * expected.sweep_interval_ms, SWEEP_MS_MAX)
    last = {(sweep.account, sweep.family): sweep.last_success_at for sweep in view.sweeps}
    wanted = ((account, family) for account, families in expected.families.items() for family in families)
    for account, family in wanted:
        success_at = last.get((account, family))
        if success_at is None and (account, family) in view.unavailable:
            yield from _unoffered(account, family)
            continue
        since = success_at or view.first_started_at
        if since is None or view.now - since <= patience_ms:
            continue
        message = f"{family} has never been swept successfully"
        if success_at is not None:
            message = f"the last successful sweep of {family} was {distance(success_at - view.now)}"
        what = "To see why: kling-archiver sweep."
        yield Problem("sweep_late", message, what, account, since, subject=family)


def _unoffered(account: str, family: str) -> Iterator[Problem]:
    """Unknown families that the API does not offer: their names may be misspelled. A known family is no problem,
    because the operator cannot change what a gateway offers."""
    if family not in FAMILIES and collection_of(family) is None:
        message = f"the API has no list of {family}, a family that this version does not know"
        yield Problem("settings", message, "Check KLING_FAMILIES.", account, subject=family)


def _disk(view: StatusView, expected: Expected) -> Iterator[Problem]:
    del expected
    disk = view.disk
    if disk is not None and disk.free_bytes < min(DISK_BYTES_MIN, DISK_SHARE_MIN * disk.total_bytes):
        free = f"{disk.free_bytes // 1_000_000} MB of {disk.total_bytes // 1_000_000} MB"
        message = f"the ledger's disk is nearly full: {free} are free at {disk.path}"
        yield Problem("disk_low", message, "Make room: a full disk closes the door for callbacks.")
    if view.obstacle is not None:
        obstacle = view.obstacle
        yield Problem(
            "disk_low", obstacle.message, obstacle.what_to_do, stage="ledger", reason=obstacle.reason
        )


def _warned(view: StatusView, expected: Expected) -> Iterator[Problem]:
    """The warnings that the running daemons have written about themselves."""
    del expected
    warnings = itertools.chain.from_iterable(daemon.warnings for daemon in view.alive_daemons)
    return iter({warning.key + warning.message: warning for warning in warnings}.values())


_FINDERS: Sequence[Callable[[StatusView, Expected], Iterator[Problem]]] = (
    _dead,
    _lost,
    _held,
    _deadline,
    _missing,
    _buried,
    _waiting,
    _unread,
    _unasked,
    _swept_late,
    _amendments,
    _dead_forwards,
    _doubted_creates,
    _disk,
    _warned,
)
"""The worst problems come first."""
