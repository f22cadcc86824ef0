"""What `status --check` reports, for cron and monitoring: one sentence a problem, and what to do about it.

The list is a contract: lost or buried tasks, a hold of over an hour, a deadline in under 7 days, a configured family
without a successful sweep for a day, an amendment that waits for over an hour, tasks of an account that the settings do
not name. On a new ledger, sweeps are due a day after the first daemon started.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from archiver.commands.terminal.printing import count_of, distance, span
from archiver.families import FAMILIES, collection_of
from archiver.ledger import HoldView, Ledger, StatusView
from archiver.model import DAY_MS, State

HOLD_MS_MAX = 3_600_000
AMENDMENT_MS_MAX = 3_600_000
DEADLINE_MS_MIN = 7 * DAY_MS
SWEEP_MS_MAX = DAY_MS
IDS_SHOWN = 5


def problems(
    ledger: Ledger, status: StatusView, *, families: Mapping[str, Sequence[str]], now: int
) -> list[str]:
    """`families` are those of each account; `now` is Unix ms."""
    several = len(families) > 1
    return [
        *_set_aside(ledger, status, accounts=families),
        *_held(status, now=now, several=several),
        *_running_out(status, now=now),
        *_amendments_waiting(ledger, accounts=families, now=now),
        *_stranded(ledger, accounts=families),
        *(
            f"{account}: {sentence}" if several else sentence
            for account in families
            for sentence in _unswept(ledger, account=account, families=families[account], now=now)
        ),
    ]


def _set_aside(ledger: Ledger, status: StatusView, *, accounts: Iterable[str]) -> Iterator[str]:
    for state in (State.LOST, State.BURIED):
        count = status.states[state]
        if count:
            found = (ledger.views.ids_in(state, account=account, count_max=IDS_SHOWN) for account in accounts)
            ids = list(itertools.chain.from_iterable(found))[:IDS_SHOWN]
            names = ", ".join(ids) + (", …" if count > len(ids) else ".")
            yield f"{count_of(count, 'task')} {state}: {names} To see why: kling-archiver show ID"


def _held(status: StatusView, *, now: int, several: bool) -> Iterator[str]:
    for hold in status.holds:
        length = now - hold.since
        if length > HOLD_MS_MAX:
            part = part_of(hold, several=several)
            yield f"{part} held for {span(length)}: {hold.reason}. {hold.what_to_do}".rstrip()


def part_of(hold: HoldView, *, several: bool) -> str:
    """`archive`, `sweep (images/generations)`; with the account if there are several."""
    account = hold.account if several else None
    where = ", ".join(part for part in (account, hold.family, hold.host) if part)
    return f"{hold.stage} ({where})" if where else hold.stage


def _running_out(status: StatusView, *, now: int) -> Iterator[str]:
    deadline = status.earliest_deadline
    if deadline is None:
        return
    left = deadline - now
    if left < DEADLINE_MS_MIN:
        verb = "is" if left > 0 else "was"
        yield (
            f"the nearest deadline of a task that is not in the bucket {verb} {distance(left)}. "
            "To see what is held: kling-archiver status"
        )


def _amendments_waiting(ledger: Ledger, *, accounts: Collection[str], now: int) -> Iterator[str]:
    """`amendment_waiting`: files that the API named after the manifest was put, and that are not in the bucket yet."""
    found = ledger.folder_work.waiting(since_before=now - AMENDMENT_MS_MAX)
    waiting = [amendment for amendment in found if amendment.account in accounts]
    if waiting:
        ids = [amendment.task_id for amendment in waiting[:IDS_SHOWN]]
        names = ", ".join(ids) + (", …" if len(waiting) > len(ids) else ".")
        yield (
            f"files of {count_of(len(waiting), 'archived task')} that the API named later wait for "
            f"{span(now - waiting[0].since)} (amendment_waiting): {names} To see why: kling-archiver show ID"
        )


def _stranded(ledger: Ledger, *, accounts: Collection[str]) -> Iterator[str]:
    """No daemon with these settings works for them."""
    for account, count in ledger.accounts.stranded(known=accounts).items():
        if count:
            yield (
                f"{count_of(count, 'task')} of the account {account}, which the settings do not name. Add it to the "
                f"settings, or rename it: kling-archiver rename-account {account} NEW"
            )


def _unswept(ledger: Ledger, *, account: str, families: Sequence[str], now: int) -> Iterator[str]:
    started = ledger.daemons.first_started_at()
    if started is not None and now - started < SWEEP_MS_MAX:
        return
    unoffered = ledger.availability.unavailable(account=account)
    for family in families:
        if family in unoffered:
            # An operator cannot change what a gateway offers, but an unknown family may be misspelled.
            if family not in FAMILIES and collection_of(family) is None:
                yield f"the API has no list of {family}, a family that this version does not know. Check KLING_FAMILIES"
            continue
        last = ledger.sweeps.memory(account=account, family=family).last_success_at
        if last is None:
            yield f"{family} has never been swept successfully. To see why: kling-archiver sweep"
        elif now - last > SWEEP_MS_MAX:
            yield f"the last successful sweep of {family} was {distance(last - now)}. To see why: kling-archiver sweep"
