"""What happens from time to time: verdicts by a sound clock only, ids dropped in time, gauges like the ledger."""

import contextlib
import dataclasses
import pathlib
import sqlite3
from typing import Any

import pytest
from structlog.typing import EventDict

from archiver.engine.api_clocks import AGE_MS_MAX, SKEW_MS_MAX, UNDATED_ANSWERS_MIN, ApiClocks
from archiver.engine.health import Health
from archiver.engine.upkeep import Upkeep
from archiver.failures import ApiTokenRefused, BucketMissing, Failure, LedgerUnavailable, NeverMedia
from archiver.kling.client import KlingClient
from archiver.kling.credentials import KeyPair
from archiver.kling.limiter import Priority
from archiver.ledger.gateway_creates.registering import GatewayCreate
from archiver.metrics import Metrics
from archiver.model import DiscoveredBy, Stage, State, Status, rfc3339
from archiver.problems import Expected
from archiver.pulses.watch import LIMITS
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, HOUR, MINUTE, SECOND, START, Desk, answer
from tests.harness.lost_answers import lose_answers
from tests.harness.questions import Questions
from tests.harness.watched import Watched
from tests.simulator import faults

pytestmark = pytest.mark.usefixtures("lines")

EXPECTED = Expected({ACCOUNT: [FAMILY]}, 5 * MINUTE)


@pytest.fixture
def upkeep(questions: Questions) -> Upkeep:
    return Upkeep(
        clocks=ApiClocks({ACCOUNT: questions.client}, 5 * MINUTE, now=questions.clock),
        ledger=questions.desk.ledger,
        metrics=questions.metrics,
        daemon_name="d1",
        version="0.1.0",
        started_at=START,
    )


@pytest.fixture
def health(questions: Questions, upkeep: Upkeep) -> Health:
    return Health(questions.desk.ledger, questions.metrics, upkeep.clocks, EXPECTED)


def degraded(health: Health, *, stage: str) -> list[Any]:
    """What `/readyz` says of this stage."""
    shown: list[Any] = health.degraded()
    return [entry for entry in shown if entry.get("stage") == stage]


def hear_the_api(questions: Questions) -> None:
    """Any answer tells the API's time, a refusal too."""
    with contextlib.suppress(ApiTokenRefused):
        questions.client.list_page(FAMILY, page=1, size=1, priority=Priority.BACKGROUND)


def value(questions: Questions, line: str) -> float:
    """The value of one series, by how its line begins."""
    (found,) = [
        one for one in questions.metrics.render()[0].decode().splitlines() if one.startswith(f"{line} ")
    ]
    return float(found.rpartition(" ")[2])


def test_no_deadline_is_decided_before_the_api_has_told_its_time(
    questions: Questions, upkeep: Upkeep
) -> None:
    questions.desk.bring(State.SUCCEEDED)
    questions.clock.advance(31 * DAY)

    upkeep.run_once()
    assert questions.desk.state() is State.SUCCEEDED
    hear_the_api(questions)
    upkeep.run_once()
    assert questions.desk.state() is State.LOST


@pytest.mark.parametrize("ahead", [1, -1])
def test_no_deadline_is_decided_while_the_clocks_differ_and_that_is_said_once(
    questions: Questions, upkeep: Upkeep, health: Health, lines: list[EventDict], ahead: int
) -> None:
    questions.desk.bring(State.SUCCEEDED)
    questions.clock.advance(31 * DAY)
    questions.sim.advance(ahead * (SKEW_MS_MAX / 1000 + 2))
    hear_the_api(questions)

    for _ in range(3):
        upkeep.run_once()

    assert questions.desk.state() is State.SUCCEEDED
    assert [line["event"] for line in lines].count("clock.skewed") == 1
    (shown,) = degraded(health, stage="clock")
    side = "behind" if ahead > 0 else "ahead of"
    assert (shown["code"], shown["reason"], shown["message"]) == (
        "settings",
        "clock_skewed",
        f"this machine's clock is 5 minutes {side} the API's",
    )
    questions.sim.advance(-ahead * (SKEW_MS_MAX / 1000 + 2))
    hear_the_api(questions)
    upkeep.run_once()
    assert questions.desk.state() is State.LOST
    assert degraded(health, stage="clock") == []


