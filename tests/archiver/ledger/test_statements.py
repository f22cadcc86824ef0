"""What each statement of the ledger assumes. With several processes, a row may change between a look at it and a write.

A write is safe by itself (it names the state, the lease or what else it relies on, in its own WHERE; or it inserts what
is not there), or its whole transaction begins again. What still assumes that there is one writer stands in
`SINGLE_WRITER` with its reason.
"""

import contextlib
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from archiver.failures import LedgerUnavailable
from archiver.ledger import DoubtedObject, RebuiltTask, WantedBack
from archiver.ledger.databases.protocol import WriteConflict
from archiver.ledger.databases.sqlite import SqliteDatabase
from archiver.ledger.gateway_creates.by_time import AFTER_MS, MATCHED_MS
from archiver.ledger.gateway_creates.registering import CreatedTask, GatewayCreate
from archiver.ledger.part import Part, require_written, retried
from archiver.ledger.tables import schema
from archiver.model import DiscoveredBy, FolderWorkKind, Stage, State
from tests.harness.histories import History
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, HOUR, RAND, START, Desk, Place, answer, stored
from tests.postgres import BlankDatabase

SINGLE_WRITER: dict[str, str] = {
    r"INSERT INTO (history|task_counts|forward_counts|sweep_requests) ": "only ever adds rows: nothing to be relied on",
    r"UPDATE assets SET .* WHERE assets.task = \? AND assets.stem = \?": (
        "of a task whose row this transaction has written before, and so holds"
    ),
    r"DELETE FROM assets WHERE assets.task = ": "of a task that this transaction has just moved to `archived`",
    r"UPDATE assets SET .* WHERE assets.task IN ": "of tasks that this transaction has just moved to `archived`",
    r"UPDATE tasks SET (attempts|lease_token).* WHERE tasks.id (IN \(|= ANY \(ARRAY\()SELECT": (
        "a claim: SQLite has one writer, and PostgreSQL has locked the rows of its subquery"
    ),
    r"UPDATE tasks SET claim_group=": "computed from the row as it is at the moment of the write",
    r"UPDATE tasks SET swept_finished_at=\? ": "what is counted twice or not at all is one missed callback",
    r"UPDATE (tasks|task_counts|sweeps|second_looks|missing_objects|forwards|gateway_creates|forgotten) SET account=": (
        "a command that runs while no daemon does"
    ),
    r"UPDATE (holds|sweeps|sweep_requests|daemons|facts) SET ": (
        "rows that are set to a value whatever they were before"
    ),
    r"UPDATE folder_work SET .* WHERE folder_work.task = ": "set to these values whatever they were before",
    r"UPDATE second_looks SET due_at=\? WHERE second_looks.task = ": (
        "put off until later, whatever it was before; or claimed, and still the row that was claimed"
    ),
    r"UPDATE folder_work SET .* WHERE folder_work.id = \? AND folder_work.lease_token = ": "names its lease",
    r"UPDATE folder_work SET .* WHERE folder_work.id (IN \(|= ANY \(ARRAY\()SELECT": "a claim, as of tasks",
    r"UPDATE second_looks SET due_at=\? WHERE second_looks.id (IN \(|= ANY \(ARRAY\()SELECT": (
        "a claim: SQLite has one writer, and PostgreSQL has locked the rows of its subquery"
    ),
    r"UPDATE missing_objects SET due_at=\? WHERE missing_objects.id (IN \(|= ANY \(ARRAY\()SELECT": "the same",
    r"(UPDATE|DELETE FROM) missing_objects .*missing_objects.state = ": "names the state that it relies on",
    r"UPDATE missing_objects SET .* WHERE missing_objects.task = \? AND missing_objects.\"?key\"? = \?$": (
        "an operator wants it back, whatever it was before"
    ),
    r"UPDATE forwards SET .* WHERE forwards.id (IN \(|= ANY \(ARRAY\()SELECT": "a claim, as of tasks",
    r"UPDATE forwards SET .* WHERE forwards.id = \? AND forwards.lease_token = ": "names its lease",
    r"(UPDATE|DELETE FROM) forwards .*forwards.state = ": "names the state that it relies on",
    r"DELETE FROM (forwards|forward_counts) ": "to delete what is gone already does no harm",
    r"UPDATE gateway_creates SET (answered_at|doubt|request|state|unseen_since)=": (
        "set to a value whatever it was before; a match makes sure that the reference was there"
    ),
    r"UPDATE missing_objects SET problem_since=\? WHERE missing_objects.task = ": "an operator has seen it",
    r"UPDATE trust SET ": "counted by the one upkeep, or set to what the store does whatever it was before",
    r"DELETE FROM second_looks WHERE .*second_looks.due_at = ": "names the claim that it ends",
    r"DELETE FROM (askers|duties|sweep_requests) ?": "to delete what is gone already does no harm",
    r"DELETE FROM gateway_creates ": "to let go of what is gone does no harm; a join makes sure that it was there",
    r"DELETE FROM (folder_work|holds|doubts|passed_over|daemons|facts|task_counts|hourly_counts|history)( |$)": (
        "to delete what is gone already does no harm"
    ),
}

