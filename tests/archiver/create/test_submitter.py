"""Creating a task: paid for once, registered before it exists, found again if the answer is lost."""

import asyncio
import dataclasses
import json
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from archiver.create.request import request_of
from archiver.create.submitter import LOOKUP_SECONDS, CreateOutcome, Submission, Submitter
from archiver.failures import (
    ApiConcurrencyExceeded,
    CreateOutcomeUnknown,
    Failure,
    LeaseLost,
    LedgerUnavailable,
)
from archiver.kling.client import KlingClient
from archiver.kling.credentials import KeyPair
from archiver.kling.limiter import Priority, RateLimiter
from archiver.ledger.records import Records
from archiver.ledger.registrations import Registrations
from archiver.model import Callback, DiscoveredBy, Stage, State, Status
from tests.harness.ledgers import ACCOUNT, FAMILY, MINUTE, RAND, SECOND, Desk
from tests.simulator import Fault, KlingSimulator, faults

OURS = "ka-fedcba9876543210fedcba9876543210"
LOST = faults.Happened(faults.Hang())
"""The task is created, and the answer never comes."""


class Bench:
    """A ledger, an account, and a submitter between them whose pauses pass at once on the ledger's clock."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.desk = Desk(folder)
        self.sim = KlingSimulator(now=lambda: self.desk.clock() / 1000)
        self.client = KlingClient(
            self.sim.base_url,
            KeyPair(self.sim.access_key, self.sim.secret_key),
            RateLimiter(1000, wait=threading.Event().wait),
            now=lambda: self.desk.clock() / 1000,
            read_seconds=5.0,
            create_seconds=2.0,
        )
        self.pauses: list[tuple[str, float]] = []
        self.on_pause: Callable[[], object] = lambda: None
        self.submitter = Submitter(
            ACCOUNT, self.client, self.desk.ledger, self._pause, lambda: RAND, lambda: None
        )

    def _pause(self, failure: Failure, seconds: float) -> None:
        self.pauses.append((failure.reason, seconds))
        self.desk.clock.advance(int(seconds * SECOND))
        self.on_pause()

    def close(self) -> None:
        self.client.close()
        self.desk.close()

    def registered(self, external_id: str = OURS) -> bool:
        return self.desk.ledger.registrations.known(external_id, account=ACCOUNT) is not None

    def shown(self, task_id: str) -> dict[str, Any]:
        shown = self.desk.ledger.views.show(task_id, account=ACCOUNT)
        assert shown is not None
        return shown.as_json()

    def created(self) -> str:
        """The id of the only task upstream."""
        (task_id,) = self.sim.task_ids()
        return task_id


def submission(
    external_id: str = OURS, *, own: bool = True, prompt: str = "a red fox", **more: Any
) -> Submission:
    body = {"prompt": prompt, "n": 2, **more, "external_task_id": external_id}
    return Submission(FAMILY, body, external_id, own, request_of(body))


class WithoutTaskInfo:
    """The true answer, less the object that would repeat the external id."""

    async def answer(self, exchange: faults.Exchange) -> None:
        body = json.loads((await exchange.normal()).body)
        del body["data"]["task_info"]
        await faults.Json(body).answer(exchange)


@dataclasses.dataclass(frozen=True)
class AnsweredAfter:
    """The task is created, something else happens, and only then comes the answer."""

    happens: Callable[[], object]

    async def answer(self, exchange: faults.Exchange) -> None:
        answer = await exchange.normal()
        await asyncio.to_thread(self.happens)
        await exchange.send(answer)


@pytest.fixture
def bench(tmp_path: pathlib.Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    with made.sim:
        yield made
        made.close()


# --- created ---


def test_a_created_task_is_in_the_ledger_under_its_own_id_with_what_was_asked_for(bench: Bench) -> None:
    done = bench.submitter.submit(submission())

    shown = bench.shown(bench.created())
    assert (done.outcome, done.task_id, done.failure) == (CreateOutcome.CREATED, bench.created(), None)
    assert (shown["state"], shown["external_task_id"], shown["family"]) == (State.RUNNING, OURS, FAMILY)
    assert shown["discovered_by"] == DiscoveredBy.REGISTRATION
    found = bench.desk.ledger.registrations.known(OURS, account=ACCOUNT)
    assert found is not None
    assert found.request == {"prompt": "a red fox", "n": 2}
    assert bench.desk.ledger.views.status().states[State.REPORTED] == 0


def test_an_answer_without_the_external_id_still_replaces_the_registration(bench: Bench) -> None:
    """One of the create pages shows an answer without `task_info`."""
    bench.sim.fault("create", WithoutTaskInfo(), times=1)
    done = bench.submitter.submit(submission())

    assert bench.shown(OURS)["task_id"] == done.task_id == bench.created()
    assert sum(bench.desk.ledger.views.status().states.values()) == 1


def test_a_task_is_registered_before_the_create_is_sent(bench: Bench) -> None:
    seen: list[bool] = []
    bench.sim.fault("create", faults.Call(lambda: seen.append(bench.registered())), times=1)

    bench.submitter.submit(submission())
    assert seen == [True]


@pytest.mark.parametrize("told", ["by its id", "by both ids"])
def test_a_callback_that_overtakes_the_answer_becomes_the_same_row(bench: Bench, told: str) -> None:
    def call_back(_request: object) -> None:
        for task_id in bench.sim.task_ids():
            bench.desk.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, FAMILY)])
        if told == "by both ids":
            bench.desk.ledger.callbacks.record([Callback(ACCOUNT, OURS, Status.SUCCEEDED, FAMILY)])

    bench.sim.fault("create", faults.Cut(kept=0), times=1)
    bench.sim.on_request(lambda request: call_back(request) if request.kind == "query" else None)
    done = bench.submitter.submit(submission())

    assert done.outcome is CreateOutcome.CREATED
    states = bench.desk.ledger.views.status().states
    assert sum(states.values()) == 1
    found = bench.desk.ledger.registrations.known(bench.created(), account=ACCOUNT)
    assert found is not None
    assert found.request == {"prompt": "a red fox", "n": 2}


def test_a_daemon_that_asks_between_create_and_answer_makes_no_second_row(bench: Bench) -> None:
    """It may ask for the external id while the create is under way, and record the task first."""

    def daemon() -> None:
        task = bench.client.query(FAMILY, OURS, priority=Priority.VERIFY)
        bench.desk.ledger.records.record(
            [task], account=ACCOUNT, discovered_by=DiscoveredBy.REGISTRATION, rand=RAND, asked_as=OURS
        )

    bench.sim.fault("create", AnsweredAfter(daemon), times=1)
    bench.submitter.submit(submission())

    states = bench.desk.ledger.views.status().states
    assert {state: count for state, count in states.items() if count} == {State.RUNNING: 1}


def test_a_ledger_that_fails_after_the_create_still_gives_the_id_and_keeps_the_registration(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise LedgerUnavailable("the ledger is full")

    monkeypatch.setattr(Records, "record", full)
    done = bench.submitter.submit(submission())

    assert (done.outcome, done.task_id) == (CreateOutcome.CREATED, bench.created())
    assert isinstance(done.failure, LedgerUnavailable)
    assert bench.registered()


def test_a_ledger_that_fails_before_it_sends_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise LedgerUnavailable("the ledger is full")

    monkeypatch.setattr(Registrations, "register", full)
    with pytest.raises(LedgerUnavailable):
        bench.submitter.submit(submission())

    assert bench.sim.requests["create"] == 0


# --- refused ---


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (400, 1200, "api_request_invalid"),
        (400, 1201, "api_bad_parameter"),
        (400, 1300, "api_policy_triggered"),
        (400, 1301, "api_content_refused"),
        (401, 1000, "api_credentials_refused"),
        (429, 1100, "api_account_abnormal"),
        (429, 1101, "api_account_in_arrears"),
        (429, 1102, "api_pack_used_up"),
        (403, 1103, "api_forbidden"),
        (404, 1203, "api_model_missing"),
        (429, 1304, "api_address_not_allowed"),
    ],
)
def test_a_refusal_leaves_nothing_behind_and_is_not_tried_again(
    bench: Bench, status: int, code: int, reason: str
) -> None:
    bench.sim.fault("create", faults.ErrorCode(status, code, "no"), times=1)
    done = bench.submitter.submit(submission())

    assert (done.outcome, done.task_id) == (CreateOutcome.REFUSED, None)
    assert done.failure is not None
    assert done.failure.reason == reason
    assert (bench.registered(), bench.sim.requests["create"], bench.pauses) == (False, 1, [])


def test_a_refused_connection_creates_and_registers_nothing(bench: Bench) -> None:
    unreachable = KlingClient(
        "http://127.0.0.1:9",
        KeyPair("access-key", "secret-key"),
        RateLimiter(1000, wait=threading.Event().wait),
    )
    with unreachable:
        done = dataclasses.replace(bench.submitter, client=unreachable).submit(submission())

    assert done.outcome is CreateOutcome.REFUSED
    assert not bench.registered()


# --- over concurrency ---


def test_without_a_free_slot_it_waits_longer_each_time_and_tries_again_until_there_is_one(
    bench: Bench,
) -> None:
    bench.sim.switches.slots_max = 3
    other = bench.sim.create_task(images=2)

    def free_at_the_fifth() -> None:
        assert not bench.registered()
        if len(bench.pauses) == 5:
            bench.sim.succeed(other)

    bench.on_pause = free_at_the_fifth
    done = bench.submitter.submit(submission())

    assert done.outcome is CreateOutcome.CREATED
    assert bench.pauses == [(ApiConcurrencyExceeded.reason, s) for s in (1.5, 3.0, 6.0, 12.0, 24.0)]
    assert bench.sim.requests["create"] == 6
    assert bench.sim.complaints == []


def test_it_never_waits_less_than_a_second_nor_more_than_a_minute(bench: Bench) -> None:
    bench.sim.fault("create", faults.over_concurrency(), times=12)
    impatient = dataclasses.replace(bench.submitter, rand=lambda: 0.0)
    impatient.submit(submission())

    waited = [seconds for _, seconds in bench.pauses]
    assert (waited[0], max(waited)) == (1.0, 30.0)


def test_an_interrupted_wait_for_slots_leaves_nothing_registered(bench: Bench) -> None:
    bench.sim.fault("create", faults.over_concurrency())

    def give_up() -> None:
        raise KeyboardInterrupt

    bench.on_pause = give_up
    with pytest.raises(KeyboardInterrupt):
        bench.submitter.submit(submission())

    assert not bench.registered()


# --- the answer is lost ---

HAPPENED = [
    LOST,
    faults.Cut(),
    faults.Cut(kept=0),
    faults.Cut(kept=0, reset=True),
    faults.Truncate(with_length=True),
    faults.Happened(faults.server_error()),
    faults.Happened(faults.ErrorCode(504, 5002)),
    faults.Happened(faults.ErrorCode(503, 5001)),
    faults.Happened(faults.Html(502)),
    faults.Happened(faults.Html()),
    faults.Happened(faults.Empty()),
    faults.Happened(faults.Json({"code": 0, "data": {}})),
]
NOT_HAPPENED = [
    faults.Hang(),
    faults.Drop(),
    faults.Drop(reset=True),
    faults.server_error(),
    faults.Html(502),
    faults.Empty(),
]


@pytest.mark.parametrize("fault", HAPPENED, ids=repr)
def test_a_task_whose_answer_was_lost_is_found_and_created_once(bench: Bench, fault: Fault) -> None:
    bench.sim.fault("create", fault, times=1)
    done = bench.submitter.submit(submission())

    assert (done.outcome, done.task_id) == (CreateOutcome.CREATED, bench.created())
    assert bench.sim.requests["create"] == 1
    assert bench.shown(OURS)["task_id"] == done.task_id


@pytest.mark.parametrize("fault", NOT_HAPPENED, ids=repr)
def test_a_create_that_may_not_have_happened_is_asked_for_and_never_repeated(
    bench: Bench, fault: Fault
) -> None:
    bench.sim.fault("create", fault, times=1)
    done = bench.submitter.submit(submission())

    assert (done.outcome, done.task_id, done.is_absent) == (CreateOutcome.UNKNOWN, None, True)
    assert bench.sim.requests == {"create": 1, "query": len(LOOKUP_SECONDS)}
    assert bench.registered()
    assert bench.pauses == [(CreateOutcomeUnknown.reason, seconds) for seconds in LOOKUP_SECONDS]


def test_a_task_that_shows_late_is_found_by_a_later_question(bench: Bench) -> None:
    bench.sim.fault("create", LOST, times=1)
    bench.sim.fault("query", faults.ErrorCode(400, 1201, "task not found"), times=2)
    done = bench.submitter.submit(submission())

    assert (done.outcome, done.task_id) == (CreateOutcome.CREATED, bench.created())


def test_if_the_api_cannot_be_asked_the_outcome_is_unknown_and_the_task_registered(bench: Bench) -> None:
    bench.sim.fault("create", LOST, times=1)
    bench.sim.fault("query", faults.server_error())
    done = bench.submitter.submit(submission())

    assert (done.outcome, done.is_absent) == (CreateOutcome.UNKNOWN, False)
    assert bench.registered()
    assert bench.sim.requests["create"] == 1


def test_a_create_that_a_proxy_sent_twice_is_recognized(bench: Bench) -> None:
    """The first one created the task; our answer only says that the external id is taken."""
    bench.sim.fault("create", faults.Happened(faults.ErrorCode(400, 1201, f"exists: {OURS}")), times=1)
    done = bench.submitter.submit(submission())

    assert (done.outcome, done.task_id) == (CreateOutcome.CREATED, bench.created())


def test_a_bad_parameter_is_unknown_while_the_api_cannot_be_asked(bench: Bench) -> None:
    bench.sim.fault("create", faults.Happened(faults.ErrorCode(400, 1201, "bad")), times=1)
    bench.sim.fault("query", faults.Html(502))
    done = bench.submitter.submit(submission())

    assert done.outcome is CreateOutcome.UNKNOWN
    assert bench.registered()


# --- the same external id again ---


def test_after_a_lost_answer_the_same_command_finds_the_task_and_pays_nothing(bench: Bench) -> None:
    bench.sim.fault("create", LOST, times=1)
    bench.sim.fault("query", faults.server_error(), times=len(LOOKUP_SECONDS))
    bench.submitter.submit(submission())

    again = bench.submitter.submit(submission(own=False))
    assert (again.outcome, again.task_id) == (CreateOutcome.EXISTING, bench.created())
    assert bench.sim.requests["create"] == 1


def test_after_a_create_that_did_not_happen_the_same_command_creates_the_task(bench: Bench) -> None:
    bench.sim.fault("create", faults.Drop(), times=1)
    bench.submitter.submit(submission())

    again = bench.submitter.submit(submission(own=False))
    assert (again.outcome, again.task_id) == (CreateOutcome.CREATED, bench.created())


def test_a_known_task_is_not_queried_again(bench: Bench) -> None:
    bench.submitter.submit(submission("order-1", own=False))
    requests = sum(bench.sim.requests.values())

    again = bench.submitter.submit(submission("order-1", own=False))
    assert (again.outcome, again.task_id) == (CreateOutcome.EXISTING, bench.created())
    assert sum(bench.sim.requests.values()) == requests


@pytest.mark.parametrize("first", ["created", "lost"])
def test_an_external_id_of_another_request_is_refused_before_anything_is_sent(
    bench: Bench, first: str
) -> None:
    if first == "lost":
        bench.sim.fault("create", faults.Drop(), times=1)
    bench.submitter.submit(submission("order-1", own=False))
    creates = bench.sim.requests["create"]

    other = bench.submitter.submit(submission("order-1", own=False, prompt="a blue fox"))
    elsewhere = dataclasses.replace(submission("order-1", own=False), family="images/omni-image")
    for refused in (other, bench.submitter.submit(elsewhere)):
        assert refused.outcome is CreateOutcome.REFUSED
        assert refused.failure is not None
        assert refused.failure.reason == "external_id_taken"
    assert bench.sim.requests["create"] == creates
    assert bench.registered("order-1")


def test_an_external_id_that_is_taken_upstream_is_refused(bench: Bench) -> None:
    theirs = bench.sim.create_task(external_task_id="order-1")
    done = bench.submitter.submit(submission("order-1", own=False))

    assert done.outcome is CreateOutcome.REFUSED
    assert done.failure is not None
    assert (done.failure.reason, theirs in str(done.failure)) == ("external_id_taken", True)
    assert not bench.registered("order-1")


def test_an_external_id_registered_by_hand_for_a_task_from_elsewhere_is_refused(bench: Bench) -> None:
    theirs = bench.sim.create_task(external_task_id="order-1")
    bench.desk.ledger.registrations.register("order-1", account=ACCOUNT, family=FAMILY)
    done = bench.submitter.submit(submission("order-1", own=False))

    assert done.outcome is CreateOutcome.REFUSED
    assert theirs in str(done.failure)
    assert bench.sim.requests["create"] == 0
    assert bench.registered("order-1")


@pytest.mark.parametrize("is_known", [True, False])
def test_an_external_id_that_is_another_tasks_own_id_is_refused(bench: Bench, is_known: bool) -> None:
    """Either kind may stand in the same place (archiver/kling/API.md 7), so the wrong task would answer for it."""
    theirs = bench.sim.create_task(task_id="CjikY2gHPbcAAAAADfR_DQ")
    if is_known:
        bench.desk.ledger.callbacks.record([Callback(ACCOUNT, theirs, Status.SUCCEEDED, FAMILY)])
    bench.sim.fault("create", faults.ErrorCode(400, 1201, "external_task_id is taken"))
    done = bench.submitter.submit(submission(theirs, own=False))

    assert done.outcome is CreateOutcome.REFUSED
    assert "belongs to another task as its own id" in str(done.failure)
    assert bench.registered(theirs) is is_known


def test_an_earlier_try_that_cannot_be_asked_for_is_not_repeated(bench: Bench) -> None:
    bench.sim.fault("create", faults.Drop(), times=1)
    bench.submitter.submit(submission())
    bench.sim.fault("query", faults.Html(502))

    again = bench.submitter.submit(submission(own=False))
    assert again.outcome is CreateOutcome.UNKNOWN
    assert bench.sim.requests["create"] == 1


def test_a_refusal_of_a_second_try_keeps_what_the_first_has_registered(bench: Bench) -> None:
    """The first create may still be on its way."""
    bench.sim.fault("create", faults.Drop(), times=1)
    bench.submitter.submit(submission())
    bench.sim.fault("create", faults.ErrorCode(429, 1102, "used up"), times=1)

    again = bench.submitter.submit(submission(own=False))
    assert again.outcome is CreateOutcome.REFUSED
    assert bench.registered()


def test_a_registration_by_hand_takes_the_request(bench: Bench) -> None:
    bench.desk.ledger.registrations.register("order-1", account=ACCOUNT, family=FAMILY)
    done = bench.submitter.submit(submission("order-1", own=False))

    found = bench.desk.ledger.registrations.known("order-1", account=ACCOUNT)
    assert done.outcome is CreateOutcome.CREATED
    assert found is not None
    assert found.request == {"prompt": "a red fox", "n": 2}


# --- withdrawing a registration ---


def test_only_an_unconfirmed_registration_can_be_withdrawn(bench: Bench) -> None:
    ledger = bench.desk.ledger
    ledger.registrations.register("a", account=ACCOUNT, family=FAMILY)
    ledger.callbacks.record([Callback(ACCOUNT, "b", None, FAMILY)])
    ledger.registrations.register("c", account=ACCOUNT, family=FAMILY)
    ledger.callbacks.record([Callback(ACCOUNT, "c", None, FAMILY)])
    confirmed = bench.submitter.submit(submission()).task_id
    assert confirmed is not None

    names = ["a", "a", "b", "c", confirmed, OURS, "nobody"]
    assert [ledger.registrations.withdraw(name, account=ACCOUNT) for name in names] == [True, *[False] * 6]


def test_a_query_for_a_withdrawn_registration_ends_without_effect(bench: Bench) -> None:
    bench.desk.ledger.registrations.register("a", account=ACCOUNT, family=FAMILY)
    lease = bench.desk.claim(Stage.VERIFY)
    bench.desk.ledger.registrations.withdraw("a", account=ACCOUNT)

    with pytest.raises(LeaseLost):
        bench.desk.ledger.outcomes.not_found(lease, rand=RAND)
    bench.desk.clock.advance(MINUTE)
    assert bench.desk.ledger.claims.verify(count=9, offset=0, account=ACCOUNT) == []
