"""A ledger on a clock of its own, and the few words in which its tests speak. Real SQLite, no sleeps."""

import pathlib
import sqlite3
from collections.abc import Callable
from typing import Any

from archiver.engine.slots.lane_slots import lane_slots
from archiver.failures import Bury, Failure, Hold, NeverMedia, decide
from archiver.ledger import Ledger, RecordedTask
from archiver.ledger.databases.sqlite import SqliteDatabase
from archiver.model import (
    Asset,
    Callback,
    CallbackOutcome,
    DiscoveredBy,
    Lease,
    Role,
    Stage,
    State,
    Status,
    StoredAsset,
    Task,
)
from tests.harness.by_hand import PostgresByHand, SqliteByHand
from tests.postgres import BlankDatabase

ACCOUNT = "default"
FAMILY = "images/generations"
START = 1_790_000_000_000
"""Unix ms: when every test's clock starts."""
SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
RAND = 0.5
"""Jitter takes a random half: with this one, a delay is three quarters of its cap."""


def claim_archive(ledger: Ledger, *, count: int, account: str, started: int = 0) -> list[Lease]:
    """Lease up to `count` tasks for the archive stage, each lane its share, as an idle engine does.

    `started` is the number of the first slot.
    """
    return ledger.claims.archive(
        slots=lane_slots(count, running={}, started=started), count_max=count, account=account
    )


class Clock:
    """Unix ms; moves only when it is told to."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, milliseconds: int) -> None:
        self.now += milliseconds


def asset(stem: str = "0", url: str | None = None) -> Asset:
    """An image that the API names."""
    where = f"https://cdn.klingai.com/{stem}.png" if url is None else url
    return Asset(stem=stem, url=where, role=Role.IMAGE, index=None, watermarked="watermark" in stem)


def stored(stem: str = "0") -> StoredAsset:
    """The same image as it lies in the bucket."""
    return StoredAsset(
        stem=stem,
        name=f"{stem}.png",
        key=f"{FAMILY}/2026/09/21/t/{stem}.png",
        role=Role.IMAGE,
        index=None,
        watermarked="watermark" in stem,
        bytes=10,
        sha256="0" * 64,
        content_type="image/png",
        width=1,
        height=1,
        source_url=f"https://cdn.klingai.com/{stem}.png",
    )


def answer(
    task_id: str = "t",
    status: Status = Status.SUCCEEDED,
    *,
    family: str = FAMILY,
    created_at: int | None = START,
    updated_at: int | None = START + 24 * SECOND,
    external_task_id: str | None = None,
    assets: tuple[Asset, ...] | None = None,
    message: str = "",
) -> Task:
    """The API's word about one task; a succeeded one has one image unless told otherwise."""
    given = (asset(),) if assets is None and status is Status.SUCCEEDED else assets or ()
    document = {"task_id": task_id, "task_status": status.value, "urls": [asset.url for asset in given]}
    return Task(
        task_id=task_id,
        family=family,
        status=status,
        message=message,
        created_at=created_at,
        updated_at=updated_at,
        external_task_id=external_task_id,
        assets=given,
        document=document,
    )


Place = pathlib.Path | BlankDatabase
"""Where a `Desk` has its ledger: a folder, for SQLite, or a PostgreSQL database."""