A_START_ON_SQLITE = {
    r"UPDATE (\w+) SET .* WHERE (tasks|folder_work|forwards|duties).(lease_token|holder) IS NOT NULL": (
        "SQLite lets one daemon in; elsewhere leases end by themselves"
    ),
}

SAFE = (
    r"^INSERT INTO .* ON CONFLICT",
    r"^(UPDATE|DELETE FROM) tasks .*WHERE .*tasks\.state( \|\| ''\))? (=|IN) ",
    r"^(UPDATE|DELETE FROM) tasks .*WHERE .*tasks\.lease_token (=|IS NULL)",
    r"^UPDATE duties .*WHERE .*duties\.lease_token (=|IS NULL)",
    r"^DELETE FROM tasks .*WHERE .*tasks\.confirmed_at IS NULL AND .*tasks\.callbacks =",
)


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    made = Desk(place, unconfirmed_max=25)
    yield made
    made.close()


def writes(work: Callable[[], object]) -> set[str]:
    """The different statements with which `work` writes."""
    found: set[str] = set()

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if re.match("INSERT|UPDATE|DELETE", statement):
            found.add(re.sub(r"%\(\w+\)s(::\w+)?", "?", " ".join(statement.split())))

    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)
    return found


def see_everything_again(desk: Desk) -> None:
    """Of three objects that a listing lacks, one is there, one is missing, and one is another."""
    looks, missing = desk.ledger.second_looks, desk.ledger.missing_objects
    desk.clock.advance(HOUR)
    folders = looks.claim(account=ACCOUNT)
    doubted = [DoubtedObject(folder.row_id, min(folder.sizes)) for folder in folders[:3]]
    looks.finish(folders[:4], place="bucket", unseen=folders[4:], doubted=doubted)
    desk.clock.advance(HOUR)
    first, second, third = missing.claim(account=ACCOUNT)
    missing.settle(found=[first], missing=[second], changed=[third])
    desk.ledger.trust.note_second_put("bucket", "respected")
    lease = desk.ledger.restores.claim(account=ACCOUNT)
    assert lease is not None
    desk.ledger.restores.answered(lease, answer(lease.task_id))
    work = desk.ledger.folder_work.claim(account=ACCOUNT)
    while work is not None and work.kind is not FolderWorkKind.RESTORE:
        work = desk.ledger.folder_work.claim(account=ACCOUNT)
    assert work is not None
    desk.ledger.restores.settle(work.lease, restored=[wanted.key for wanted in work.wanted])
    audits = desk.ledger.audits
    task = next(task for task in audits.stored_after(0, account=ACCOUNT).tasks if task.is_archived)
    audits.want_back([WantedBack(task.row_id, key) for key in task.keys])
    audits.save_progress("verify", {})
    audits.forget_progress("verify")