def test_an_api_that_sends_no_date_leaves_the_deadlines_to_our_clock_and_that_is_said(
    questions: Questions, upkeep: Upkeep, health: Health, lines: list[EventDict]
) -> None:
    questions.sim.switches.answers_dated = False
    questions.desk.bring(State.SUCCEEDED)
    questions.clock.advance(31 * DAY)
    for _ in range(UNDATED_ANSWERS_MIN - 1):
        hear_the_api(questions)
    upkeep.run_once()
    assert questions.desk.state() is State.SUCCEEDED
    questions.sim.fault("list", faults.Html(502), times=5)
    for _ in range(5):  # pages of a proxy, which say nothing of the API
        with contextlib.suppress(Failure):
            hear_the_api(questions)
    assert degraded(health, stage="clock") == []

    hear_the_api(questions)
    for _ in range(2):
        upkeep.run_once()

    assert questions.desk.state() is State.LOST
    assert [line["event"] for line in lines].count("clock.unchecked") == 1
    (shown,) = degraded(health, stage="clock")
    assert shown.items() >= {"account": ACCOUNT, "reason": "clock_unchecked"}.items()


def test_a_later_date_header_ends_the_unchecked_state(
    questions: Questions, upkeep: Upkeep, health: Health
) -> None:
    questions.sim.switches.answers_dated = False
    for _ in range(UNDATED_ANSWERS_MIN):
        hear_the_api(questions)
    questions.sim.switches.answers_dated = True
    questions.desk.bring(State.SUCCEEDED)
    questions.clock.advance(31 * DAY)
    questions.sim.advance(SKEW_MS_MAX / 1000 + 2)

    hear_the_api(questions)
    upkeep.run_once()

    assert questions.desk.state() is State.SUCCEEDED
    assert [shown["reason"] for shown in degraded(health, stage="clock")] == ["clock_skewed"]


def test_answers_without_a_date_do_not_let_a_clock_decide_that_is_known_to_be_wrong(
    questions: Questions, upkeep: Upkeep
) -> None:
    questions.desk.bring(State.SUCCEEDED)
    questions.clock.advance(31 * DAY)
    questions.sim.advance(SKEW_MS_MAX / 1000 + 2)
    hear_the_api(questions)
    questions.sim.switches.answers_dated = False

    for _ in range(2 * UNDATED_ANSWERS_MIN):
        hear_the_api(questions)
        upkeep.run_once()

    assert questions.desk.state() is State.SUCCEEDED


def test_the_clock_of_an_api_is_known_for_as_long_as_its_last_word_is_fresh(
    questions: Questions, upkeep: Upkeep
) -> None:
    """By it the times of signed callbacks are judged."""
    assert upkeep.clocks.skew_ms(ACCOUNT) is None
    questions.sim.advance(3600)
    hear_the_api(questions)
    assert abs((upkeep.clocks.skew_ms(ACCOUNT) or 0) - 3_600_000) < 5 * SECOND

    questions.clock.advance(AGE_MS_MAX + SECOND)

    assert upkeep.clocks.skew_ms(ACCOUNT) is None


def test_an_api_that_has_not_told_its_time_delays_the_verdicts_on_its_own_account_only(
    questions: Questions, upkeep: Upkeep
) -> None:
    unheard = KlingClient(
        questions.sim.base_url,
        KeyPair(questions.sim.access_key, questions.sim.secret_key),
        questions.limiter,
        now=lambda: questions.clock() / 1000,
    )
    clients = {ACCOUNT: questions.client, "other": unheard}
    upkeep = dataclasses.replace(upkeep, clocks=dataclasses.replace(upkeep.clocks, clients=clients))
    for account in (ACCOUNT, "other", "no longer configured"):
        questions.desk.ledger.records.record(
            [answer(account[0])], account=account, discovered_by=DiscoveredBy.SWEEP, rand=0.5
        )
    questions.clock.advance(31 * DAY)
    upkeep.run_once()
    assert [questions.desk.state(task_id) for task_id in (ACCOUNT[0], "o", "n")] == [State.SUCCEEDED] * 3
    hear_the_api(questions)
    upkeep.run_once()

    assert [questions.desk.state(task_id) for task_id in (ACCOUNT[0], "o", "n")] == [
        State.LOST,
        State.SUCCEEDED,
        State.LOST,
    ]
    unheard.close()


