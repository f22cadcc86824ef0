"""A ledger on a PostgreSQL that a standby follows: what was answered survives a failover, or was never answered."""

import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from archiver.failures import LedgerUnavailable
from archiver.ledger import Ledger
from archiver.ledger.databases.postgres import PostgresDatabase
from archiver.model import Callback, Status
from archiver.problems import Expected, look
from tests.harness.ledgers import ACCOUNT, FAMILY, START
from tests.postgres import PostgresPair, plain_engine, running_pair

SECONDS_MAX = 3.0
"""Enough to reach COMMIT on a slow machine."""


class Followed:
    """A ledger at the address that leads to one server or the other, and one whose URL names both."""

    def __init__(self, pair: PostgresPair) -> None:
        self.pair = pair
        self.name = pair.create_database()
        Ledger.open(pair.url(self.name), daemon=True, create=True).close()
        at_address = f"postgresql://postgres@/{self.name}?host={pair.folder}"
        self.databases = [
            PostgresDatabase(url, busy_seconds=0.2, first_answer_seconds=0.2)
            for url in (at_address, pair.url(self.name))
        ]
        self.ledgers = [Ledger(database, now=lambda: START) for database in self.databases]

    def limit(self, seconds: float) -> None:
        for database in self.databases:
            database._seconds_max = seconds  # noqa: SLF001 -- in the middle of a test

    def tell(self, task_id: str, *, ledger: int = 0) -> None:
        callback = Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY)
        self.ledgers[ledger].callbacks.record([callback])

    def refusals(self) -> list[str]:
        """What each of them says that an operator can do."""
        told = []
        for number in range(len(self.ledgers)):
            with pytest.raises(LedgerUnavailable) as caught:
                self.tell(f"refused{number}", ledger=number)
            told.append(caught.value.what_to_do)
        return told

    def known(self) -> set[str]:
        """Of the server that writes."""
        engine = plain_engine(self.pair.url(self.name))
        with engine.connect() as connection:
            found = set(connection.exec_driver_sql("SELECT task_id FROM tasks").scalars())
        engine.dispose()
        return found

    def close(self) -> None:
        for ledger in self.ledgers:
            ledger.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[PostgresPair]:
    with running_pair() as started:
        yield started


@pytest.fixture(scope="module")
def followed(pair: PostgresPair) -> Iterator[Followed]:
    made = Followed(pair)
    yield made
    made.close()


def test_while_no_standby_takes_them_nothing_is_committed_and_all_goes_on_when_it_is_back(
    followed: Followed,
) -> None:
    followed.tell("before")
    followed.pair.standby.kill()
    followed.limit(SECONDS_MAX)

    assert all("synchronous_standby_names" in said for said in followed.refusals())
    view, problems = look(followed.ledgers[0], Expected({ACCOUNT: [FAMILY]}, sweep_interval_ms=1))
    assert view is not None
    assert (problems[0].code, "standby" in problems[0].what_to_do) == ("door_closed", True)

    followed.limit(30)
    followed.pair.start_standby()
    followed.tell("after")
    assert {"before", "after"} <= followed.known()


def test_a_wait_for_the_standby_that_an_operator_ends_is_no_commit(followed: Followed) -> None:
    followed.pair.standby.kill()
    failures: list[Exception] = []

    def tell() -> None:
        try:
            followed.tell("cancelled")
        except LedgerUnavailable as error:
            failures.append(error)

    told = threading.Thread(target=tell)
    told.start()
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    followed.pair.primary.wait_until(lambda: bool(followed.pair.primary.ask(cancel)))
    told.join()
    followed.pair.start_standby()

    (failure,) = failures
    assert "without its standby" in str(failure)


def test_after_a_failover_nothing_that_was_answered_is_missing_and_all_goes_on(followed: Followed) -> None:
    pair = followed.pair
    answered = {f"t{number}" for number in range(6)}
    for number, task_id in enumerate(sorted(answered)):
        followed.tell(task_id, ledger=number % 2)

    pair.primary.kill()
    not_reached, none_writes = followed.refusals()
    assert "Start the PostgreSQL server" in not_reached
    assert "promote the standby" in none_writes
    pair.point_at(pair.standby)
    only_reads, none_writes = followed.refusals()
    assert "The server only reads" in only_reads
    assert "promote the standby" in none_writes
    assert followed.ledgers[0].views.status().states
    pair.promote()
    pair.add_standby()

    for number in range(2):
        followed.tell(f"after{number}", ledger=number)
    assert followed.known() >= answered | {"after0", "after1"}
    for database in followed.databases:
        with database.read() as connection:
            assert connection.execute(sa.text("SELECT pg_is_in_recovery()")).scalar_one() is False