def tell_of_everything(desk: Desk) -> None:
    """Of what has ended, one application hears, one does not answer, and one is told again."""
    forwards, orders = desk.ledger.forwards, desk.ledger.forward_orders
    first, second, third, fourth, *_ = forwards.claim("", accounts=[ACCOUNT], count=10)
    forwards.delivered(first, status=200)
    forwards.retry(second, due_at=desk.clock(), status=500, reason="http_500")
    forwards.give_back(third)
    forwards.dead(fourth, status=None, reason="timeout", is_problem=True)
    orders.retry_dead(account=ACCOUNT)
    orders.send(State.ARCHIVED, account=ACCOUNT, since=0, until=desk.clock(), after=(0, 0))
    forwards.set_operator(is_told=False)
    desk.clock.advance(31 * DAY)
    desk.ledger.forward_upkeep.expire()
    desk.clock.advance(91 * DAY)
    desk.ledger.forward_upkeep.prune()
    desk.ledger.forward_upkeep.fold_counts()
    desk.clock.advance(-122 * DAY)


def rebuilt(amendments: dict[int, str], *, is_lost: bool = False) -> RebuiltTask:
    """A task that lies in the bucket, though not all of it."""
    return RebuiltTask(
        task_id="rebuilt and lost" if is_lost else "rebuilt",
        external_task_id=None,
        family=FAMILY,
        created_at=START,
        updated_at=None,
        archived_at=START,
        discovered_by=DiscoveredBy.SWEEP,
        request=None,
        document={},
        manifest_key=None if is_lost else "f/manifest.json",
        amendment_keys=amendments,
        stored=[stored()],
        missing={"1": "asset_gone"} if is_lost else {},
        is_whole=False,
    )


def rebuild(desk: Desk) -> None:
    for amendments in ({}, {1: "f/amendment-1.json"}):
        desk.ledger.rebuilding.add([rebuilt(amendments), rebuilt({}, is_lost=True)], account=ACCOUNT)
    told = dataclasses.replace(rebuilt({}), request={"prompt": "a fox"}, external_task_id="e")
    assert desk.ledger.rebuilding.add([told], account=ACCOUNT).completed == 1
    desk.tell("stuck")
    desk.clock.advance(31 * DAY)
    stuck = dataclasses.replace(rebuilt({}), task_id="stuck")
    assert desk.ledger.rebuilding.add([stuck], account=ACCOUNT).tasks == 1


def lost_answers(desk: Desk) -> None:
    """One create is matched by time, two are in doubt and acknowledged, and then one of them is no more."""
    creates, family = desk.ledger.gateway_creates, "images/omni-image"
    lost = [
        GatewayCreate(f"lost-{number}", ACCOUNT, family, None, f"https://{number}.example.com/", {})
        for number in range(3)
    ]
    creates.commit(begun=lost[:1])
    desk.say(answer("timed", family=family, created_at=desk.clock()), by=DiscoveredBy.SWEEP)
    desk.clock.advance(4 * AFTER_MS)
    creates.commit(begun=lost[1:])
    desk.say(answer("doubted", family=family, created_at=desk.clock()), by=DiscoveredBy.SWEEP)
    desk.clock.advance(MATCHED_MS)
    token = desk.ledger.sweeps.begin(account=ACCOUNT, family=family)
    assert token is not None
    desk.ledger.sweeps.end(token, succeeded_at=desk.clock(), full=False, oldest_first=False, last_page=None)
    matched, doubted = creates.match_by_time()
    assert matched
    assert doubted
    desk.ledger.acknowledgements.acknowledge(["doubted"], account=ACCOUNT)
    creates.commit(answered=["lost-1"])
    creates.commit(refused=["lost-2"])