@pytest.mark.parametrize("jump", [31 * DAY, -31 * DAY])
def test_a_clock_that_is_set_decides_nothing_before_the_api_has_answered_by_it(
    questions: Questions, upkeep: Upkeep, jump: int
) -> None:
    hear_the_api(questions)
    questions.desk.bring(State.SUCCEEDED)
    questions.tell("unconfirmed")
    questions.clock.advance(jump)
    questions.sim.advance(-jump / SECOND)  # the API's own clock has not moved

    upkeep.run_once()
    hear_the_api(questions)
    upkeep.run_once()

    assert questions.desk.state() is State.SUCCEEDED
    assert questions.desk.state("unconfirmed") is State.REPORTED


AHEAD = 400 * DAY


def test_a_clock_that_ran_ahead_and_was_set_right_keeps_no_task_waiting(
    questions: Questions, upkeep: Upkeep, lines: list[EventDict]
) -> None:
    desk = questions.desk
    desk.bring(State.SUCCEEDED, "waiting")
    questions.clock.advance(AHEAD)
    upkeep.run_once()
    desk.fail(desk.claim(Stage.ARCHIVE), NeverMedia("a web page"))
    desk.ledger.holds.set(BucketMissing("gone"), account=ACCOUNT, stage=Stage.VERIFY)
    questions.clock.advance(-AHEAD)

    upkeep.run_once()
    upkeep.run_once()

    assert desk.claim(Stage.VERIFY).is_probe
    assert [line["count"] for line in lines if line["event"] == "clock.set_back"] == [2]  # and the hold


def test_a_daemon_that_starts_with_the_right_clock_makes_good_what_a_wrong_one_has_put_off(
    questions: Questions, upkeep: Upkeep
) -> None:
    questions.clock.advance(AHEAD)
    upkeep.run_once()
    for batch in range(3):
        questions.tell(*(f"{batch}-{number}" for number in range(400)))
    for lease in questions.desk.claim_all(Stage.VERIFY, count=2000):
        questions.desk.ledger.outcomes.not_found(lease, rand=0.5)
    questions.clock.advance(-AHEAD)
    questions.desk.reopen()

    dataclasses.replace(upkeep, ledger=questions.desk.ledger, daemon_name="d2").run_once()

    assert len(questions.desk.claim_all(Stage.VERIFY, count=2000)) == 1200


def test_a_clock_that_is_set_back_a_little_makes_no_task_due_early(
    questions: Questions, upkeep: Upkeep
) -> None:
    upkeep.run_once()
    questions.tell("t")
    questions.desk.ledger.outcomes.not_found(questions.desk.claim(Stage.VERIFY), rand=0.5)
    questions.clock.advance(-SKEW_MS_MAX)

    upkeep.run_once()

    assert not questions.desk.ledger.claims.any_due(Stage.VERIFY, account=ACCOUNT)


def test_a_lost_task_is_loud(questions: Questions, upkeep: Upkeep, lines: list[EventDict]) -> None:
    questions.desk.bring(State.SUCCEEDED)
    questions.clock.advance(30 * DAY)
    hear_the_api(questions)

    upkeep.run_once()
    upkeep.run_once()

    (lost,) = [line for line in lines if line["event"] == "task.lost"]
    assert (lost["log_level"], lost["task_id"], lost["reason"]) == ("critical", "t", "deadline_passed")
    assert value(questions, "kling_tasks_lost_total") == 1


def test_a_task_that_never_finished_is_a_warning_and_no_loss(
    questions: Questions, upkeep: Upkeep, lines: list[EventDict]
) -> None:
    questions.desk.bring(State.RUNNING)
    questions.clock.advance(30 * DAY)
    questions.desk.say(answer(status=Status.RUNNING))
    hear_the_api(questions)

    upkeep.run_once()

    (failed,) = [line for line in lines if line["event"] == "task.failed"]
    assert (failed["log_level"], failed["reason"]) == ("warning", "never_finished")
    assert value(questions, "kling_tasks_lost_total") == 0


