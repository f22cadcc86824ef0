"""Ledgers whose revision says that they are this version's, and which lack something all the same: of a checkout that
was never released, or changed by hand."""

import pathlib
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from archiver.audit.doctor import Subject, Verdict, ledger
from archiver.ledger import Ledger, LedgerAltered
from archiver.ledger.migrations import comparison
from archiver.model import Callback, Status
from tests.harness.blank_ledger import lay_blank_ledger
from tests.harness.ledgers import ACCOUNT, FAMILY, Clock
from tests.harness.revisions import lay_old_ledger, url_of
from tests.postgres import plain_engine


@pytest.fixture
def change(empty: sa.Engine) -> Callable[..., None]:
    """Changes the schema of a ledger that no daemon has open, as a person does with `sqlite3` or `psql`."""
    if empty.dialect.name == "sqlite":
        lay_blank_ledger(pathlib.Path(str(empty.url.database)))
    Ledger.open(url_of(empty), daemon=True, now=Clock()).close()

    def by_hand(*statements: str) -> None:
        with empty.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.commit()

    return by_hand


def refusal(engine: sa.Engine, *, daemon: bool = True) -> LedgerAltered:
    with pytest.raises(LedgerAltered) as refused:
        Ledger.open(url_of(engine), daemon=daemon, now=Clock()).close()
    return refused.value


@pytest.mark.parametrize("daemon", [True, False])
def test_a_column_that_is_not_there_is_named_before_anything_uses_it(
    empty: sa.Engine, change: Callable[..., None], daemon: bool
) -> None:
    change("ALTER TABLE tasks DROP COLUMN seen_again_at")

    error = refusal(empty, daemon=daemon)
    assert "tasks has no column seen_again_at" in str(error)
    assert "kling-archiver rebuild" in str(error)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DROP TABLE amendments", "it has no table amendments"),
        ("ALTER TABLE tasks RENAME COLUMN message TO said", "tasks has no column message"),
        ("DROP INDEX tasks_succeeded", "tasks has no index tasks_succeeded"),
        (
            "DROP INDEX second_looks_by_due; CREATE INDEX second_looks_by_due ON second_looks (due_at)",
            "the index second_looks_by_due of second_looks is not on account, due_at",
        ),
    ],
)
def test_what_is_missing_is_named(
    empty: sa.Engine, change: Callable[..., None], statement: str, said: str
) -> None:
    change(*statement.split("; "))

    assert said in refusal(empty).said


def test_ids_that_need_not_be_unique_are_refused(empty: sa.Engine, change: Callable[..., None]) -> None:
    if empty.dialect.name == "postgresql":
        change("ALTER TABLE amendments DROP CONSTRAINT amendments_identity")
    else:  # which drops no constraint: a person copies the rows into a table without
        change("CREATE TABLE other AS SELECT * FROM amendments", "DROP TABLE amendments")
        change("ALTER TABLE other RENAME TO amendments")

    assert "task, number of amendments need not be unique" in refusal(empty).said


def test_a_column_without_which_no_row_can_be_written_is_refused(
    empty: sa.Engine, change: Callable[..., None]
) -> None:
    if empty.dialect.name == "postgresql":
        change("ALTER TABLE tasks ADD COLUMN mine text NOT NULL")
    else:  # which adds no such column to a table with a default for it
        change("DROP TABLE trust")
        change(
            "CREATE TABLE trust (place TEXT PRIMARY KEY, objects BIGINT NOT NULL, second_put TEXT, mine TEXT NOT NULL)"
        )

    assert "mine is NOT NULL without a default" in refusal(empty).said


def test_the_statements_that_make_missing_indexes_are_said_and_then_the_ledger_is_whole(
    empty: sa.Engine, change: Callable[..., None]
) -> None:
    change("DROP INDEX tasks_succeeded", "DROP INDEX folder_work_by_kind")

    for statement in refusal(empty).remedies:
        assert statement in str(refusal(empty))
        change(statement)
    ledger = Ledger.open(url_of(empty), daemon=True, now=Clock())
    ledger.callbacks.record([Callback(ACCOUNT, "1", Status.SUCCEEDED, FAMILY)])
    ledger.close()


def test_an_index_that_postgresql_could_not_finish_is_named_with_the_statements_that_make_it_anew(
    empty_postgres: str,
) -> None:
    ledger = Ledger.open(empty_postgres, daemon=True, now=Clock())
    ledger.callbacks.record([Callback(ACCOUNT, name, Status.SUCCEEDED, FAMILY) for name in ("1", "2")])
    ledger.close()
    engine = plain_engine(empty_postgres)
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP INDEX tasks_succeeded")
        with pytest.raises(
            sa.exc.IntegrityError
        ):  # which leaves an invalid index, as a broken connection does
            connection.exec_driver_sql("CREATE UNIQUE INDEX CONCURRENTLY tasks_succeeded ON tasks (account)")

    engine.dispose()

    error = refusal(engine)
    assert "tasks has no index tasks_succeeded" in error.said
    with engine.connect() as connection:
        for statement in error.remedies:
            assert statement in str(error)
            connection.exec_driver_sql(statement)
    engine.dispose()
    Ledger.open(empty_postgres, daemon=True, now=Clock()).close()


def test_what_a_person_has_added_is_no_difference(empty: sa.Engine, change: Callable[..., None]) -> None:
    change(
        "ALTER TABLE tasks ADD COLUMN note TEXT",
        "CREATE INDEX mine ON tasks (note)",
        "CREATE TABLE notes (a TEXT)",
    )

    Ledger.open(url_of(empty), daemon=True, now=Clock()).close()


def test_of_very_many_differences_the_first_are_said_and_the_rest_counted(
    empty: sa.Engine, change: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "SAID_MAX", 2)
    change("DROP TABLE amendments", "DROP TABLE trust", "DROP TABLE doubts")

    error = refusal(empty)
    assert error.said.count("it has no table") == 2
    assert "; and 1 more" in error.said


def test_doctor_and_the_check_before_a_start_say_the_same(
    empty: sa.Engine, change: Callable[..., None]
) -> None:
    change("ALTER TABLE tasks DROP COLUMN seen_again_at")
    subject = Subject(
        notes=(), doubts=(), ledger_url=url_of(empty), spool=None, accounts=(), bucket="", store=None
    )
    error = refusal(empty)

    for look in (ledger.usable, ledger.everything):
        failed = [found for found in look(subject) if found.verdict is Verdict.FAILED]
        assert [(found.message, found.what_to_do) for found in failed] == [(error.said, error.what_to_do)]


def test_a_ledger_of_an_earlier_version_is_not_compared_before_it_is_migrated(empty: sa.Engine) -> None:
    lay_old_ledger(empty, "0002")
    subject = Subject(
        notes=(), doubts=(), ledger_url=url_of(empty), spool=None, accounts=(), bucket="", store=None
    )

    assert {found.verdict for found in ledger.usable(subject)} == {Verdict.OK}
