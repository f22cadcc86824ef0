"""Taking work and ending it: leases, lanes, fences, holds."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from archiver.failures import (
    ApiCredentialsRefused,
    ApiForbidden,
    ApiServerError,
    ApiTimeout,
    BucketMissing,
    Bury,
    FetchRefused,
    HostRefusing,
    LeaseLost,
    NeverMedia,
    Retry,
    StoreError,
)
from archiver.ledger import ForwardState, Ledger
from archiver.ledger.claims import LEASE_SECONDS, TAKEOVER_MS
from archiver.ledger.tables import schema
from archiver.model import DiscoveredBy, Lane, Lease, Stage, State, Status
from tests.harness.ledgers import (
    ACCOUNT,
    DAY,
    FAMILY,
    MINUTE,
    RAND,
    SECOND,
    START,
    Desk,
    Place,
    answer,
    asset,
    claim_archive,
    stored,
)
from tests.postgres import BlankDatabase


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    made = Desk(place)
    yield made
    made.close()


# --- leases ---------------------------------------------------------------------------------------------------


def test_a_claim_is_written_down_before_any_work(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)

    lease = desk.claim(Stage.ARCHIVE)

    row = desk.row()
    assert (row["lease_token"], row["lease_until"]) == (lease.token, START + 30 * SECOND)
    assert (row["attempts"], row["due_at"], lease.attempt) == (1, START + 30 * SECOND + TAKEOVER_MS, 1)


def test_a_leased_task_is_claimed_by_nobody_else(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    desk.claim(Stage.ARCHIVE)

    desk.clock.advance(30 * SECOND - 1)

    assert desk.claim_all(Stage.ARCHIVE) == []
    assert not desk.ledger.claims.any_due(Stage.ARCHIVE, account=ACCOUNT)


@pytest.mark.parametrize("stage", [Stage.VERIFY, Stage.ARCHIVE])
def test_what_a_dead_worker_held_is_claimable_within_a_minute_and_counts_as_tried(
    desk: Desk, stage: Stage
) -> None:
    desk.bring(State.SUCCEEDED if stage is Stage.ARCHIVE else State.REPORTED)
    desk.claim(stage)

    desk.clock.advance(35 * SECOND)

    assert desk.ledger.claims.any_due(stage, account=ACCOUNT)
    assert desk.claim(stage).attempt == 2


@pytest.mark.parametrize("stage", [Stage.VERIFY, Stage.ARCHIVE])
def test_a_lease_is_left_alone_for_five_seconds_after_its_end(desk: Desk, stage: Stage) -> None:
    """Its holder's clock may be a little behind, and the last piece of a body on its way."""
    desk.bring(State.SUCCEEDED if stage is Stage.ARCHIVE else State.REPORTED)
    lease = desk.claim(stage)

    desk.clock.advance(35 * SECOND - 1)

    assert not desk.ledger.claims.any_due(stage, account=ACCOUNT)
    assert desk.claim_all(stage) == []
    desk.ledger.registrations.retry(["t"], account=ACCOUNT)
    desk.tell()
    assert desk.claim_all(stage) == []
    assert desk.ledger.claims.renew([lease]) == {lease.row_id}