def test_several_thousand_old_ids_are_dropped_in_one_round_and_counted(
    questions: Questions, upkeep: Upkeep, lines: list[EventDict]
) -> None:
    for batch in range(5):
        questions.tell(*(f"forged-{batch}-{number}" for number in range(500)))
    questions.desk.write("UPDATE tasks SET not_found_since = ?", START)
    questions.clock.advance(30 * DAY)
    hear_the_api(questions)

    upkeep.run_once()

    assert questions.desk.rows("SELECT count(*) AS left_over FROM tasks") == [{"left_over": 0}]
    assert [line["count"] for line in lines if line["event"] == "ids.dropped"] == [2500]


def test_missed_callbacks_are_counted_and_said(
    questions: Questions, upkeep: Upkeep, lines: list[EventDict]
) -> None:
    questions.desk.say(answer(), by=DiscoveredBy.SWEEP)
    questions.clock.advance(5 * MINUTE)

    upkeep.run_once()
    upkeep.run_once()

    assert [line["count"] for line in lines if line["event"] == "callbacks.missed"] == [1]
    assert value(questions, f'kling_missed_callbacks_total{{account="{ACCOUNT}",family="{FAMILY}"}}') == 1


def test_a_round_is_a_sign_of_life(questions: Questions, upkeep: Upkeep) -> None:
    upkeep.run_once()

    assert [daemon.name for daemon in questions.desk.ledger.views.status().alive_daemons] == ["d1"]


def test_gauges_say_what_the_ledger_says(questions: Questions, health: Health) -> None:
    questions.desk.bring(State.SUCCEEDED)
    questions.tell("other")
    questions.sweeper.sweep(FAMILY, full=True)
    questions.desk.ledger.holds.set(BucketMissing("gone"), account=ACCOUNT, stage=Stage.ARCHIVE)
    questions.clock.advance(MINUTE)

    health.refresh_gauges()

    of = f'account="{ACCOUNT}"'
    assert value(questions, f'kling_tasks{{{of},state="succeeded"}}') == 1
    assert value(questions, f'kling_tasks{{{of},state="lost"}}') == 0
    assert value(questions, "kling_earliest_deadline_timestamp_seconds") == (START + 30 * DAY) / SECOND
    assert value(questions, "kling_last_callback_timestamp_seconds") == START / SECOND
    swept = f'kling_last_sweep_success_timestamp_seconds{{{of},family="{FAMILY}"}}'
    assert value(questions, swept) == START / SECOND
    assert value(questions, f'kling_holds{{{of},reason="bucket_missing",stage="archive"}}') == 1
    assert value(questions, "kling_oldest_unarchived_age_seconds") == MINUTE / SECOND


def test_no_gauge_is_nan_and_a_time_that_has_not_come_is_the_first_start(
    questions: Questions, health: Health
) -> None:
    questions.clock.advance(HOUR)
    health.refresh_gauges()

    assert not [text for text in questions.metrics.render()[0].decode().splitlines() if "nan" in text.lower()]
    of_family = f'{{account="{ACCOUNT}",family="{FAMILY}"}}'
    assert value(questions, f"kling_last_sweep_success_timestamp_seconds{of_family}") == START / SECOND
    assert value(questions, "kling_last_callback_timestamp_seconds") == START / SECOND
    in_30_days = (START + HOUR + 30 * DAY) / SECOND
    assert value(questions, "kling_earliest_deadline_timestamp_seconds") == in_30_days
    assert value(questions, "kling_oldest_unarchived_age_seconds") == 0


def test_a_family_that_was_never_swept_does_not_hide_another_accounts(
    questions: Questions, upkeep: Upkeep
) -> None:
    expected = Expected({"new": [FAMILY], ACCOUNT: [FAMILY]}, 5 * MINUTE)
    health = Health(questions.desk.ledger, questions.metrics, upkeep.clocks, expected)
    questions.clock.advance(DAY)
    questions.sweeper.sweep(FAMILY, full=True)

    health.refresh_gauges()

    name = "kling_last_sweep_success_timestamp_seconds"
    found = [
        value(questions, f'{name}{{account="{account}",family="{FAMILY}"}}') for account in expected.families
    ]
    assert found == [START / SECOND, (START + DAY) / SECOND]