def a_life_of_a_ledger(desk: Desk) -> None:
    desk.ledger.forwards.set_operator(is_told=True)
    history = History(desk, 5)
    for _ in range(600):
        history.go()
    see_everything_again(desk)
    tell_of_everything(desk)
    desk.ledger.deadlines.fold_counts()
    desk.ledger.trends.note_hour()
    desk.ledger.deadlines.count_missed(patience_ms=0)
    token = desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
    assert token is not None
    desk.ledger.sweeps.renew(token)
    desk.ledger.sweeps.end(token, succeeded_at=START, full=True, oldest_first=False, last_page=None)
    desk.ledger.daemons.beat("d1", version="0.1.0", started_at=START)
    desk.ledger.daemons.warn("d1", [])
    request = desk.ledger.sweep_requests.request(account=ACCOUNT, family=FAMILY, is_full=True)
    desk.ledger.sweep_requests.advance(request, {})
    desk.ledger.sweep_requests.end(request, {})
    desk.ledger.sweep_requests.withdraw(request)
    create = GatewayCreate("r-1", ACCOUNT, FAMILY, "e-1", "https://app.example.com/cb", {})
    for _ in range(2):
        desk.ledger.gateway_creates.commit(begun=[create])
        desk.ledger.gateway_creates.abandon(create)
        desk.ledger.gateway_creates.commit(refused=["r-1"])
    desk.ledger.gateway_creates.commit(begun=[create])
    desk.say(answer("joined", external_task_id="e-1", created_at=desk.clock()), by=DiscoveredBy.SWEEP)
    desk.clock.advance(AFTER_MS)
    assert desk.ledger.gateway_creates.match()
    desk.ledger.gateway_creates.commit(created=[CreatedTask(create, "registered")])
    lost_answers(desk)
    desk.ledger.gateway_creates.commit(begun=[create])
    desk.clock.advance(8 * 24 * HOUR)
    desk.ledger.gateway_creates.prune()
    desk.ledger.gateway_creates.note_callback_refused(ACCOUNT, "/v1/images/generations")
    desk.ledger.daemons.leave("d1")
    held = desk.ledger.duties.take_part("d1", accounts=[ACCOUNT]).held
    held = desk.ledger.duties.take_part("d1", accounts=[ACCOUNT], held=held, sound=[ACCOUNT]).held
    desk.ledger.duties.leave("d1", held=held)
    desk.ledger.claims.query_individually(account=ACCOUNT, family=FAMILY, due_before=desk.clock())
    desk.ledger.claims.batch(account=ACCOUNT, count=1, offset=0)
    desk.ledger.claims.renew(desk.claim_all(Stage.VERIFY))
    desk.ledger.availability.note(account=ACCOUNT, name=FAMILY, unavailable_at=START)
    desk.ledger.availability.note(account=ACCOUNT, name=FAMILY, unavailable_at=None)
    for row in desk.rows("SELECT task_id FROM tasks ORDER BY id LIMIT 3"):
        desk.ledger.tombstones.forget(row["task_id"], account=ACCOUNT)
        desk.say(answer(row["task_id"]), by=DiscoveredBy.SWEEP)
    rebuild(desk)
    desk.tell("renamed soon")
    desk.reopen()
    desk.ledger.accounts.rename(ACCOUNT, "renamed")


def test_every_write_names_what_it_relies_on_or_says_why_it_need_not(desk: Desk) -> None:
    statements = writes(lambda: a_life_of_a_ledger(desk))
    assert len(statements) > 40

    unsafe = {statement for statement in statements if not any(re.search(rule, statement) for rule in SAFE)}
    explained = SINGLE_WRITER
    if isinstance(desk.ledger.database, SqliteDatabase):
        explained = explained | A_START_ON_SQLITE
    unexplained = {
        statement for statement in unsafe if not any(re.match(known, statement) for known in explained)
    }
    unused = {known for known in explained if not any(re.match(known, each) for each in unsafe)}

    assert unexplained == set()
    assert unused == set()


@pytest.mark.sqlite_only("the values are the same on both")
def test_no_time_or_number_is_a_fraction(desk: Desk) -> None:
    """PostgreSQL compares a whole column with one as fractions, without an index."""
    fractions: set[str] = set()

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        rows = parameters if isinstance(parameters, list) else [parameters]
        values = [value for row in rows for value in (row.values() if isinstance(row, dict) else row)]
        if any(isinstance(value, float) for value in values):
            fractions.add(statement)

    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        a_life_of_a_ledger(desk)
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)

    assert fractions == set()


