"""The same history of calls on SQLite and on PostgreSQL: each call returns the same and leaves the same rows."""

import contextlib
import dataclasses
import pathlib
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from archiver.failures import ApiForbidden, BucketMissing, HostDown, LeaseLost
from archiver.ledger import Doubt, DoubtedObject
from archiver.ledger.tables import schema
from archiver.model import DiscoveredBy, FolderWorkKind, Lease, Stage
from tests.harness.histories import History
from tests.harness.ledgers import (
    ACCOUNT,
    FAMILY,
    HOUR,
    MINUTE,
    RAND,
    SECOND,
    START,
    Desk,
    answer,
    asset,
    stored,
)
from tests.postgres import BlankDatabase

CALLS_MAX = 60
NO_TIES = (
    "UPDATE tasks SET {column} = {column} / 1000 * 1000 + CAST(substr(task_id, 2) AS INTEGER)"
    " WHERE {column} IS NOT NULL"
)
"""Of two rows with the same time, each database takes first which it likes."""


class FullHistory(History):
    """Also the calls that a random history of one database leaves out. Each is given its own random choices."""

    def step(self, name: str, seed: int) -> object:
        """One call, by name; what it returned."""
        self.random = random.Random(seed)
        returned = comparable(getattr(self, name)())
        for column in ("due_at", "deadline_at", "fresh_due_at"):
            self.desk.by_hand.write(NO_TIES.format(column=column))
        self.desk.clock.advance(SECOND)
        return returned

    def claim(self) -> list[Lease]:
        stage = self.random.choice([Stage.VERIFY, Stage.ARCHIVE])
        return self._taken(self.desk.claim_all(stage, count=self.random.randrange(1, 6)))

    def batch(self) -> list[Lease]:
        return self._taken(
            self.ledger.claims.batch(account=ACCOUNT, count=4, offset=self.random.randrange(4))
        )

    def fresh(self) -> list[Lease]:
        return self._taken(self.ledger.claims.fresh(account=ACCOUNT, count=2))

    def _taken(self, leases: Sequence[Lease]) -> list[Lease]:
        """In an order that both databases give."""
        taken = sorted(leases, key=lambda lease: lease.task_id)
        self.leases += taken
        return taken

    def renew(self) -> int:
        return len(self.ledger.claims.renew(self.leases))

    def refresh(self) -> None:
        of_archive = [lease for lease in self.leases if lease.stage is Stage.ARCHIVE]
        if of_archive:
            lease = self.random.choice(of_archive)
            with contextlib.suppress(LeaseLost):
                self.ledger.outcomes.want_fresh(lease, BucketMissing("x"))

    def named_twice(self) -> None:
        """An answer that names more files than the one before."""
        task = answer(
            self.an_id(), assets=(asset(), asset("1"), asset("2", "https://other.klingai.com/2.png"))
        )
        self.ledger.records.record([task], account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=RAND)

    def hold(self) -> bool:
        error = self.random.choice(
            [BucketMissing("x"), HostDown("x", host="cdn.klingai.com"), ApiForbidden("x", family=FAMILY)]
        )
        stage = Stage.VERIFY if isinstance(error, ApiForbidden) else Stage.ARCHIVE
        return self.ledger.holds.set(error, account=ACCOUNT, stage=stage)

    def lift(self) -> object:
        self.ledger.holds.release_host(account=ACCOUNT, host="cdn.klingai.com", reasons=["host_down"])
        self.ledger.holds.drop_idle()
        stage = self.random.choice([Stage.VERIFY, Stage.ARCHIVE])
        return self.ledger.holds.release(account=ACCOUNT, stages=(stage,), family=FAMILY)

    def sweep(self) -> bool:
        token = self.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
        if token is not None and self.random.random() < 0.7:
            self.ledger.sweeps.end(
                token, succeeded_at=self.desk.clock(), full=True, oldest_first=False, last_page=2
            )
        return token is not None

    def folder(self) -> object:
        work = self.ledger.folder_work.claim(account=ACCOUNT)
        if work is None:
            return None
        named = [stored(leased.asset.stem) for leased in work.lease.assets]
        way = self.random.randrange(5)
        if work.kind is FolderWorkKind.RESTORE:
            keys = sorted(wanted.key for wanted in work.wanted)
            half = len(keys) // 2
            gone = dict.fromkeys(keys[half:] if way else [], BucketMissing("x"))
            self.ledger.restores.settle(
                work.lease, restored=keys[:half], unrecoverable=gone, ask_again=way == 1
            )
            return (work.lease.task_id, keys)
        if way == 0:
            return self.ledger.folder_work.amended(work.lease, keys=["a1"], stored=named)
        if way == 1:
            self.ledger.folder_work.retry(work.lease, BucketMissing("x"), due_at=self.desk.clock() + HOUR)
        elif way == 2:
            self.ledger.folder_work.give_back(work.lease)
        elif way == 3:
            return self.ledger.folder_work.hold(work.lease, BucketMissing("x"))
        return (work.kind, work.lease.task_id, work.reasons)

    def see_again(self) -> object:
        claimed = self.ledger.second_looks.claim(account=ACCOUNT)
        folders = sorted(claimed, key=lambda folder: folder.task_id)
        seen = [folder for folder in folders if self.random.random() < 0.7]
        keys = [(folder.row_id, key) for folder in seen for key in sorted(folder.sizes)]
        doubted = [DoubtedObject(*each) for each in keys if self.random.random() < 0.5]
        unseen = [folder for folder in folders if folder not in seen]
        self.ledger.second_looks.finish(seen, place="bucket", unseen=unseen, doubted=doubted)
        doubts = sorted(self.ledger.missing_objects.claim(account=ACCOUNT), key=lambda doubt: doubt.task_id)
        kinds: list[list[Doubt]] = [[], [], []]
        for doubt in doubts:
            self.random.choice(kinds).append(doubt)
        found, missing, changed = kinds
        settled = self.ledger.missing_objects.settle(found=found, missing=missing, changed=changed)
        asked = [(doubt.task_id, doubt.key, doubt.bytes) for doubt in doubts]
        return [folder.sizes for folder in folders], asked, sorted(settled, key=repr)

    def ask_for_missing(self) -> object:
        lease = self.ledger.restores.claim(account=ACCOUNT)
        if lease is None:
            return None
        if self.random.random() < 0.5:
            self.ledger.restores.answered(lease, answer(lease.task_id))
        else:
            self.ledger.restores.give_up(lease, BucketMissing("x"))
        return lease.task_id

    def of_lists(self) -> object:
        pending = self.ledger.claims.pending(account=ACCOUNT, rows_max=100)
        marked = self.ledger.claims.query_individually(
            account=ACCOUNT, family=FAMILY, due_before=self.desk.clock()
        )
        return pending, marked

    def life(self) -> None:
        self.ledger.daemons.beat(
            "d", version="1", started_at=START, clock_skew_ms=self.random.choice([None, 7])
        )
        self.ledger.availability.note(
            account=ACCOUNT, name=FAMILY, unavailable_at=self.random.choice([None, START])
        )

    def upkeep(self) -> object:
        expired = sorted(each.task_id for each in self.ledger.deadlines.expire())
        missed = self.ledger.deadlines.count_missed(patience_ms=MINUTE)
        dropped = self.ledger.folder_work.expire()
        self.ledger.deadlines.fold_counts()
        return (
            expired,
            missed,
            len(dropped),
            self.ledger.deadlines.prune(),
            self.ledger.deadlines.bring_forward(),
        )


