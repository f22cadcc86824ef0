"""Claims forwards and ends them.

A claim writes token, lease end, attempt and next due time before anything is sent. The lease outlives a try, so it is
never renewed; a forward of a dead process is tried again after its end. The end of a try is fenced by the token: a try
whose answer came too late changes nothing. The consumer may get the same forward twice, and recognises it by its
`webhook_id`.

The events of one task to one target go in their order: a forward is not claimed while an earlier one waits.
"""

import dataclasses
import json
import sys
import uuid
from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from archiver.failures import ConsumerNotReached, Failure, LeaseLost
from archiver.ledger.claims import TAKEOVER_MS
from archiver.ledger.databases.dialect import is_one_of, skipping_locked
from archiver.ledger.folder_work.work import amendment_keys
from archiver.ledger.forwards.turns import EARLIER_WAITS, give_turn
from archiver.ledger.holds import probe_wait_ms, set_hold
from archiver.ledger.part import Part, retried
from archiver.ledger.tables import schema
from archiver.ledger.tables.forwards import (
    OPERATOR_CONSUMER,
    PASSED_ON,
    ForwardEvent,
    ForwardState,
    ForwardTally,
    ForwardTarget,
)
from archiver.ledger.tables.named_values import FORWARDS_TO_OPERATOR, forget_named_value, set_named_value
from archiver.ledger.tables.rows import read_asset
from archiver.model import LeasedAsset, Stage

LEASE_SECONDS = 45
"""The lease of one try. A try ends after 15 s; the rest is for what comes before it."""
WAIT_MS_MAX = 3_600_000 + 60_000
"""No forward waits longer than this, unless the clock was set back after its due time was written."""
CONSUMERS_MAX = 200
"""Consumers that one round looks at."""
TRIES_MIN = 2
"""Tries of one forward before its consumer counts as hanging: one failed try says little about a consumer that takes
thousands."""

_IN_BUCKET = frozenset({*PASSED_ON, ForwardEvent.ARCHIVED, ForwardEvent.AMENDED})
"""Events whose document is kept elsewhere, or never sent again."""

_FORWARDS = schema.forwards
_IS_WAITING = _FORWARDS.c.state == sa.literal_column(f"'{ForwardState.WAITING}'")
"""As a literal: else SQLite cannot tell that the partial index has all the rows."""
_NOW = sa.bindparam("now", type_=sa.BigInteger)
_IS_DUE = sa.or_(_FORWARDS.c.due_at <= _NOW, _FORWARDS.c.due_at > _NOW + WAIT_MS_MAX)


@dataclasses.dataclass(frozen=True, slots=True)
class ForwardLease:
    """The right to try one forward, until the lease ends by itself. Times are Unix ms."""

    row_id: int
    token: str
    webhook_id: str
    account: str
    task_row: int
    target: ForwardTarget
    consumer: str
    event: ForwardEvent
    number: int
    """The number of the amendment."""
    attempt: int
    """Counts from 1, this one included."""
    queued_at: int


@dataclasses.dataclass(frozen=True, slots=True)
class ForwardContent:
    """The task of a forward, as far as it is known. Reason, message and `told_stems` are as they were when the forward
    was queued.

    Times are Unix ms.
    """

    task_id: str
    account: str
    family: str
    reason: str | None
    message: str | None
    created_at: int
    client_callback_url: str | None
    document: str | None
    """The API's own object as JSON; None where only the bucket has it."""
    manifest_key: str | None
    amendment_keys: tuple[str, ...]
    assets: tuple[LeasedAsset, ...]
    told_stems: frozenset[str]
    """The stems of the files in the forward."""


@dataclasses.dataclass(frozen=True, slots=True)
class DueConsumers:
    """Some consumers with due forwards; `after` is where the next ones begin, None at the end."""

    names: tuple[str, ...]
    after: str | None
    unanswered: frozenset[str] = frozenset()
    """Of the forwards that wait for one of these, leased ones aside, the one due last was tried TRIES_MIN times or
    more, and the last try got no answer."""