def test_every_method_that_writes_begins_again_after_a_conflict() -> None:
    """Found by its words: a private method is called by one that has begun the transaction."""
    writing = {
        f"{part.__name__}.{name}": method
        for part in Part.__subclasses__()
        for name, method in vars(part).items()
        if inspect.isfunction(method) and "_database.write(" in inspect.getsource(method)
    }

    assert len(writing) > 40
    assert {name for name, method in writing.items() if not hasattr(method, "__wrapped__")} == set()


# --- another process in between -----------------------------------------------------------------------------------


def when_first(statement: str, happens: Callable[[sa.Connection], object]) -> Callable[[], None]:
    """Once, before the first statement that begins so, something happens to the rows: what another process could do.
    Returns how to stop."""
    waiting = [True]

    def interrupt(connection: sa.Connection, _cursor: object, text: str, *_: object) -> None:
        if waiting and text.startswith(statement):
            waiting.clear()
            happens(connection)

    event.listen(sa.Engine, "before_cursor_execute", interrupt)
    return lambda: event.remove(sa.Engine, "before_cursor_execute", interrupt)


def test_a_transaction_whose_row_has_moved_meanwhile_begins_again_and_sees_it(desk: Desk) -> None:
    """The other process's change is undone with our transaction here, which shows as well that nothing was written."""
    desk.bring(State.RUNNING)
    stop = when_first(
        "UPDATE tasks",
        lambda connection: connection.exec_driver_sql("UPDATE tasks SET state = 'failed', reason = 'x'"),
    )
    try:
        recorded = desk.say(answer(), by=DiscoveredBy.SWEEP)
    finally:
        stop()

    assert (recorded.state, desk.state()) == (State.SUCCEEDED, State.SUCCEEDED)
    assert [line["event"] for line in desk.shown()["history"]] == ["task.recorded", "task.moved"]


def test_a_callback_and_an_answer_that_insert_the_same_id_at_once_are_one_row(desk: Desk) -> None:
    def insert(connection: sa.Connection) -> None:
        values = {**desk.row("known"), "id": 99, "task_id": "t"}
        values["query_individually"] = values.pop("ask_singly")
        connection.execute(sa.insert(schema.tasks).values(values))

    desk.tell("known")
    for call in (desk.tell, lambda: desk.say(answer(), by=DiscoveredBy.SWEEP)):
        stop = when_first("INSERT INTO tasks", insert)
        try:
            call()
        finally:
            stop()

    assert len(desk.rows("SELECT id FROM tasks WHERE task_id = 't'")) == 1


def test_what_is_overtaken_again_and_again_is_unavailable_and_not_half_done(desk: Desk) -> None:
    class Overtaken(Part):
        tries = 0

        @retried
        def write(self) -> None:
            self.tries += 1
            require_written(0)

    part = Overtaken(desk.ledger.database, now=desk.clock)

    with pytest.raises(LedgerUnavailable):
        part.write()
    assert part.tries > 1


def test_an_outcome_finds_only_the_row_that_it_leased(desk: Desk) -> None:
    desk.tell()
    (lease,) = desk.ledger.claims.verify(count=1, offset=0, account=ACCOUNT)
    desk.ledger.registrations.register("t", account=ACCOUNT, family="images/omni-image")

    with pytest.raises(Exception, match="no longer ours"):
        desk.ledger.outcomes.not_found(lease, rand=RAND)

    assert desk.row()["asked"] == 0
    with pytest.raises(WriteConflict):
        require_written(0)


def test_postgresql_cannot_look_for_a_row_that_is_named_by_its_id_among_those_of_its_state(
    blank_database: BlankDatabase,
) -> None:
    with contextlib.closing(Desk(blank_database, unconfirmed_max=25)) as desk:
        statements = writes(lambda: a_life_of_a_ledger(desk))

    named = {each for each in statements if re.search(r"WHERE .*tasks\.id (= \?|IN \(\?)", each)}
    assert len(named) > 20
    assert {
        each for each in named if re.search(r" WHERE .*tasks\.(state|queue|account) (=|IN) ", each)
    } == set()