@pytest.mark.sqlite_only("a start frees leases on SQLite only")
def test_a_starting_daemon_does_not_wait_for_the_leases_of_a_dead_one(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    desk.claim(Stage.ARCHIVE)

    desk.reopen()

    assert desk.claim(Stage.ARCHIVE).attempt == 2


def test_a_renewed_lease_lasts_another_30_seconds(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    lease = desk.claim(Stage.ARCHIVE)
    for _ in range(10):
        desk.clock.advance(29 * SECOND)
        assert desk.ledger.claims.renew([lease]) == {lease.row_id}
        assert desk.claim_all(Stage.ARCHIVE) == []

    desk.clock.advance(LEASE_SECONDS * SECOND + TAKEOVER_MS)
    other = desk.claim(Stage.ARCHIVE)

    assert desk.ledger.claims.renew([lease, other]) == {other.row_id}
    assert desk.row()["lease_token"] == other.token


def test_work_given_back_is_due_at_once_and_costs_no_attempt(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)

    desk.ledger.outcomes.give_back(desk.claim(Stage.ARCHIVE))

    assert desk.claim(Stage.ARCHIVE).attempt == 1


ENDINGS: dict[str, Callable[[Desk, Lease], object]] = {
    "archived": lambda desk, lease: desk.archived(lease),
    "retry": lambda desk, lease: desk.ledger.outcomes.retry(
        lease, StoreError("500"), Retry(due_at=0), stored=[stored()], failed={"0": StoreError("500")}
    ),
    "bury": lambda desk, lease: desk.ledger.outcomes.bury(
        lease, NeverMedia("html"), Bury(due_at=0), stored=[stored()], failed={"0": NeverMedia("html")}
    ),
    "hold": lambda desk, lease: desk.ledger.outcomes.hold(lease, BucketMissing("gone"), stored=[stored()]),
    "not_found": lambda desk, lease: desk.ledger.outcomes.not_found(lease, rand=RAND),
    "give_back": lambda desk, lease: desk.ledger.outcomes.give_back(lease),
}


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_a_worker_that_lost_its_lease_changes_nothing(desk: Desk, ending: str) -> None:
    desk.bring(State.SUCCEEDED)
    lost = desk.claim(Stage.ARCHIVE)
    desk.clock.advance(LEASE_SECONDS * SECOND + TAKEOVER_MS)
    desk.claim(Stage.ARCHIVE)
    tables = ("tasks", "assets", "history", "holds")
    before = [desk.rows(f"SELECT * FROM {table}") for table in tables]  # noqa: S608 -- names from above

    with pytest.raises(LeaseLost):
        ENDINGS[ending](desk, lost)

    assert [desk.rows(f"SELECT * FROM {table}") for table in tables] == before  # noqa: S608 -- as above


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_a_task_that_is_gone_from_the_ledger_is_a_lost_lease(desk: Desk, ending: str) -> None:
    desk.tell()
    lease = desk.claim(Stage.VERIFY)
    # The API answers under another id: the row of the external id is merged into that one's.
    desk.say(answer("real", external_task_id="t"))
    desk.say(answer("real", external_task_id="t"), asked_as="t")

    with pytest.raises(LeaseLost):
        ENDINGS[ending](desk, lease)


def test_a_lease_that_the_api_s_word_has_ended_can_end_nothing_any_more(desk: Desk) -> None:
    desk.bring(State.RUNNING)
    desk.clock.advance(MINUTE)
    lease = desk.claim(Stage.VERIFY)

    desk.say(answer())  # a list page was faster

    with pytest.raises(LeaseLost):
        desk.ledger.outcomes.retry(lease, ApiTimeout("slow"), Retry(due_at=START + DAY))
    assert desk.claim(Stage.ARCHIVE).attempt == 1


def test_fresh_urls_reach_a_leased_task_without_ending_its_lease(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    lease = desk.claim(Stage.ARCHIVE)

    desk.say(answer(assets=(asset(url="https://cdn.klingai.com/fresh.png"), asset("0.watermark"))))

    urls = [leased.asset.url for leased in desk.ledger.claims.assets(lease) or ()]
    assert urls == ["https://cdn.klingai.com/fresh.png", "https://cdn.klingai.com/0.watermark.png"]
    desk.archived(lease)


def test_a_leased_task_without_files_has_none_and_a_lost_lease_has_no_say(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    lease = desk.claim(Stage.ARCHIVE)
    assert len(desk.ledger.claims.assets(lease) or ()) == 1

    desk.write("delete from assets")
    assert desk.ledger.claims.assets(lease) == ()
    desk.ledger.outcomes.give_back(lease)
    assert desk.ledger.claims.assets(lease) is None


@pytest.mark.sqlite_only("a start frees leases on SQLite only")
def test_a_starting_daemon_frees_every_lease(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED, "a")
    desk.bring(State.REPORTED, "b")
    desk.claim(Stage.ARCHIVE)
    desk.claim(Stage.VERIFY)

    desk.reopen()

    assert [desk.claim(stage).attempt for stage in (Stage.ARCHIVE, Stage.VERIFY)] == [2, 2]


@pytest.mark.sqlite_only("a start frees leases on SQLite only")
def test_a_task_whose_work_kills_the_process_is_not_first_for_ever(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    waits = []
    for _ in range(6):
        desk.claim(Stage.ARCHIVE)
        desk.reopen()
        waits.append(desk.seconds_until_due())
        desk.clock.now = desk.row()["due_at"]

    assert waits == [0, 0, 5, 5, 30, 30]


def test_a_command_beside_the_daemon_frees_no_lease(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    lease = desk.claim(Stage.ARCHIVE)

    command = Ledger.open(desk.by_hand.url, daemon=False, now=desk.clock)
    command.close()

    assert desk.ledger.claims.renew([lease]) == {lease.row_id}


# --- lanes ------------------------------------------------------------------------------------------------------


def test_a_backlog_never_delays_a_fresh_task_and_failing_tasks_never_starve_healthy_ones(desk: Desk) -> None:
    for number in range(10):
        desk.say(answer(f"old-{number}", created_at=START - 20 * DAY + number))
    for _ in range(3):
        for lease in desk.claim_all(Stage.ARCHIVE, count=10):
            desk.fail(lease, StoreError("500"))
        desk.clock.advance(MINUTE)
    for number in range(10):
        desk.say(answer(f"untried-{number}", created_at=START - 10 * DAY + number))
        desk.clock.advance(1)
    desk.say(answer("fresh"))

    claimed = [lease.task_id for lease in desk.claim_all(Stage.ARCHIVE, count=8)]

    assert {"old-0", "old-1", "old-2", "old-3", "untried-0", "untried-1", "fresh"} <= set(claimed)
    assert len(claimed) == 8


def test_a_fresh_task_goes_before_a_backlog_that_was_found_after_it(desk: Desk) -> None:
    for number in range(20):  # the sweep reads from the newest end; in the midst of it comes a callback
        if number == 10:
            desk.say(answer("fresh"))
        desk.say(answer(f"found-{number}", created_at=START - DAY - number), by=DiscoveredBy.SWEEP)
        desk.clock.advance(SECOND)

    claimed = [
        claim_archive(desk.ledger, count=1, account=ACCOUNT, started=slot)[0].task_id for slot in range(4)
    ]

    assert "fresh" in claimed


def test_one_slot_at_a_time_every_lane_gets_its_turn(desk: Desk) -> None:
    for number in range(6):
        desk.say(answer(f"old-{number}", created_at=START - 20 * DAY + number))
        desk.clock.advance(1)
    desk.say(answer("fresh"))

    claimed = [
        claim_archive(desk.ledger, count=1, account=ACCOUNT, started=slot)[0].task_id for slot in range(4)
    ]

    assert "fresh" in claimed
    assert claimed[0] == "old-0"


def test_known_ids_are_asked_for_first_then_first_come_first_served(desk: Desk) -> None:
    for task_id in ("first", "second", "third"):
        desk.tell(task_id)
        desk.clock.advance(1)
    desk.bring(State.RUNNING, "known")
    desk.clock.advance(MINUTE)

    order = [desk.ledger.claims.verify(count=1, offset=slot, account=ACCOUNT)[0].task_id for slot in range(4)]

    assert order == ["known", "first", "second", "third"]


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_however_many_running_tasks_are_due_each_fourth_question_is_an_unconfirmed_ids(
    desk: Desk, threads: int
) -> None:
    for number in range(40):
        desk.say(answer(f"running-{number}", Status.RUNNING))
    desk.clock.advance(MINUTE)
    for number in range(4):
        desk.tell(f"new-{number}")

    claimed: list[str] = []
    while len(claimed) < 12:
        leases = desk.ledger.claims.verify(count=threads, offset=len(claimed), account=ACCOUNT)
        assert len(leases) == threads
        claimed += [lease.task_id for lease in leases]

    assert [task_id for task_id in claimed if task_id.startswith("new")] == ["new-0", "new-1", "new-2"]


def test_what_one_kind_of_id_leaves_free_is_the_others(desk: Desk) -> None:
    desk.say(answer("running", Status.RUNNING))
    desk.clock.advance(MINUTE)
    desk.tell("new-0")
    desk.tell("new-1")
    claims = desk.ledger.claims

    assert len(claims.verify(count=3, offset=0, account=ACCOUNT)) == 3
    assert claims.verify(count=3, offset=0, account=ACCOUNT) == []


def test_each_fourth_batch_is_of_unconfirmed_ids_while_running_tasks_are_due(desk: Desk) -> None:
    for number in range(40):
        desk.say(answer(f"running-{number}", Status.RUNNING, family="tasks/image"))
    desk.clock.advance(MINUTE)
    desk.tell("new", family=None)

    batches = [desk.ledger.claims.batch(count=5, offset=number, account=ACCOUNT) for number in range(4)]

    assert [batch[0].confirmed for batch in batches] == [True, True, True, False]


def test_what_came_after_a_list_was_read_is_left_to_the_next_list(desk: Desk) -> None:
    desk.tell("before")
    desk.clock.advance(1)
    read_at = desk.clock()
    desk.clock.advance(1)
    desk.tell("after")

    claimed = desk.ledger.claims.verify(count=5, offset=0, due_before=read_at, account=ACCOUNT)

    assert [lease.task_id for lease in claimed] == ["before"]


def test_tasks_of_avoided_hosts_are_left_where_they_are(desk: Desk) -> None:
    desk.say(answer("a", assets=(asset(url="https://one.klingai.com/0.png"),)))
    desk.say(answer("b", assets=(asset(url="https://two.klingai.com/0.png"),)))
    desk.say(answer("c", assets=(asset(url="no url at all"),)))

    claimed = desk.ledger.claims.archive(
        slots={Lane.DEADLINE: 9}, count_max=9, hosts_avoided={"one.klingai.com"}, account=ACCOUNT
    )

    assert sorted(lease.task_id for lease in claimed) == ["b", "c"]


# --- what a claim costs -----------------------------------------------------------------------------------------


def fill(desk: Desk) -> None:
    """3,000 tasks that wait, some of them due."""
    desk.is_forged = True
    shapes = {
        "archive": ("succeeded", FAMILY),
        "verify": ("running", FAMILY),
        "inquire": ("reported", None),
    }
    rows = []
    for number in range(3_000):
        queue = list(shapes)[number % 3]
        state, family = shapes[queue]
        rows.append(
            {
                "account": ACCOUNT,
                "task_id": f"t{number}",
                "external_task_id": f"mine-{number}",
                "family": family,
                "family_hint": FAMILY,
                "result_arrays": "",
                "state": state,
                "queue": queue,
                "attempts": number % 7,
                "held": 0,
                "due_at": START + (number % 4) * MINUTE,
                "created_at": START - number if family else None,
                "deadline_at": START - number + 30 * DAY,
                "first_seen_at": START - number,
                "confirmed_at": START if family else None,
                "document": "{}" if family else None,
                "asked": 0,
                "query_individually": number % 5 == 0,
                "discovered_by": "callback",
                "callbacks": 1,
            }
        )
    with desk.ledger.database.write() as connection:
        connection.execute(sa.insert(schema.tasks), rows)


@pytest.fixture
def backlog(place: Place) -> Iterator[Desk]:
    made = Desk(place)
    fill(made)
    yield made
    made.close()


def plans(desk: Desk, work: Callable[[], object]) -> list[str]:
    """How SQLite goes about each statement on tasks that `work` executes."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)
    return [
        " ; ".join(str(row["detail"]) for row in desk.rows(f"EXPLAIN QUERY PLAN {statement}", *parameters))
        for statement, parameters in statements
        if re.match(r"SELECT|UPDATE|DELETE", statement) and "tasks" in statement
    ]


ON_EVERY_ROUND: dict[str, Callable[[Ledger], object]] = {
    "claims.archive": lambda ledger: claim_archive(ledger, count=4, account=ACCOUNT),
    "claims.archive beside a failing host": lambda ledger: ledger.claims.archive(
        slots={Lane.DEADLINE: 2, Lane.ATTEMPTS: 2},
        count_max=4,
        hosts_avoided={"s15-kling.klingai.com"},
        account=ACCOUNT,
    ),
    "claims.verify": lambda ledger: ledger.claims.verify(count=4, offset=0, account=ACCOUNT),
    "claims.verify, own paths only": lambda ledger: ledger.claims.verify(
        count=4, offset=0, own_paths_only=True, account=ACCOUNT
    ),
    "claims.batch": lambda ledger: ledger.claims.batch(count=20, offset=0, account=ACCOUNT),
    "known_states": lambda ledger: ledger.records.known_states(account=ACCOUNT, task_ids=["t1", "t2"]),
    "enrol": lambda ledger: ledger.registrations.enrol({"t1": ["videos"], "new": []}, account=ACCOUNT),
    "any_due": lambda ledger: ledger.claims.any_due(Stage.ARCHIVE, account=ACCOUNT),
    "pending": lambda ledger: ledger.claims.pending(account=ACCOUNT, rows_max=5000),
    "query_individually": lambda ledger: ledger.claims.query_individually(
        account=ACCOUNT, family=FAMILY, due_before=START
    ),
    "expire": lambda ledger: ledger.deadlines.expire(),
    "prune": lambda ledger: ledger.deadlines.prune(),
    "count_missed": lambda ledger: ledger.deadlines.count_missed(patience_ms=SECOND),
    "bring_forward": lambda ledger: ledger.deadlines.bring_forward(),
    "status": lambda ledger: ledger.views.status(),
    "charts": lambda ledger: (ledger.trends.last_day(), ledger.trends.nearest_deadlines()),
    "forwards of the console": lambda ledger: [
        ledger.forward_orders.page(state, page="5-5", limit=50) for state in ForwardState
    ],
    "stranded": lambda ledger: ledger.accounts.stranded(known=()),
    "show": lambda ledger: ledger.views.show("mine-7", account=ACCOUNT),
    "register": lambda ledger: ledger.registrations.register("mine-8", account=ACCOUNT, family=FAMILY),
    "retry": lambda ledger: ledger.registrations.retry(["mine-9"], account=ACCOUNT),
    "acknowledge": lambda ledger: ledger.acknowledgements.acknowledge(["mine-9"], account=ACCOUNT),
    "acknowledge_lost": lambda ledger: ledger.acknowledgements.acknowledge_lost(account=ACCOUNT),
    "states": lambda ledger: ledger.records.states(account=ACCOUNT, task_ids=["t1", "t2"]),
}


@pytest.mark.parametrize("name", list(ON_EVERY_ROUND))
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.sqlite_only("how SQLite goes about it")
def test_nothing_that_is_done_again_and_again_reads_or_sorts_the_whole_table(
    backlog: Desk, name: str, held: bool
) -> None:
    if held:
        for stage in (Stage.VERIFY, Stage.ARCHIVE):
            backlog.ledger.holds.set(ApiServerError("x", family=FAMILY), account=ACCOUNT, stage=stage)

    found = plans(backlog, lambda: ON_EVERY_ROUND[name](backlog.ledger))

    assert found
    for plan in found:
        # a walk along the index of the unconfirmed ids has a LIMIT; its rows are all there is to see
        assert not re.search(r"SCAN tasks(?! USING INDEX tasks_unconfirmed)", plan)
        # the lanes sort the first row of each group, of which there are few
        assert "USE TEMP B-TREE FOR ORDER BY" not in plan or "RECURSIVE STEP" in plan


def walks(desk: Desk, statements: list[tuple[str, Any]]) -> list[str]:
    """The plans of PostgreSQL that read many rows for a few."""
    found = []
    with desk.ledger.database.write() as connection:
        for statement, parameters in statements:
            if "set_config" in statement:  # as the transaction did
                connection.exec_driver_sql(statement, parameters)
            elif re.match(r"SELECT|UPDATE|DELETE|WITH", statement) and "tasks" in statement:
                given = parameters[0] if isinstance(parameters, list) else parameters
                plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", given).scalars())
                found += [plan for walk in WALKS if re.search(walk, plan)]
    return found


WALKS = (
    r"(Seq|Bitmap Heap) Scan on tasks",
    r"(Hash|Merge) Join",
    r"using tasks_pkey on tasks\S*  [^\n]*\n(?! *Index Cond)",
    r"Sort Key: tasks_\d\.(attempts|deadline_at)(?!.*\.id)",
)


def test_postgresql_reads_no_whole_table_either(blank_database: BlankDatabase) -> None:
    """Nor does it sort a queue for its first row. What it knows of the queues is from before they were filled."""
    desk = Desk(blank_database)
    statements: list[tuple[str, Any]] = []
    fill(desk)

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        statements.append((statement, parameters))

    for do in ON_EVERY_ROUND.values():
        do(desk.ledger)
    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        for do in ON_EVERY_ROUND.values():
            do(desk.ledger)
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)

    assert walks(desk, statements) == []
    desk.by_hand.write("ANALYZE tasks")
    assert walks(desk, statements) == []
    desk.close()


@pytest.mark.sqlite_only("how SQLite goes about it")
def test_forged_ids_that_are_buried_are_not_passed_on_the_way_to_the_nearest_deadline(backlog: Desk) -> None:
    found = plans(backlog, lambda: [ON_EVERY_ROUND[name](backlog.ledger) for name in ("status", "charts")])

    assert sum("USING INDEX tasks_buried (state=?)" in plan for plan in found) == 2


@pytest.mark.sqlite_only("how SQLite goes about it")
def test_a_start_looks_for_leases_among_leased_tasks_only(backlog: Desk) -> None:
    leased = backlog.claim_all(Stage.ARCHIVE)

    found = plans(backlog, backlog.reopen)

    assert any("USING INDEX tasks_leased" in plan for plan in found)
    assert not any(re.search(r"SCAN tasks(?! USING INDEX tasks_leased)", plan) for plan in found)
    assert leased
    assert backlog.rows("SELECT id FROM tasks WHERE lease_token IS NOT NULL") == []


OF_AN_IDLE_ACCOUNT: dict[str, Callable[[Ledger], object]] = {
    "claims.verify": lambda ledger: ledger.claims.verify(count=4, offset=0, account="idle"),
    "claims.verify, own paths only": lambda ledger: ledger.claims.verify(
        count=4, offset=0, own_paths_only=True, account="idle"
    ),
    "claims.batch": lambda ledger: ledger.claims.batch(count=20, offset=0, account="idle"),
    "any_due": lambda ledger: ledger.claims.any_due(Stage.VERIFY, account="idle"),
    "pending": lambda ledger: ledger.claims.pending(account="idle", rows_max=5000),
    "query_individually": lambda ledger: ledger.claims.query_individually(
        account="idle", family=FAMILY, due_before=START
    ),
}


@pytest.mark.parametrize("name", list(OF_AN_IDLE_ACCOUNT))
@pytest.mark.sqlite_only("how SQLite goes about it")
def test_no_account_walks_past_what_is_due_for_another(backlog: Desk, name: str) -> None:
    searched = [
        search
        for plan in plans(backlog, lambda: OF_AN_IDLE_ACCOUNT[name](backlog.ledger))
        for search in re.findall(r"(?:SEARCH|SCAN) tasks[^;]*", plan)
        if "rowid=?" not in search
    ]

    assert searched
    for search in searched:
        assert "account=?" in search


# --- holds ------------------------------------------------------------------------------------------------------

REFUSED = ApiCredentialsRefused("1002")


def two(desk: Desk) -> None:
    """Two tasks that wait for the archive stage, `a` since longer."""
    for task_id in "ab":
        desk.say(answer(task_id))
        desk.clock.advance(1)


def test_a_hold_stops_its_stage_and_costs_nobody_an_attempt(desk: Desk) -> None:
    two(desk)
    first = claim_archive(desk.ledger, count=1, account=ACCOUNT)[0]

    desk.fail(first, BucketMissing("no such bucket"))

    assert desk.claim_all(Stage.ARCHIVE) == []
    assert not desk.ledger.claims.any_due(Stage.ARCHIVE, account=ACCOUNT)
    assert [desk.row(task_id)["attempts"] for task_id in "ab"] == [0, 0]
    assert desk.row(first.task_id)["reason"] is None


def test_a_probe_that_succeeds_lets_everything_go_on_at_once(desk: Desk) -> None:
    two(desk)
    desk.fail(claim_archive(desk.ledger, count=1, account=ACCOUNT)[0], BucketMissing("no such bucket"))
    desk.clock.advance(30 * SECOND)
    desk.archived(desk.claim(Stage.ARCHIVE))

    gone = desk.ledger.holds.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family=FAMILY)

    assert gone == ["bucket_missing"]
    assert len(desk.claim_all(Stage.ARCHIVE)) == 1


@pytest.mark.sqlite_only("hours of claims: thousands of statements")
def test_a_poisonous_task_goes_further_back_each_time_and_never_keeps_the_others_for_long(desk: Desk) -> None:
    desk.say(answer("poison", created_at=START - 29 * DAY))  # the nearest deadline: always first
    healthy = 0
    held_seconds = 0
    for _ in range(500):
        desk.say(answer(f"healthy-{desk.clock()}"))
        desk.clock.advance(SECOND)
        held_seconds += desk.ledger.holds.any()
        for lease in desk.claim_all(Stage.ARCHIVE, count=4):
            if lease.task_id == "poison":
                desk.fail(lease, BucketMissing("only for this one"))
            else:
                desk.archived(lease)
                desk.ledger.holds.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family=FAMILY)
                healthy += 1

    assert healthy > 450
    assert held_seconds < 150


def test_a_poisonous_task_is_the_probe_only_where_there_is_no_other(desk: Desk) -> None:
    two(desk)
    poison = claim_archive(desk.ledger, count=1, account=ACCOUNT)[0]
    desk.fail(poison, BucketMissing("only for this one"))

    desk.clock.advance(MINUTE)
    probe = desk.claim(Stage.ARCHIVE)
    assert probe.task_id != poison.task_id
    desk.archived(probe)
    desk.clock.advance(MINUTE)
    assert desk.claim(Stage.ARCHIVE).task_id == poison.task_id


def test_in_an_outage_nobody_but_the_first_goes_further_back(desk: Desk) -> None:
    two(desk)
    for lease in desk.claim_all(Stage.ARCHIVE):
        desk.fail(lease, BucketMissing("no such bucket"))
    for _ in range(50):
        desk.clock.advance(30 * SECOND)
        desk.fail(desk.claim(Stage.ARCHIVE), BucketMissing("no such bucket"))
    desk.ledger.holds.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family=FAMILY)

    assert max(desk.seconds_until_due(task_id) for task_id in "ab") <= 30


def test_the_only_task_there_is_is_probed_as_often(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    probes = 0
    for _ in range(601):
        for lease in desk.claim_all(Stage.ARCHIVE):
            probes += lease.is_probe
            desk.clock.advance(300)
            desk.fail(lease, BucketMissing("no such bucket"))
        desk.clock.advance(SECOND)

    assert 21 <= probes <= 23


def test_a_hold_without_anything_to_probe_with_is_probed_by_the_next_that_comes(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    desk.fail(desk.claim(Stage.ARCHIVE), BucketMissing("no such bucket"))
    desk.clock.advance(30 * SECOND)
    desk.archived(desk.claim(Stage.ARCHIVE))
    desk.clock.advance(MINUTE)
    assert desk.claim_all(Stage.ARCHIVE) == []

    desk.say(answer("next"))

    assert desk.claim(Stage.ARCHIVE).is_probe


def test_probes_take_no_more_slots_than_there_are(desk: Desk) -> None:
    for host in ("one", "two", "three"):
        desk.say(answer(host, assets=(asset(url=f"https://{host}.klingai.com/0.png"),)))
        error = HostRefusing("refused", host=f"{host}.klingai.com")
        desk.ledger.holds.set(error, account=ACCOUNT, stage=Stage.ARCHIVE)
    desk.clock.advance(30 * SECOND)

    assert len(desk.claim_all(Stage.ARCHIVE, count=2)) == 2
    assert len(desk.claim_all(Stage.ARCHIVE, count=2)) == 1


def test_a_probe_counts_among_what_a_claim_may_take(desk: Desk) -> None:
    desk.say(answer("held", assets=(asset(url="https://one.klingai.com/0.png"),)))
    desk.say(answer("free", assets=(asset(url="https://two.klingai.com/0.png"),)))
    desk.tell("a", family="images/editing/expand")
    desk.tell("b", family="images/generations")
    error = HostRefusing("refused", host="one.klingai.com")
    desk.ledger.holds.set(error, account=ACCOUNT, stage=Stage.ARCHIVE)
    forbidden = ApiForbidden("1103", family="images/editing/expand")
    desk.ledger.holds.set(forbidden, account=ACCOUNT, stage=Stage.VERIFY)
    desk.clock.advance(30 * SECOND)

    for stage in (Stage.ARCHIVE, Stage.VERIFY):
        assert [lease.is_probe for lease in desk.claim_all(stage, count=1)] == [True]
        assert [lease.is_probe for lease in desk.claim_all(stage, count=1)] == [False]


def test_a_family_s_hold_stops_that_family_only(desk: Desk) -> None:
    desk.tell("a", family="images/generations")
    desk.tell("b", family="images/editing/expand")
    desk.tell("c", family=None)
    desk.say(answer("d", status=Status.RUNNING, family="images/generations"))
    desk.clock.advance(MINUTE)
    error = ApiForbidden("1103", family="images/generations")
    desk.ledger.holds.set(error, account=ACCOUNT, stage=Stage.VERIFY)

    assert [lease.task_id for lease in desk.claim_all(Stage.VERIFY)] == ["b", "c"]
    assert desk.ledger.holds.is_held(account=ACCOUNT, stage=Stage.VERIFY, family="images/generations")
    assert not desk.ledger.holds.is_held(account=ACCOUNT, stage=Stage.VERIFY, family="images/editing/expand")

    desk.clock.advance(30 * SECOND)
    (probe,) = [lease for lease in desk.claim_all(Stage.VERIFY) if lease.is_probe]
    assert probe.task_id == "d"


def test_a_family_s_hold_goes_when_that_family_works_again_and_not_before(desk: Desk) -> None:
    error = ApiForbidden("1103", family="images/generations")
    desk.ledger.holds.set(error, account=ACCOUNT, stage=Stage.VERIFY)
    release = desk.ledger.holds.release

    assert release(account=ACCOUNT, stages=(Stage.VERIFY,), family="images/editing/expand") == []
    assert release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family="images/generations") == []
    assert release(account="other", stages=(Stage.VERIFY,), family="images/generations") == []
    assert release(account=ACCOUNT, stages=(Stage.VERIFY,), family="images/generations") == ["api_forbidden"]
    assert not desk.ledger.holds.any()


def test_a_host_s_hold_stops_that_host_only(desk: Desk) -> None:
    desk.say(answer("a", assets=(asset(url="https://one.klingai.com/0.png"),)))
    desk.say(answer("b", assets=(asset(url="https://two.klingai.com/0.png"),)))
    desk.say(answer("c", assets=(asset(url="no url at all"),)))
    for lease in desk.claim_all(Stage.ARCHIVE):
        desk.fail(lease, FetchRefused("HTTP 403", host=lease.asset_host))
    error = HostRefusing("refused", host="one.klingai.com")
    desk.ledger.holds.set(error, account=ACCOUNT, stage=Stage.ARCHIVE)
    desk.clock.advance(2 * SECOND - 1)

    assert sorted(lease.task_id for lease in desk.claim_all(Stage.ARCHIVE)) == ["b", "c"]
    assert desk.ledger.holds.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family=FAMILY) == []
    assert desk.ledger.holds.release_host(
        account=ACCOUNT, host="one.klingai.com", reasons=["host_refusing"]
    ) == ["host_refusing"]
    assert [lease.task_id for lease in desk.claim_all(Stage.ARCHIVE)] == ["a"]


def test_a_hold_is_of_one_stage_and_account(desk: Desk) -> None:
    desk.tell("a")
    desk.bring(State.SUCCEEDED, "b")
    desk.ledger.holds.set(REFUSED, account="other", stage=Stage.VERIFY)
    desk.ledger.holds.set(BucketMissing("gone"), account="other", stage=Stage.ARCHIVE)
    desk.ledger.holds.set(REFUSED, account=ACCOUNT, stage=Stage.SWEEP)

    assert desk.claim(Stage.VERIFY).task_id == "a"
    assert desk.claim(Stage.ARCHIVE).task_id == "b"


def test_a_hold_keeps_its_beginning_and_takes_the_newest_reason(desk: Desk) -> None:
    assert desk.ledger.holds.set(REFUSED, account=ACCOUNT, stage=Stage.VERIFY)
    desk.clock.advance(MINUTE)

    again = ApiServerError("maintenance")
    assert not desk.ledger.holds.set(again, account=ACCOUNT, stage=Stage.VERIFY)

    (hold,) = desk.ledger.holds.all()
    assert (hold.reason, hold.since) == ("api_server_error", START)


def test_a_hold_outlives_a_restart(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    desk.fail(desk.claim(Stage.ARCHIVE), BucketMissing("no such bucket"))

    desk.reopen()

    assert desk.claim_all(Stage.ARCHIVE) == []
