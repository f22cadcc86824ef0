"""Settings that an operator gives to a PostgreSQL server, database or user for reasons of his own, and that the ledger
must do well with."""

import dataclasses
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from archiver.failures import LedgerUnavailable
from archiver.ledger import Ledger
from archiver.ledger.databases.notifications import Notifications
from archiver.ledger.databases.postgres import PostgresDatabase
from archiver.model import State
from tests.harness.ledgers import Desk, claim_archive
from tests.postgres import BlankDatabase

OWN = (
    "default_transaction_isolation = 'serializable'",
    "default_transaction_isolation = 'repeatable read'",
    "default_transaction_deferrable = on",
    "statement_timeout = '7min'",
    "transaction_timeout = '7min'",
    "idle_in_transaction_session_timeout = '7min'",
    "lock_timeout = '7min'",
    "synchronous_commit = off",
    "timezone = 'Asia/Tokyo'",
    "datestyle = 'German'",
    "bytea_output = 'escape'",
    "client_encoding = 'LATIN1'",
    "extra_float_digits = -10",
    "client_min_messages = 'debug1'",
)


@dataclasses.dataclass(frozen=True)
class Served:
    """A database whose settings can be changed, and a ledger that connects anew."""

    desk: Desk
    database: PostgresDatabase
    name: str

    def set(self, setting: str) -> None:
        self.desk.by_hand.write(f"ALTER DATABASE {self.name} SET {setting}")
        self.database.close()


@pytest.fixture
def served(blank_database: BlankDatabase) -> Iterator[Served]:
    desk = Desk(blank_database)
    (row,) = desk.rows("SELECT current_database() AS name")
    made = Served(desk, PostgresDatabase(blank_database.url), str(row["name"]))
    yield made
    desk.by_hand.write(f"ALTER DATABASE {made.name} RESET ALL")
    made.database.close()
    desk.close()


@pytest.mark.parametrize("setting", OWN)
def test_what_an_operator_has_set_for_others_costs_no_transaction(served: Served, setting: str) -> None:
    served.set(setting)
    desk = served.desk
    ledger = Ledger(served.database, now=desk.clock)

    desk.bring(State.SUCCEEDED)
    (lease,) = claim_archive(ledger, count=1, account="default")
    with served.database.write() as connection:
        said = connection.execute(_SETTINGS).one()
        limits = set(connection.execute(_LIMITS).scalars())
    ledger.claims.renew([lease])
    ledger.daemons.ping()

    assert (said.isolation, said.durability) == ("read committed", "on")
    assert "7min" not in limits
    assert ledger.views.status().states[State.SUCCEEDED] == 1


_SETTINGS = sa.text(
    "SELECT current_setting('transaction_isolation') AS isolation,"
    " current_setting('synchronous_commit') AS durability"
)
_LIMITS = sa.text("SELECT current_setting(name) FROM pg_settings WHERE name LIKE '%timeout'")


def test_an_operator_who_waits_for_no_standby_is_not_made_to(served: Served) -> None:
    served.set("synchronous_commit = 'local'")
    with served.database.write() as connection:
        assert connection.execute(_SETTINGS).one().durability == "local"


def test_sessions_that_wait_for_wake_ups_and_are_ended_are_begun_anew(served: Served) -> None:
    ours, others = (Notifications(served.desk.by_hand.url) for _ in range(2))
    assert ours.receive(["archive"], seconds=0) == []
    served.desk.by_hand.write(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
    )

    with pytest.raises(LedgerUnavailable, match="passes no wake-ups on"):
        ours.receive(["archive"], seconds=10)
    assert ours.receive(["archive"], seconds=0) == []
    others.send({"archive": ["default"]})
    assert ours.receive(["archive"], seconds=10) == [("archive", ["default"])]
    ours.close()
    others.close()