CALLS = (
    "callbacks",
    "callbacks",
    "answers",
    "answers",
    "register",
    "enrol",
    "claim",
    "claim",
    "claim",
    "settle",
    "settle",
    "settle",
    "batch",
    "fresh",
    "renew",
    "refresh",
    "named_twice",
    "hold",
    "lift",
    "sweep",
    "folder",
    "see_again",
    "ask_for_missing",
    "of_lists",
    "life",
    "retry",
    "time",
    "upkeep",
)


def comparable(value: object) -> object:
    """Without row ids and tokens."""
    if isinstance(value, Lease):
        return dataclasses.replace(value, row_id=0, token="")
    if isinstance(value, list | tuple):
        return [comparable(each) for each in value]
    return value


def rows_of(desk: Desk) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, without ids and tokens; what refers to a task has its name. Counts are summed up."""
    names = {row["id"]: row["task_id"] for row in desk.rows("SELECT id, task_id FROM tasks")}
    found: dict[str, list[dict[str, Any]]] = {}
    for table in schema.metadata.sorted_tables:
        if table.name == "task_counts":
            continue
        rows = desk.rows(f"SELECT * FROM {table.name}")  # noqa: S608 -- our own tables
        found[table.name] = sorted((_without_ids(row, names) for row in rows), key=repr)
    found["task_counts"] = [{"counts": sorted(desk.counts().items())}]
    return found


def _without_ids(row: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    plain = {
        name: bool(value) if name in {"ask_singly", "host_tried", "watermarked", "oldest_first"} else value
        for name, value in row.items()
        if name != "id"
    }
    if "task" in plain:
        plain["task"] = names.get(plain["task"])
    if plain.get("lease_token"):
        plain["lease_token"] = "some"
    return plain


def views_of(desk: Desk) -> dict[str, object]:
    ledger = desk.ledger
    task_ids = sorted(row["task_id"] for row in desk.rows("SELECT task_id FROM tasks"))
    return {
        "status": ledger.views.status().as_json(several_accounts=True),
        "shown": [desk.shown(task_id) for task_id in task_ids],
        "states": ledger.records.known_states(account=ACCOUNT, task_ids=task_ids),
        "holds": ledger.holds.all(),
        "names": ledger.accounts.names(),
        "stranded": ledger.accounts.stranded(known=[]),
        "pending": ledger.claims.pending(account=ACCOUNT, rows_max=100),
        "due": [ledger.claims.any_due(stage, account=ACCOUNT) for stage in (Stage.VERIFY, Stage.ARCHIVE)],
        "memory": ledger.sweeps.memory(account=ACCOUNT, family=FAMILY),
        "unavailable": ledger.availability.unavailable(account=ACCOUNT),
    }


@pytest.fixture
def desks(
    blank_database: BlankDatabase,
) -> Callable[[], contextlib.AbstractContextManager[list[Desk]]]:
    """A blank ledger in each database."""

    @contextlib.contextmanager
    def two() -> Iterator[list[Desk]]:
        blank_database.empty()
        with contextlib.ExitStack() as opened:
            folder = pathlib.Path(opened.enter_context(tempfile.TemporaryDirectory()))
            yield [
                opened.enter_context(contextlib.closing(Desk(place, unconfirmed_max=1000)))
                for place in (folder, blank_database)
            ]

    return two


@hypothesis.settings(
    max_examples=4, phases=[hypothesis.Phase.generate], suppress_health_check=[*hypothesis.HealthCheck]
)
@hypothesis.given(seed=strategies.integers(0, 2**32))
def test_both_databases_answer_the_same_and_hold_the_same(
    desks: Callable[[], contextlib.AbstractContextManager[list[Desk]]], seed: int
) -> None:
    chosen = random.Random(seed)
    with desks() as (sqlite, postgres):
        one, other = FullHistory(sqlite, 0), FullHistory(postgres, 0)
        for number in range(CALLS_MAX):
            name, of_call = chosen.choice(CALLS), chosen.getrandbits(32)
            assert one.step(name, of_call) == other.step(name, of_call), (number, name)
        assert rows_of(sqlite) == rows_of(postgres)
        assert views_of(sqlite) == views_of(postgres)