class Forwards(Part):
    """Forwards that wait to be sent. Methods that end a lease raise LeaseLost."""

    @retried
    def set_operator(self, *, is_told: bool) -> None:
        """Whether the operator's application gets forwards about events from now on, by this process or any other."""
        with self._database.write() as connection:
            _lift_holds(connection)  # the URL may have changed
            if is_told:
                set_named_value(connection, FORWARDS_TO_OPERATOR, self._now())
            else:
                forget_named_value(connection, FORWARDS_TO_OPERATOR)

    def due_consumers(self, *, after: str | None = None) -> DueConsumers:
        """The consumers that something is due for, from behind `after`: up to CONSUMERS_MAX of those that anything
        waits for are looked at, some steps along an index for each."""
        with self._database.read() as connection:
            walked = connection.execute(_WALKED, {"now": self._now(), "after": after}).all()
        names = tuple(row.consumer for row in walked if row.is_due)
        unanswered = frozenset(row.consumer for row in walked if row.is_due and row.is_unanswered)
        return DueConsumers(names, walked[-1].consumer if len(walked) >= CONSUMERS_MAX else None, unanswered)

    @retried
    def claim(self, consumer: str, *, accounts: Collection[str], count: int) -> list[ForwardLease]:
        """Lease up to `count` due forwards to this consumer, of tasks of these accounts; while the operator's
        application is held, one when it is to be probed."""
        token = uuid.uuid4().hex
        with self._database.write() as connection:
            now = self._now()
            if consumer == OPERATOR_CONSUMER:
                count = min(count, _room_in_hold(connection, now=now))
                if not count:
                    return []
            until = now + LEASE_SECONDS * 1000
            due = (
                sa.select(_FORWARDS.c.id)
                .where(_IS_WAITING, _FORWARDS.c.consumer == consumer, _IS_DUE)
                .where(_FORWARDS.c.account.in_(accounts), ~EARLIER_WAITS)
                .order_by(_FORWARDS.c.due_at, _FORWARDS.c.id)
                .limit(count)
            )
            chosen = skipping_locked(due, _FORWARDS).scalar_subquery()
            claim = sa.update(_FORWARDS).where(is_one_of(_FORWARDS.c.id, chosen)).returning(_FORWARDS)
            claim = claim.values(
                lease_token=token,
                lease_until=until,
                due_at=until + TAKEOVER_MS,
                attempts=_FORWARDS.c.attempts + 1,
            )
            rows = connection.execute(claim, {"now": now}).mappings().all()
        return [_leased(row) for row in sorted(rows, key=lambda row: row["id"])]

    def content(self, lease: ForwardLease) -> ForwardContent:
        """The contents of a forward. Raises LeaseLost where the task is gone."""
        tasks, assets = schema.tasks, schema.assets
        kept = sa.select(_FORWARDS.c.document, _FORWARDS.c.facts).where(_FORWARDS.c.id == lease.row_id)
        with self._database.read() as connection:
            task = connection.execute(sa.select(tasks).where(tasks.c.id == lease.task_row)).mappings().first()
            if task is None:
                raise LeaseLost("the task of a forward is gone")
            row = connection.execute(kept).first()
            if row is None:
                raise LeaseLost("a forward is gone")
            document = row.document
            query = sa.select(assets).where(assets.c.task == lease.task_row).order_by(assets.c.id)
            files = connection.execute(query).mappings().all()
            amended = amendment_keys(connection, lease.task_row)
        if document is None and task["document"] != "{}":
            document = task["document"]
        facts = (
            json.loads(row.facts) if row.facts is not None else {**task, "stems": [f["stem"] for f in files]}
        )
        return ForwardContent(
            task_id=task["task_id"],
            account=task["account"],
            family=task["family"] or task["family_hint"] or "",
            reason=facts["reason"],
            message=facts["message"],
            created_at=task["created_at"] or task["first_seen_at"],
            client_callback_url=task["client_callback_url"],
            document=document,
            manifest_key=task["manifest_key"],
            amendment_keys=amended,
            assets=tuple(map(read_asset, files)),
            told_stems=frozenset(facts["stems"]),
        )

    @retried
    def hold(self, error: Failure, *, account: str) -> bool:
        """The operator's application accepts nothing: send only probes. True if the hold is new."""
        with self._database.write() as connection:
            return set_hold(connection, error, account=account, stage=Stage.FORWARD, now=self._now())

    @retried
    def delivered(self, lease: ForwardLease, *, status: int) -> list[str]:
        """The consumer has accepted the forward; the reasons of the holds that this has lifted."""
        with self._database.write() as connection:
            values = {"state": ForwardState.DELIVERED, "last_status": status, "reason": None}
            if lease.event in _IN_BUCKET:  # if it is sent again, the document is read from the bucket
                values["document"] = None
            self._end(connection, lease, values)
            return _lift_holds(connection) if lease.target is ForwardTarget.OPERATOR else []

    @retried
    def dead(self, lease: ForwardLease, *, status: int | None, reason: str, is_problem: bool) -> None:
        """Give the forward up; `is_problem`: an operator should know."""
        with self._database.write() as connection:
            values: dict[str, Any] = {"state": ForwardState.DEAD, "last_status": status, "reason": reason}
            if is_problem and lease.event not in PASSED_ON:
                values["unseen_since"] = self._now()
            self._end(connection, lease, values)

    @retried
    def retry(self, lease: ForwardLease, *, due_at: int, status: int | None, reason: str) -> None:
        """The consumer has not accepted the forward: it is tried again at `due_at`."""
        with self._database.write() as connection:
            _write(connection, lease, {"due_at": due_at, "last_status": status, "reason": reason})

    @retried
    def give_back(self, lease: ForwardLease) -> None:
        """Nothing was sent: due at once, attempt not counted."""
        with self._database.write() as connection:
            _write(connection, lease, {"due_at": self._now(), "attempts": _FORWARDS.c.attempts - 1})

    def _end(self, connection: sa.Connection, lease: ForwardLease, values: Mapping[str, Any]) -> None:
        now = self._now()
        _write(connection, lease, {**values, "due_at": None, "ended_at": now})
        give_turn(connection, [(lease.task_row, lease.target)], now=now)
        tally = ForwardTally()
        tally.move(lease.event, ForwardState.WAITING, values["state"])
        tally.write(connection)


