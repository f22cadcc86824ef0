"""What is a problem and since when: each code, just before and just after, on a real ledger."""

import dataclasses
import subprocess
from collections.abc import Callable

import pytest

from archiver.failures import AssetGone, BucketMissing, ResultsMissing
from archiver.ledger import Acknowledged, Service, StatusView
from archiver.ledger.databases.protocol import Disk
from archiver.ledger.gateway_creates import lost_answers
from archiver.ledger.gateway_creates.by_time import AFTER_MS, UNSWEPT_MS
from archiver.ledger.gateway_creates.registering import GatewayCreate
from archiver.model import Problem, Stage, State
from archiver.problems import Expected, find_problems, verdict
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, HOUR, MINUTE, SECOND, START, Desk, answer
from tests.harness.lost_answers import lose_answers

EXPECTED = Expected({ACCOUNT: [FAMILY]}, 5 * MINUTE)


def live(desk: Desk, *, accounts: tuple[str, ...] = (ACCOUNT,), serves: tuple[Service, ...] = ()) -> None:
    """A daemon beats, and its sweep has just succeeded."""
    serves = serves or (Service.DOOR, Service.WORK)
    desk.ledger.daemons.beat("d1", version="1", started_at=START, accounts=accounts, serves=serves)
    token = desk.ledger.sweeps.begin(account=ACCOUNT, family=FAMILY)
    assert token is not None
    now = desk.clock()
    desk.ledger.sweeps.end(token, succeeded_at=now, full=True, oldest_first=False, last_page=None)


def problems(desk: Desk, expected: Expected = EXPECTED) -> list[Problem]:
    return find_problems(desk.ledger.views.status(), expected)


def codes(desk: Desk, expected: Expected = EXPECTED) -> list[str]:
    return [problem.code for problem in problems(desk, expected)]


def test_nothing_is_wrong_on_a_ledger_whose_daemon_lives(desk: Desk) -> None:
    live(desk)

    assert (codes(desk), verdict(problems(desk))) == ([], "All is well.")


def test_the_verdict_counts_problems_of_one_code() -> None:
    held = Problem("hold", "message", "what to do")

    assert (
        verdict([held, Problem("buried", "message", "what to do"), held]) == "3 problems: hold (2), buried."
    )


def hold(desk: Desk) -> None:
    desk.ledger.holds.set(BucketMissing("gone"), account=ACCOUNT, stage=Stage.ARCHIVE)


def wait_for_the_bucket(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)


def bury(desk: Desk) -> None:
    desk.bring(State.SUCCEEDED)
    desk.fail(desk.claim(Stage.ARCHIVE), AssetGone("404"))


def lose(desk: Desk) -> None:
    desk.say(answer(created_at=START - 30 * DAY + SECOND))
    desk.clock.advance(SECOND)
    desk.ledger.deadlines.expire()


def near_a_deadline(desk: Desk) -> None:
    desk.say(answer(created_at=START - 23 * DAY))


def nothing(_desk: Desk) -> None:
    pass