def test_the_clocks_differences_are_a_gauge_of_each_account(questions: Questions, health: Health) -> None:
    questions.sim.advance(90)
    hear_the_api(questions)
    health.refresh_gauges()

    assert abs(value(questions, f'kling_clock_skew_seconds{{account="{ACCOUNT}"}}') - 90) < 5


def test_readiness_tells_of_every_hold(questions: Questions, health: Health) -> None:
    questions.desk.ledger.holds.set(BucketMissing("gone"), account=ACCOUNT, stage=Stage.ARCHIVE)

    (shown,) = degraded(health, stage="archive")

    assert shown.items() >= {"code": "hold", "account": ACCOUNT, "reason": "bucket_missing"}.items()
    assert shown["since"] == rfc3339(START)


def test_a_reader_that_keeps_the_ledgers_log_long_is_logged_once_and_stands_in_readyz(
    tmp_path: pathlib.Path, lines: list[EventDict]
) -> None:
    desk = Desk(tmp_path, log_bytes_max=20_000)
    clocks = ApiClocks({}, 5 * MINUTE, now=desk.clock)
    upkeep = Upkeep(desk.ledger, Metrics(), clocks, daemon_name="d1", version="0.1.0", started_at=START)
    health = Health(desk.ledger, Metrics(), clocks, EXPECTED)
    reader = sqlite3.connect(desk.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM tasks").fetchone()
    for number in range(20):
        desk.tell(f"t{number}")

    upkeep.run_once()
    upkeep.run_once()

    (said,) = [line for line in lines if line["event"] == "ledger.overgrown"]
    assert (said["log_level"], said["reason"]) == ("warning", "ledger_log_large")
    assert said["what_to_do"].startswith(f"Find it (fuser -v {desk.path})")
    (shown,) = degraded(health, stage="ledger")
    assert (shown["code"], shown["reason"]) == ("disk_low", "ledger_log_large")
    assert (shown["message"], shown["what_to_do"]) == (said["message"], said["what_to_do"])

    reader.close()
    upkeep.run_once()
    assert degraded(health, stage="ledger") == []
    desk.close()


def test_problems_are_a_gauge_by_account_and_code_until_they_end(
    questions: Questions, health: Health
) -> None:
    hold = questions.desk.ledger.holds
    hold.set(BucketMissing("gone"), account=ACCOUNT, stage=Stage.ARCHIVE)
    health.refresh_gauges()

    assert value(questions, f'kling_problems{{account="{ACCOUNT}",code="hold"}}') == 1
    assert value(questions, 'kling_problems{account="",code="no_worker"}') == 1
    hold.release(account=ACCOUNT, stages=(Stage.ARCHIVE,), family=None)
    health.refresh_gauges()
    assert 'code="hold"' not in questions.metrics.render()[0].decode()


def test_a_ledger_that_does_not_commit_is_a_problem_in_the_gauge_too(
    questions: Questions, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions.desk.bring(State.SUCCEEDED)
    health.refresh_gauges()

    def fail() -> None:
        raise LedgerUnavailable("full")

    monkeypatch.setattr(questions.desk.ledger.daemons, "ping", fail)
    health.refresh_gauges()
    assert value(questions, 'kling_problems{account="",code="door_closed"}') == 1

    monkeypatch.setattr(questions.desk.ledger.views, "status", fail)
    health.refresh_gauges()
    assert value(questions, 'kling_problems{account="",code="door_closed"}') == 1
    assert value(questions, f'kling_tasks{{account="{ACCOUNT}",state="succeeded"}}') == 1, (
        "the last value stays"
    )


def test_a_round_whose_every_transaction_takes_as_long_as_it_may_does_not_hang(
    questions: Questions, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, database = Watched(), questions.desk.ledger.database
    seconds, stalled = list[float](), list[str]()
    hear_the_api(questions)
    for kind in ("read", "write"):
        begin = getattr(database, kind)

        def begin_late(*, begin: Any = begin, **options: Any) -> Any:
            seconds.append(63)  # an answer that comes in the last second, from a connection that had broken
            watched.pass_seconds(seconds[-1])
            stalled.extend(watched.pulses.vital_stalled())
            return begin(**options)

        monkeypatch.setattr(database, kind, begin_late)
    with watched.pulses.watched("upkeep-loop"):
        upkeep.run_once()
    assert sum(seconds) > LIMITS["upkeep-loop"].seconds
    assert stalled == []


def test_a_task_that_time_has_matched_with_its_create_is_logged_and_counted(
    questions: Questions, upkeep: Upkeep, lines: list[EventDict]
) -> None:
    lose_answers(questions.desk, "https://app.example.com/")

    upkeep.run_once()
    upkeep.run_once()

    (line,) = [line for line in lines if line["event"] == "task.joined"]
    assert (line["task_id"], line["by"]) == ("t", "time")
    assert value(questions, 'kling_gateway_creates_total{result="joined"}') == 1
    assert value(questions, 'kling_gateway_creates_total{result="doubted"}') == 0


def test_creates_that_time_cannot_tell_apart_are_logged_and_counted_once(
    questions: Questions, upkeep: Upkeep, lines: list[EventDict]
) -> None:
    lose_answers(questions.desk, "https://one.example.com/", "https://two.example.com/")

    for _ in range(2):
        upkeep.run_once()
        questions.desk.clock.advance(2 * MINUTE)

    (line,) = [line for line in lines if line["event"] == "create.doubted"]
    assert (line["reason"], line["count"], line["task_ids"]) == ("several_clients", 2, ("t",))
    assert value(questions, 'kling_gateway_creates_total{result="doubted"}') == 2


def test_counts_that_are_wrong_are_mended_every_hour_and_logged(
    questions: Questions, upkeep: Upkeep, lines: list[EventDict]
) -> None:
    desk = questions.desk
    desk.bring(State.FAILED)
    upkeep.run_once()
    assert "counts.mended" not in {line["event"] for line in lines}
    desk.write("DELETE FROM task_counts")

    desk.clock.advance(HOUR - 1)
    upkeep.run_once()
    assert desk.counts() == {}
    desk.clock.advance(1)
    upkeep.run_once()

    assert desk.counts() == desk.counted()
    assert [line["count"] for line in lines if line["event"] == "counts.mended"] == [1]


def test_a_count_of_all_tasks_that_fails_skips_no_other_duty_and_waits_for_the_next_hour(
    questions: Questions, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> int:
        raise LedgerUnavailable("no answer")

    monkeypatch.setattr(questions.desk.ledger.recounts, "mend", fail)
    lose_answers(questions.desk, "https://app.example.com/")

    with pytest.raises(LedgerUnavailable):
        upkeep.run_once()
    assert value(questions, 'kling_gateway_creates_total{result="joined"}') == 1
    upkeep.run_once()  # raises nothing
    questions.desk.clock.advance(HOUR)
    with pytest.raises(LedgerUnavailable):
        upkeep.run_once()


def test_a_look_at_lost_answers_that_fails_hides_no_match_by_external_id_and_skips_no_other_duty(
    questions: Questions, upkeep: Upkeep, lines: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = questions.desk
    named = GatewayCreate("r-1", ACCOUNT, FAMILY, "e-1", "https://app.example.com/", {})
    desk.ledger.gateway_creates.commit(begun=[named])
    desk.say(answer(external_task_id="e-1", created_at=desk.clock()), by=DiscoveredBy.SWEEP)
    desk.clock.advance(HOUR)

    def fail(_: object) -> None:
        raise LedgerUnavailable("no answer")

    monkeypatch.setattr(type(desk.ledger.gateway_creates), "match_by_time", fail)

    with pytest.raises(LedgerUnavailable):
        upkeep.run_once()

    assert value(questions, 'kling_gateway_creates_total{result="joined"}') == 1
    assert {"task.joined", "callbacks.missed"} <= {line["event"] for line in lines}


def test_a_clock_that_was_set_back_does_not_delay_the_look_at_lost_answers(
    questions: Questions, upkeep: Upkeep, lines: list[EventDict]
) -> None:
    questions.desk.clock.advance(2 * HOUR)
    upkeep.run_once()
    questions.desk.clock.advance(-2 * HOUR)
    lose_answers(questions.desk, "https://app.example.com/")

    upkeep.run_once()

    assert [line["task_id"] for line in lines if line["event"] == "task.joined"] == ["t"]