def _room_in_hold(connection: sa.Connection, *, now: int) -> int:
    """How many may be claimed for the operator's application: many, or one that probes it now, or none."""
    held = schema.holds.c.stage == Stage.FORWARD
    query = sa.select(sa.func.max(schema.holds.c.probe_at), sa.func.max(schema.holds.c.probes)).where(held)
    probe_at, probes = connection.execute(query).one()
    if probe_at is None:
        return sys.maxsize
    if now < probe_at <= now + WAIT_MS_MAX:
        return 0
    probing = {"probe_at": now + probe_wait_ms(probes), "probes": probes + 1, "probed_at": now}
    free = (held, schema.holds.c.probe_at <= probe_at)
    return 1 if connection.execute(sa.update(schema.holds).where(*free).values(probing)).rowcount else 0


def _lift_holds(connection: sa.Connection) -> list[str]:
    table = schema.holds
    lifted = sa.delete(table).where(table.c.stage == Stage.FORWARD).returning(table.c.reason)
    return list(connection.execute(lifted).scalars())


def _walked_consumers() -> sa.Select[str, bool, bool | None]:
    after = sa.bindparam("after", type_=sa.Text)
    first = sa.select(sa.func.min(_FORWARDS.c.consumer)).where(_IS_WAITING)
    start = first.where(sa.or_(after.is_(None), _FORWARDS.c.consumer > after)).scalar_subquery()
    walked = sa.select(start.label("consumer"), sa.literal(1).label("steps")).cte("walked", recursive=True)
    following = first.where(_FORWARDS.c.consumer > walked.c.consumer).scalar_subquery()
    goes_on = (walked.c.consumer.is_not(None), walked.c.steps < CONSUMERS_MAX)
    walked = walked.union_all(sa.select(following, walked.c.steps + 1).where(*goes_on))
    is_due = sa.exists().where(_FORWARDS.c.consumer == walked.c.consumer, _IS_WAITING, _IS_DUE)
    is_put_off = sa.and_(
        _FORWARDS.c.due_at > _NOW,
        _FORWARDS.c.attempts >= TRIES_MIN,
        _FORWARDS.c.last_status.is_(None),
        _FORWARDS.c.reason == ConsumerNotReached.reason,  # and not our own failure
    )
    # A killed process leaves leased forwards; they are due last, and show nothing.
    is_unanswered = (
        sa.select(is_put_off)
        .where(_FORWARDS.c.consumer == walked.c.consumer, _IS_WAITING, _FORWARDS.c.lease_token.is_(None))
        .order_by(_FORWARDS.c.due_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = sa.select(walked.c.consumer, is_due.label("is_due"), is_unanswered.label("is_unanswered"))
    query = query.where(walked.c.consumer.is_not(None))
    return query.order_by(walked.c.steps)


_WALKED = _walked_consumers()


def _leased(row: Mapping[Any, Any]) -> ForwardLease:
    return ForwardLease(
        row_id=row["id"],
        token=row["lease_token"],
        webhook_id=row["webhook_id"],
        account=row["account"],
        task_row=row["task"],
        target=ForwardTarget(row["target"]),
        consumer=row["consumer"],
        event=ForwardEvent(row["event"]),
        number=row["number"],
        attempt=row["attempts"],
        queued_at=row["queued_at"],
    )


def _write(connection: sa.Connection, lease: ForwardLease, values: Mapping[str, Any]) -> None:
    """End the lease with these values. Raises LeaseLost."""
    held = (_FORWARDS.c.id == lease.row_id, _FORWARDS.c.lease_token == lease.token)
    change = sa.update(_FORWARDS).where(*held, _IS_WAITING)
    released = {"lease_token": None, "lease_until": None}
    if not connection.execute(change.values({**released, **values})).rowcount:
        raise LeaseLost("another process has taken over the forward")