CASES: dict[str, tuple[Callable[[Desk], None], int, set[str]]] = {
    # what happens, how long after it, what is said
    "a hold at once": (hold, 0, {"hold"}),
    "a succeeded task within an hour": (wait_for_the_bucket, HOUR, set()),
    "a succeeded task after an hour": (wait_for_the_bucket, HOUR + 1, {"waiting"}),
    "a buried task at once": (bury, 0, {"buried"}),
    "a lost task within a week": (lose, 7 * DAY - SECOND, {"lost"}),
    "a lost task after a week": (lose, 7 * DAY + 1, set()),
    "a deadline in a week": (near_a_deadline, 0, set()),
    "a deadline in less than a week": (near_a_deadline, 1, {"deadline"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_problem_begins_at_its_time_and_not_before(desk: Desk, case: str) -> None:
    happen, passed, said = CASES[case]
    happen(desk)
    desk.clock.advance(passed)
    live(desk)

    assert set(codes(desk)) == said


@pytest.mark.parametrize(
    ("interval_ms", "passed", "late"),
    [
        (5 * MINUTE, HOUR, False),
        (5 * MINUTE, HOUR + 1, True),
        (HOUR, 3 * HOUR, False),
        (HOUR, 3 * HOUR + 1, True),
    ],
)
@pytest.mark.parametrize("was_swept", [True, False])
def test_a_sweep_is_late_after_three_intervals_and_an_hour_at_least(
    desk: Desk, interval_ms: int, passed: int, late: bool, was_swept: bool
) -> None:
    if was_swept:
        live(desk)
    desk.clock.advance(passed)
    desk.ledger.daemons.beat("d1", version="1", started_at=START, accounts=[ACCOUNT])

    found = problems(desk, Expected({ACCOUNT: [FAMILY]}, interval_ms))

    assert [(problem.code, problem.since) for problem in found] == ([("sweep_late", START)] if late else [])


@pytest.mark.parametrize(
    ("serves", "said"), [((Service.DOOR,), ["no_worker"]), ((Service.WORK,), ["no_door"])]
)
def test_a_door_is_no_worker_and_a_worker_no_door(
    desk: Desk, serves: tuple[Service, ...], said: list[str]
) -> None:
    live(desk, serves=serves)

    assert codes(desk) == said


@pytest.mark.parametrize("was_asked", [True, False])
def test_an_account_that_no_daemon_has_asked_for_in_two_minutes_is_a_problem(
    desk: Desk, was_asked: bool
) -> None:
    """Less is a process that takes it over."""
    live(desk, accounts=("other",))
    if was_asked:
        held = desk.ledger.duties.take_part("d2", accounts=[ACCOUNT]).held
        desk.clock.advance(MINUTE)
        desk.ledger.duties.leave("d2", held=held)
    since = desk.clock()
    desk.bring(State.RUNNING)
    desk.clock.advance(2 * MINUTE - 1)
    live(desk, accounts=("other",))
    assert codes(desk) == []
    desk.clock.advance(1)

    (problem,) = problems(desk)

    assert (problem.code, problem.account, problem.since) == ("account_unasked", ACCOUNT, since)


def test_an_account_that_moves_to_another_process_is_no_problem(desk: Desk) -> None:
    desk.bring(State.RUNNING)
    desk.ledger.duties.take_part("killed", accounts=[ACCOUNT])
    desk.clock.advance(35 * SECOND)
    live(desk, accounts=())

    assert codes(desk, Expected({}, 0)) == []


def test_tasks_of_an_account_that_the_settings_do_not_name_are_a_problem(desk: Desk) -> None:
    live(desk, accounts=())
    desk.bring(State.SUCCEEDED)

    (problem,) = problems(desk, Expected({}, 5 * MINUTE))

    assert (problem.code, problem.account) == ("account_unasked", ACCOUNT)


def test_an_account_that_another_process_asks_for_is_no_problem_of_this_ones_settings(desk: Desk) -> None:
    live(desk)
    desk.bring(State.SUCCEEDED)

    assert codes(desk, Expected({}, 0)) == []


def test_what_is_lost_at_first_sight_is_counted_and_no_problem(desk: Desk) -> None:
    live(desk)
    desk.tell()
    desk.say(answer(created_at=START - 31 * DAY))
    desk.fail(desk.claim(Stage.ARCHIVE), AssetGone("404"))
    assert codes(desk) == []
    desk.ledger.deadlines.expire()

    assert desk.ledger.views.status().states[State.LOST] == 1
    assert codes(desk) == []


def test_a_problem_of_a_buried_task_outlasts_its_retries(desk: Desk) -> None:
    bury(desk)
    since = desk.clock()
    desk.clock.advance(8 * DAY)
    live(desk)
    desk.claim(Stage.VERIFY)
    desk.say(answer())
    assert desk.state() is State.SUCCEEDED

    assert [(problem.code, problem.since) for problem in problems(desk)] == [("buried", since)]


def killed_process() -> int:
    """The number of a process that this machine has had."""
    with subprocess.Popen(["sleep", "60"]) as process:
        process.kill()
    return process.pid


def test_a_daemon_that_was_killed_on_this_machine_is_missed_at_once_until_the_next_one_beats(
    desk: Desk,
) -> None:
    live(desk)
    assert codes(desk) == []
    desk.write("UPDATE daemons SET pid = ?", killed_process())
    assert codes(desk) == ["no_worker", "no_door"]

    desk.ledger.daemons.beat("d2", version="1", started_at=START, accounts=[ACCOUNT])

    assert codes(desk) == []


@pytest.mark.parametrize(("killed", "said"), [("d1", []), ("door", ["no_door"])])
def test_a_process_that_was_killed_is_missed_unless_another_serves_the_same(
    desk: Desk, killed: str, said: list[str]
) -> None:
    live(desk, serves=(Service.WORK,))
    desk.ledger.daemons.beat("w2", version="1", started_at=START, accounts=[ACCOUNT], serves=[Service.WORK])
    desk.ledger.daemons.beat("door", version="1", started_at=START, serves=[Service.DOOR])
    desk.write("UPDATE daemons SET pid = ? WHERE id = ?", killed_process(), killed)

    assert codes(desk) == said


@pytest.mark.parametrize("elsewhere", [("host", "another-machine"), ("pid_namespace", "pid:[1]"), ("pid", 1)])
def test_a_daemon_of_another_machine_or_container_or_user_is_missed_after_two_minutes(
    desk: Desk, elsewhere: tuple[str, object]
) -> None:
    live(desk)
    desk.write("UPDATE daemons SET pid = ?", killed_process())
    column, value = elsewhere
    desk.write(f"UPDATE daemons SET {column} = ?", value)  # noqa: S608 -- a column of this file

    assert codes(desk) == []
    desk.clock.advance(2 * MINUTE)
    assert codes(desk)[:2] == ["no_worker", "no_door"]


def test_a_daemon_that_has_ended_in_good_order_is_missed_after_two_minutes(desk: Desk) -> None:
    live(desk)
    desk.ledger.daemons.leave("d1")
    desk.write("UPDATE daemons SET pid = ?", killed_process())

    assert "no_worker" not in codes(desk)


def test_a_warning_of_a_running_daemon_is_a_problem_and_one_of_a_dead_daemon_is_none(desk: Desk) -> None:
    warning = Problem("settings", "an example token", "make your own", ACCOUNT, START)
    desk.ledger.daemons.beat("dead", version="1", started_at=START)
    desk.ledger.daemons.warn("dead", [warning, dataclasses.replace(warning, message="old")])
    desk.clock.advance(2 * MINUTE)
    live(desk)
    assert codes(desk) == []
    desk.ledger.daemons.warn("d1", [warning])

    assert problems(desk) == [warning]


@pytest.mark.parametrize(
    ("free", "total", "said"),
    [
        (2**30, 100 * 2**30, []),
        (2**30 - 1, 100 * 2**30, ["disk_low"]),
        (2**29, 2**30, []),
        (2**20, 2**30, ["disk_low"]),
    ],
)
def test_a_disk_that_is_nearly_full_is_a_problem(desk: Desk, free: int, total: int, said: list[str]) -> None:
    live(desk)
    view: StatusView = dataclasses.replace(desk.ledger.views.status(), disk=Disk("/data", free, total))

    assert [problem.code for problem in find_problems(view, EXPECTED)] == said


# --- acknowledged -----------------------------------------------------------------------------------------------


def test_a_create_whose_task_is_not_certain_is_a_problem_until_it_is_acknowledged(desk: Desk) -> None:
    lose_answers(desk, "https://one.example.com/", "https://two.example.com/")
    live(desk)
    assert codes(desk) == []
    desk.ledger.gateway_creates.match_by_time()

    (problem,) = problems(desk)
    assert (problem.code, problem.reason, problem.account) == ("forwards_dead", "several_clients", ACCOUNT)
    assert problem.message.startswith(f"2 creates of {FAMILY} through the gateway got no answer, ")
    assert problem.message.endswith("different callback URLs were under way: t")
    assert "kling-archiver show t" in problem.what_to_do

    acknowledge(desk)
    desk.clock.advance(HOUR)
    live(desk)
    desk.ledger.gateway_creates.match_by_time()
    assert "forwards_dead" not in codes(desk)
    again = desk.ledger.acknowledgements.acknowledge(["t"], account=ACCOUNT)
    assert again == {"t": Acknowledged.ALREADY}


def test_a_create_without_an_answer_that_no_sweep_follows_is_a_problem_after_an_hour(desk: Desk) -> None:
    lose_answers(desk, "https://one.example.com/")
    desk.ledger.gateway_creates.commit(
        begun=[GatewayCreate("r", ACCOUNT, "videos/effects", None, "https://app.example.com/", {})]
    )
    desk.clock.advance(AFTER_MS + UNSWEPT_MS)
    live(desk)
    desk.ledger.gateway_creates.match_by_time()

    (problem,) = [problem for problem in problems(desk) if problem.code == "forwards_dead"]
    assert problem.reason == "not_swept"
    assert "Add videos/effects to KLING_FAMILIES" in problem.what_to_do
    assert problem.what_to_do.endswith("kling-archiver acknowledge r.")

    acknowledge(desk, "r")
    assert "forwards_dead" not in codes(desk)
    again = desk.ledger.acknowledgements.acknowledge(["r", "r-0"], account=ACCOUNT)
    assert again == {"r": Acknowledged.ALREADY, "r-0": Acknowledged.UNKNOWN}


def test_a_reference_acknowledges_the_creates_that_were_doubted_by_then_for_the_same_reason(
    desk: Desk,
) -> None:
    for number in range(3):
        desk.ledger.gateway_creates.commit(
            begun=[GatewayCreate(f"r-{number}", ACCOUNT, FAMILY, None, "https://app.example.com/", {})]
        )
        desk.clock.advance(AFTER_MS + UNSWEPT_MS)
        desk.ledger.gateway_creates.match_by_time()

    acknowledge(desk, "r-1")

    unseen = desk.rows("SELECT reference FROM gateway_creates WHERE unseen_since IS NOT NULL")
    assert unseen == [{"reference": "r-2"}]


def test_a_reference_that_begins_with_a_hyphen_is_not_named_as_an_option(desk: Desk) -> None:
    desk.ledger.gateway_creates.commit(
        begun=[GatewayCreate("-r", ACCOUNT, FAMILY, None, "https://app.example.com/", {})]
    )
    desk.clock.advance(AFTER_MS + UNSWEPT_MS)
    desk.ledger.gateway_creates.match_by_time()

    (problem,) = [problem for problem in problems(desk) if problem.code == "forwards_dead"]

    assert problem.what_to_do.endswith("kling-archiver acknowledge -- -r.")


def test_creates_that_are_doubted_without_any_task_are_a_problem_that_can_be_acknowledged(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_answers, "MAKERS_MAX", 1)
    lose_answers(desk, "https://one.example.com/", "https://two.example.com/")
    desk.ledger.tombstones.forget("t", account=ACCOUNT)
    live(desk)
    desk.ledger.gateway_creates.match_by_time()

    (problem,) = problems(desk)
    assert problem.reason == "too_much_to_judge"
    acknowledge(desk, "r-1")
    assert "forwards_dead" not in codes(desk)


def acknowledge(desk: Desk, task_id: str = "t") -> None:
    desk.ledger.acknowledgements.acknowledge([task_id], account=ACCOUNT)


def test_an_acknowledged_task_is_no_problem_and_stays_as_it_is(desk: Desk) -> None:
    bury(desk)
    live(desk)
    before = desk.row()
    acknowledge(desk)

    assert codes(desk) == []
    changed = {name for name, value in desk.row().items() if value != before[name]}
    assert changed == {"unseen_since"}


def bury_again(desk: Desk, *, gone: bool) -> None:
    """Its own retry shows it again, and it cannot be had again."""
    desk.clock.advance(8 * DAY)
    desk.claim(Stage.VERIFY)
    desk.say(answer())
    error = AssetGone("404") if gone else ResultsMissing("nothing")
    desk.fail(desk.claim(Stage.ARCHIVE), error)
    live(desk)


def test_only_another_reason_makes_an_acknowledged_task_a_problem_again(desk: Desk) -> None:
    bury(desk)
    acknowledge(desk)
    bury_again(desk, gone=True)
    assert codes(desk) == []

    bury_again(desk, gone=False)
    assert codes(desk) == ["buried"]


def test_an_acknowledged_task_that_is_lost_is_a_problem_until_that_is_acknowledged(desk: Desk) -> None:
    bury(desk)
    acknowledge(desk)
    desk.clock.advance(30 * DAY)
    desk.ledger.deadlines.expire()
    live(desk)
    assert codes(desk) == ["lost"]

    assert desk.ledger.acknowledgements.acknowledge_lost(account=ACCOUNT) == ["t"]
    assert (codes(desk), desk.state()) == ([], State.LOST)
    assert desk.ledger.acknowledgements.acknowledge_lost(account=ACCOUNT) == []


def test_an_acknowledged_task_has_no_deadline_to_warn_of(desk: Desk) -> None:
    bury(desk)
    desk.clock.advance(24 * DAY)
    live(desk)
    assert set(codes(desk)) == {"buried", "deadline"}
    acknowledge(desk)

    assert codes(desk) == []


def test_a_task_that_is_archived_after_all_is_no_problem(desk: Desk) -> None:
    bury(desk)
    live(desk)
    desk.ledger.registrations.retry(["t"], account=ACCOUNT)
    desk.claim(Stage.VERIFY)
    desk.say(answer())
    desk.archived(desk.claim(Stage.ARCHIVE))

    assert codes(desk) == []