class Desk:
    """One ledger, worked by hand: `tell` (a callback), `say` (the API's word), claims, and looks at rows."""

    def __init__(self, place: Place, **options: Any) -> None:
        self.by_hand: SqliteByHand | PostgresByHand
        if isinstance(place, BlankDatabase):
            self.by_hand = PostgresByHand(place)
        else:
            self.by_hand = SqliteByHand(place / "ledger.db")
        self.clock = Clock()
        self._options = options
        self.is_forged = False
        """Whether a test has written past the ledger, which then could not count."""
        self.ledger = self._open()

    @property
    def path(self) -> pathlib.Path:
        """The file, on SQLite."""
        assert isinstance(self.by_hand, SqliteByHand)
        return self.by_hand.path

    def _open(self) -> Ledger:
        return self.by_hand.open(now=self.clock, kind=Ledger, **self._options)

    def close(self) -> None:
        self.ledger.close()
        try:
            if not self.is_forged:
                assert self.counts() == self.counted(), "a transaction has not counted what it changed"
        finally:
            self.by_hand.close()

    def counts(self) -> dict[tuple[str, str, bool], int]:
        """What the ledger has counted, by account, state and whether it is confirmed."""
        rows = self.rows(
            "SELECT account, state, is_confirmed, sum(tasks) AS tasks FROM task_counts GROUP BY 1, 2, 3"
        )
        return {
            (row["account"], row["state"], bool(row["is_confirmed"])): row["tasks"]
            for row in rows
            if row["tasks"]
        }

    def counted(self) -> dict[tuple[str, str, bool], int]:
        """The same, by looking at every task."""
        rows = self.rows(
            "SELECT account, state, confirmed_at IS NOT NULL AS confirmed, count(*) AS tasks FROM tasks"
            " GROUP BY 1, 2, 3"
        )
        return {(row["account"], row["state"], bool(row["confirmed"])): row["tasks"] for row in rows}

    def reopen(self) -> None:
        """The daemon has ended, whatever it held, and the next one starts."""
        self.ledger.close()
        self.ledger = self._open()

    # --- what happens -----------------------------------------------------------------------------------

    def tell(
        self, task_id: str = "t", status: Status | None = Status.SUCCEEDED, *, family: str | None = FAMILY
    ) -> CallbackOutcome:
        """A callback."""
        return self.ledger.callbacks.record([Callback(ACCOUNT, task_id, status, family)])[0]

    def say(
        self,
        task: Task,
        *,
        by: DiscoveredBy = DiscoveredBy.CALLBACK,
        asked_as: str | None = None,
    ) -> RecordedTask:
        """The API's word."""
        return self.ledger.records.record(
            [task], account=ACCOUNT, discovered_by=by, rand=RAND, asked_as=asked_as
        )[0]

    def claim(self, stage: Stage) -> Lease:
        """The one task that is claimable."""
        (lease,) = self.claim_all(stage)
        return lease

    def claim_all(self, stage: Stage, *, count: int = 10) -> list[Lease]:
        if stage is Stage.ARCHIVE:
            return claim_archive(self.ledger, count=count, account=ACCOUNT)
        return self.ledger.claims.verify(count=count, offset=0, account=ACCOUNT)

    def fail(self, lease: Lease, error: Failure) -> None:
        """The work on this lease ended in `error`: what `FailureHandler` would do."""
        decision = decide(
            error, attempt=lease.attempt, now=self.clock(), deadline=lease.deadline_at, rand=RAND
        )
        if isinstance(decision, Hold):
            self.ledger.outcomes.hold(lease, error)
        elif isinstance(decision, Bury):
            self.ledger.outcomes.bury(lease, error, decision)
        else:
            self.ledger.outcomes.retry(lease, error, decision)

    def archived(self, lease: Lease) -> None:
        self.ledger.outcomes.archived(
            lease, manifest_key="f/manifest.json", archived_at=self.clock(), stored=[stored()]
        )

    # --- states -----------------------------------------------------------------------------------------

    def bring(self, state: State, task_id: str = "t") -> None:
        """A fresh task into this state, by the way it would really come there. Moves the clock where it must."""
        getattr(self, f"_bring_{state}")(task_id)
        assert self.state(task_id) is state

    def _bring_reported(self, task_id: str) -> None:
        self.tell(task_id)

    def _bring_running(self, task_id: str) -> None:
        self.say(answer(task_id, Status.RUNNING))

    def _bring_succeeded(self, task_id: str) -> None:
        self.say(answer(task_id))

    def _bring_failed(self, task_id: str) -> None:
        self.say(answer(task_id, Status.FAILED, message="policy"))

    def _bring_archived(self, task_id: str) -> None:
        self.say(answer(task_id))
        self.archived(self.claim(Stage.ARCHIVE))

    def _bring_buried(self, task_id: str) -> None:
        self.say(answer(task_id))
        self.fail(self.claim(Stage.ARCHIVE), NeverMedia("a web page"))

    def _bring_unknown(self, task_id: str) -> None:
        self.tell(task_id)
        self.ledger.outcomes.not_found(self.claim(Stage.VERIFY), rand=RAND)
        self.clock.advance(11 * MINUTE)
        self.ledger.outcomes.not_found(self.claim(Stage.VERIFY), rand=RAND)

    def _bring_lost(self, task_id: str) -> None:
        self.say(answer(task_id))
        self.clock.advance(30 * DAY)
        self.ledger.deadlines.expire()

    # --- what is written down ---------------------------------------------------------------------------

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """Rows straight from the database, past the code that is tested."""
        return self.by_hand.rows(query, *values)

    def write(self, statement: str, *values: object) -> None:
        """Straight into the database, past the code that is tested: what would take a test too long to bring about."""
        self.is_forged = True
        self.by_hand.write(statement, *values)

    def write_script(self, script: str) -> None:
        """The same for many statements."""
        self.is_forged = True
        self.by_hand.write_script(script)

    def row(self, task_id: str = "t") -> dict[str, Any]:
        (row,) = self.rows("SELECT * FROM tasks WHERE task_id = ?", task_id)
        return row

    def state(self, task_id: str = "t") -> State:
        return State(self.row(task_id)["state"])

    def seconds_until_due(self, task_id: str = "t") -> float:
        due_at: int = self.row(task_id)["due_at"]
        return (due_at - self.clock()) / SECOND

    def shown(self, task_id: str = "t") -> dict[str, Any]:
        found = self.ledger.views.show(task_id, account=ACCOUNT)
        assert found is not None
        return found.as_json()


def steps(desk: Desk, work: Callable[[], object]) -> int:
    """How many hundreds of instructions SQLite's machine takes for the writes of `work`: a measure without a clock."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    database = desk.ledger.database
    assert isinstance(database, SqliteDatabase)
    with database.write() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.set_progress_handler(step, 100)
    work()
    driver.set_progress_handler(None, 0)
    return count
