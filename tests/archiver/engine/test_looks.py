"""What the daemon finds out by looking: a real API client, simulator, S3 server and ledger; tests move the clock."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from archiver.engine.looks.look import NO_TASK_ID, ApiLook, Look, StoreLook
from archiver.engine.looks.loop import LookLoop
from archiver.engine.looks.machine import LOOK_SECONDS, MachineLook, MachineLoop
from archiver.engine.looks.outage import Outages
from archiver.engine.sweep_loop import SweepLoop
from archiver.failures import ApiTimeout, Failure, Outside, StoreError, StoreUnreachable
from archiver.fetch.spool import Space, Spool
from archiver.kling.client import KlingClient
from archiver.kling.credentials import ApiKey, KeyPair
from archiver.kling.limiter import Priority, RateLimiter
from archiver.ledger import Ledger
from archiver.metrics import Metrics
from archiver.model import Stage
from archiver.store import S3Store
from tests.harness.engine import ACCOUNT, FAMILY, Engine, EngineClock
from tests.harness.pipeline import Unwaiting
from tests.s3_servers import S3Server
from tests.simulator import KlingSimulator, faults

CLOSED = "http://127.0.0.1:1"
UNKNOWN = "http://no-such-host.invalid"
SECRET = "s" * 32
MINUTE = 60
HOUR = 60 * MINUTE
CLIENTS = list[KlingClient]()
"""Made in this test."""


def client_of(url: str, *, secret_key: str = SECRET, access_key: str = "key") -> KlingClient:
    limiter = RateLimiter(1000, wait=lambda _seconds: False)
    CLIENTS.append(KlingClient(url, KeyPair(access_key, secret_key), limiter, read_seconds=1.0))
    return CLIENTS[-1]


def client_with_key(sim: KlingSimulator) -> KlingClient:
    limiter = RateLimiter(1000, wait=lambda _seconds: False)
    CLIENTS.append(KlingClient(sim.base_url, ApiKey(sim.api_key), limiter, read_seconds=1.0))
    return CLIENTS[-1]


@pytest.fixture(autouse=True)
def _clients_are_closed() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()


def api_look(url: str, **keys: str) -> ApiLook:
    return ApiLook(client_of(url, **keys), (FAMILY,))


def right_look(sim: KlingSimulator) -> ApiLook:
    return api_look(sim.base_url, access_key=sim.access_key, secret_key=sim.secret_key)


@dataclasses.dataclass
class Changing:
    """A look at something that a test exchanges."""

    current: Look
    looks: int = 0

    @property
    def outside(self) -> Outside:
        return self.current.outside

    def look(self) -> None:
        self.looks += 1
        self.current.look()


class Daemon:
    """The look loop of one account, on a ledger without tasks."""

    def __init__(self, folder: pathlib.Path, look: Look) -> None:
        self.clock = EngineClock()
        self.ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", daemon=True, now=self.clock.now)
        self.outages = Outages(monotonic=self.clock.monotonic)
        self.look = Changing(look)
        self.woken: list[Stage] = []
        self._loop = LookLoop(
            self.look,
            self.outages.of(look.outside),
            account=ACCOUNT,
            ledger=self.ledger,
            metrics=Metrics(),
            wake=Unwaiting(),
            wake_stage=self.woken.append,
            monotonic=self.clock.monotonic,
        )

    def begin(self) -> None:
        """The first step of a daemon that has just started."""
        self._loop.step()

    def pass_time(self, seconds: int, *, until: Callable[[], bool] = lambda: False) -> int:
        """Let the loop run, a second a step; how many have passed."""
        for passed in range(seconds):
            if until():
                return passed
            self.clock.advance(seconds=1)
            self._loop.step()
        return seconds

    def fail(self, error: Failure) -> None:
        """A task has failed so."""
        self.outages.of(self.look.outside).failed(error, task_id="a task")

    def reasons(self) -> set[str]:
        return {hold.reason for hold in self.ledger.holds.all()}

    def held(self) -> set[str]:
        return {hold.stage for hold in self.ledger.holds.all()}


@pytest.fixture
def started(tmp_path: pathlib.Path) -> Iterator[Callable[[Look], Daemon]]:
    daemons = list[Daemon]()

    def start(look: Look) -> Daemon:
        daemons.append(Daemon(tmp_path, look))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.ledger.close()


# --- the API --------------------------------------------------------------------------------------------------------


def closed_port(_sim: KlingSimulator) -> Look:
    return api_look(CLOSED)


def unresolvable(_sim: KlingSimulator) -> Look:
    return api_look(UNKNOWN)


def refused_keys(sim: KlingSimulator) -> Look:
    return api_look(sim.base_url)


def answering(fault: faults.Fault) -> Callable[[KlingSimulator], Look]:
    def look(sim: KlingSimulator) -> Look:
        for endpoint in ("list", "query", "tasks"):
            sim.fault(endpoint, fault)
        return right_look(sim)

    return look


API_TROUBLES: Mapping[str, tuple[Callable[[KlingSimulator], Look], set[str]]] = {
    "closed port": (closed_port, {"api_unreachable"}),
    "unresolvable name": (unresolvable, {"api_unreachable"}),
    "refused keys": (refused_keys, {"api_credentials_refused"}),
    "server errors": (answering(faults.server_error()), {"api_server_error"}),
    "a page of HTML": (answering(faults.Html(200)), {"api_answer_unreadable"}),
    "a login page": (answering(faults.Html(403)), {"api_answer_unreadable", "api_bad_parameter"}),
    "a web server that is not Kling's": (answering(faults.Html(404)), {"api_bad_parameter"}),
    "a web server that answers in JSON": (
        answering(faults.Json({"detail": "Not Found"}, status=404)),
        {"api_bad_parameter"},
    ),
    "a gateway with codes of its own": (answering(faults.ErrorCode(404, 404)), {"api_bad_parameter"}),
    "an empty body": (answering(faults.Empty(200)), {"api_answer_unreadable"}),
    "half an answer": (answering(faults.Cut()), {"api_answer_unreadable", "api_unreachable"}),
    "arrears": (answering(faults.ErrorCode(429, 1101)), {"api_account_in_arrears"}),
}


@pytest.fixture
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.mark.parametrize("trouble", API_TROUBLES)
def test_an_api_that_is_not_there_at_start_is_a_hold_at_once_on_an_empty_account(
    sim: KlingSimulator, started: Callable[[Look], Daemon], trouble: str
) -> None:
    wrong, reasons = API_TROUBLES[trouble]
    daemon = started(wrong(sim))

    daemon.begin()

    assert daemon.reasons() <= reasons
    assert daemon.held() == {"verify", "sweep"}
    assert all(hold.what_to_do for hold in daemon.ledger.holds.all())


@pytest.mark.parametrize("trouble", API_TROUBLES)
def test_an_api_that_fails_later_is_a_hold_within_a_minute_of_the_first_work_that_it_stops(
    sim: KlingSimulator, started: Callable[[Look], Daemon], trouble: str
) -> None:
    daemon = started(right_look(sim))
    daemon.begin()
    assert daemon.held() == set()
    daemon.look.current = API_TROUBLES[trouble][0](sim)
    daemon.fail(ApiTimeout("no answer"))

    seconds = daemon.pass_time(MINUTE, until=lambda: bool(daemon.held()))

    assert seconds < MINUTE
    assert daemon.held() == {"verify", "sweep"}


@pytest.mark.parametrize("families", [(FAMILY,), ("tasks/image",)])
def test_a_server_without_any_of_kling_s_paths_is_a_hold_that_names_the_base_url(
    sim: KlingSimulator, started: Callable[[Look], Daemon], families: tuple[str, ...]
) -> None:
    for endpoint in ("list", "query", "tasks"):
        sim.fault(endpoint, faults.Html(404))
    daemon = started(ApiLook(client_with_key(sim), families))
    daemon.begin()

    assert daemon.held() == {"verify", "sweep"}
    assert all("KLING_BASE_URL" in hold.what_to_do for hold in daemon.ledger.holds.all())
    assert all("path" in hold.what_to_do for hold in daemon.ledger.holds.all())


def test_a_path_that_is_lost_while_the_daemon_runs_is_a_hold_within_a_minute_of_the_first_task_that_is_denied(
    sim: KlingSimulator, started: Callable[[Look], Daemon]
) -> None:
    look = right_look(sim)
    look.client.query(FAMILY, sim.create_task(), priority=Priority.VERIFY)
    daemon = started(look)
    daemon.begin()
    for endpoint in ("list", "query"):
        sim.fault(endpoint, faults.Html(404))
    daemon.outages.of(Outside.API).suspect()

    assert daemon.pass_time(MINUTE, until=lambda: bool(daemon.held())) < MINUTE


def test_a_gateway_without_lists_that_denies_ids_in_words_of_its_own_is_asked_for_a_task_that_it_knows(
    sim: KlingSimulator, started: Callable[[Look], Daemon]
) -> None:
    look = right_look(sim)
    look.client.query(FAMILY, sim.create_task(), priority=Priority.VERIFY)
    sim.fault("list", faults.Html(404))
    sim.fault("query", faults.Html(404), match=f"/{NO_TASK_ID}")
    daemon = started(look)
    daemon.begin()
    for _ in range(10):
        daemon.outages.of(Outside.API).suspect()
        daemon.pass_time(MINUTE)

    assert daemon.held() == set()
    assert daemon.look.looks == 11


def test_suspicions_without_end_call_for_two_looks_a_minute(
    sim: KlingSimulator, started: Callable[[Look], Daemon]
) -> None:
    daemon = started(right_look(sim))
    daemon.begin()
    for _ in range(10 * MINUTE):
        daemon.outages.of(Outside.API).suspect()
        daemon.pass_time(1)

    assert daemon.look.looks <= 21


def test_an_idle_daemon_finds_out_within_five_minutes_and_then_within_one(
    sim: KlingSimulator, started: Callable[[Look], Daemon]
) -> None:
    daemon = started(right_look(sim))
    daemon.begin()
    daemon.pass_time(MINUTE)
    daemon.look.current, looks = api_look(CLOSED), daemon.look.looks

    daemon.pass_time(5 * MINUTE, until=lambda: daemon.look.looks > looks)
    assert daemon.held() == set()
    assert daemon.pass_time(MINUTE, until=lambda: bool(daemon.held())) < MINUTE


def test_a_look_that_succeeds_ends_the_hold_that_looks_have_set_and_wakes_what_it_held(
    sim: KlingSimulator, started: Callable[[Look], Daemon]
) -> None:
    daemon = started(api_look(CLOSED))
    daemon.begin()
    daemon.look.current = right_look(sim)

    assert daemon.pass_time(MINUTE, until=lambda: not daemon.held()) <= 10
    assert set(daemon.woken) == {Stage.VERIFY, Stage.SWEEP}


def test_an_api_that_hangs_costs_a_look_one_wait(sim: KlingSimulator) -> None:
    for endpoint_name in ("list", "query"):
        sim.fault(endpoint_name, faults.Hang())

    with pytest.raises(ApiTimeout):
        right_look(sim).look()
    assert sim.requests["query"] == 0


def test_a_gateway_without_lists_is_no_outage(sim: KlingSimulator, started: Callable[[Look], Daemon]) -> None:
    for fault in (faults.Html(200), faults.Html(404), faults.server_error()):
        sim.fault("list", fault)
        daemon = started(right_look(sim))
        daemon.begin()

        assert daemon.held() == set()
        sim.clear_faults()
        daemon.ledger.close()


def test_a_family_that_the_keys_may_not_use_is_no_outage(
    sim: KlingSimulator, started: Callable[[Look], Daemon]
) -> None:
    sim.fault("list", faults.ErrorCode(403, 1103))
    daemon = started(right_look(sim))
    daemon.begin()

    assert daemon.held() == set()


def test_looks_are_few_while_all_is_well(sim: KlingSimulator, started: Callable[[Look], Daemon]) -> None:
    """Twelve an hour on an idle account; the hour's one where work succeeds all the time."""
    daemon = started(right_look(sim))
    daemon.begin()
    daemon.pass_time(HOUR)
    idle, outage = daemon.look.looks, daemon.outages.of(Outside.API)
    for _ in range(HOUR // 10):
        daemon.pass_time(10)
        outage.worked()

    assert (idle, daemon.look.looks - idle) == (13, 1)
    assert {request.path.split("?")[0] for request in sim.log} == {f"/v1/{FAMILY}"}


def test_a_look_during_an_outage_is_made_every_ten_seconds_and_refused_keys_are_left_alone_for_thirty(
    sim: KlingSimulator, started: Callable[[Look], Daemon]
) -> None:
    daemon = started(api_look(CLOSED))
    daemon.begin()
    daemon.pass_time(10 * MINUTE)
    unreachable = daemon.look.looks
    daemon.look.current = refused_keys(sim)
    daemon.pass_time(10 * MINUTE)

    assert unreachable in range(58, 64)
    assert daemon.look.looks - unreachable in range(18, 24)


# --- the store ------------------------------------------------------------------------------------------------------


def endpoint(url: str) -> Callable[[S3Server], S3Store]:
    return lambda server: S3Store.from_settings(
        bucket="results",
        endpoint_url=url,
        region="us-east-1",
        session=server.session(),
        connect_timeout_seconds=1,
        read_timeout_seconds=1,
    )


def missing_bucket(server: S3Server) -> S3Store:
    return server.store("not-here")


def bucket_in_the_path(server: S3Server) -> S3Store:
    bucket = server.create_bucket()
    return S3Store.from_settings(
        bucket=bucket,
        endpoint_url=f"{server.endpoint_url}/{bucket}",
        region="us-east-1",
        session=server.session(),
    )


def wrong_keys(server: S3Server) -> S3Store:
    session = server.session(access_key="wrong", secret_key="wrong-secret")
    return server.store(server.create_bucket(), session=session)


def no_keys(server: S3Server) -> S3Store:
    return S3Store.from_settings(
        bucket=server.create_bucket(), endpoint_url=server.endpoint_url, region="us-east-1"
    )


STORE_TROUBLES: Mapping[str, Callable[[S3Server], S3Store]] = {
    "closed port": endpoint(CLOSED),
    "unresolvable name": endpoint(UNKNOWN),
    "missing bucket": missing_bucket,
    "bucket in the endpoint's path": bucket_in_the_path,
    "wrong keys": wrong_keys,
    "no keys": no_keys,
}


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in botocore's chain has any."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/dev/null")


@pytest.mark.usefixtures("no_credentials")
@pytest.mark.parametrize("trouble", STORE_TROUBLES)
def test_a_store_that_is_not_there_at_start_is_a_hold_at_once_on_an_empty_account(
    swift_server: S3Server, started: Callable[[Look], Daemon], trouble: str
) -> None:
    daemon = started(StoreLook(STORE_TROUBLES[trouble](swift_server), "kling/"))

    daemon.begin()

    assert daemon.held() == {"archive"}
    assert all(hold.what_to_do for hold in daemon.ledger.holds.all())


@pytest.mark.usefixtures("no_credentials")
@pytest.mark.parametrize("trouble", STORE_TROUBLES)
def test_a_store_that_fails_later_is_a_hold_within_a_minute_of_the_first_work_that_it_stops(
    swift_server: S3Server, started: Callable[[Look], Daemon], trouble: str
) -> None:
    good = swift_server.store(swift_server.create_bucket())
    daemon = started(StoreLook(good, "kling/"))
    daemon.begin()
    assert daemon.held() == set()
    daemon.look.current = StoreLook(STORE_TROUBLES[trouble](swift_server), "kling/")
    daemon.fail(StoreUnreachable("no connection"))

    assert daemon.pass_time(MINUTE, until=lambda: bool(daemon.held())) < MINUTE
    daemon.look.current = StoreLook(good, "kling/")
    assert daemon.pass_time(MINUTE, until=lambda: not daemon.held()) <= 30


@pytest.mark.usefixtures("no_credentials")
def test_credentials_that_come_later_end_the_hold_without_a_restart(
    swift_server: S3Server, started: Callable[[Look], Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = started(StoreLook(no_keys(swift_server), ""))
    daemon.begin()
    assert daemon.held() == {"archive"}

    for name, value in swift_server.environment("results").items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)

    assert daemon.pass_time(MINUTE, until=lambda: not daemon.held()) <= 30


def test_a_store_that_hangs_is_found_out_while_the_put_still_waits(
    started: Callable[[Look], Daemon], swift_server: S3Server
) -> None:
    daemon = started(StoreLook(swift_server.store(swift_server.create_bucket()), ""))
    daemon.begin()
    daemon.pass_time(MINUTE)
    daemon.look.current = StoreLook(endpoint(CLOSED)(swift_server), "")

    with daemon.outages.of(Outside.STORE).under_way():
        assert daemon.pass_time(MINUTE, until=lambda: bool(daemon.held())) < MINUTE


# --- what tasks meet ------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: pathlib.Path, sim: KlingSimulator) -> Iterator[Engine]:
    with Engine(sim, tmp_path) as opened:
        yield opened


def refuse_puts(engine: Engine) -> None:
    """Every put; whatever reads is answered."""

    def hook(operation: str, key: str = "") -> tuple[bool, BaseException | None]:
        del key
        refused = operation == "put"
        return not refused, StoreError("405 MethodNotAllowed") if refused else None

    engine.store.hook = hook


def looks_of(engine: Engine) -> LookLoop:
    return LookLoop(
        StoreLook(engine.store, "kling/"),
        engine.stages.outages.of(Outside.STORE),
        account=ACCOUNT,
        ledger=engine.ledger,
        metrics=engine.metrics,
        wake=Unwaiting(),
        wake_stage=lambda _stage: None,
        monotonic=engine.clock.monotonic,
    )


def test_a_store_that_refuses_every_put_of_one_task_is_a_hold_within_a_minute_and_good_looks_do_not_end_it(
    engine: Engine,
) -> None:
    task_id, looks = engine.succeeded(), looks_of(engine)
    looks.step()
    refuse_puts(engine)
    began = engine.clock.monotonic()
    while not engine.ledger.holds.all():
        engine.attempt()
        looks.step()
        engine.clock.advance(seconds=8)

    assert engine.clock.monotonic() - began < MINUTE
    for _ in range(2 * MINUTE):
        engine.clock.advance(seconds=1)
        looks.step()
    (hold,) = engine.ledger.holds.all()
    assert (hold.stage, hold.reason) == (Stage.ARCHIVE, "store_error")
    assert engine.show(task_id)["attempts"] == 2


def test_a_hold_that_tasks_have_met_costs_no_attempt_after_a_restart_either(engine: Engine) -> None:
    task_id = engine.succeeded()
    refuse_puts(engine)
    engine.ledger.holds.set(StoreError("405"), account=ACCOUNT, stage=Stage.ARCHIVE)
    engine.clock.advance(seconds=3)

    engine.attempt()

    assert engine.show(task_id)["attempts"] == 0


def test_one_success_between_failures_is_no_outage(engine: Engine) -> None:
    outage = engine.stages.outages.of(Outside.STORE)
    for number in range(10):
        if number % 2:
            outage.worked()
        assert not outage.failed(StoreError("500"))


def test_failures_that_are_a_minute_apart_are_no_outage(engine: Engine) -> None:
    outage = engine.stages.outages.of(Outside.STORE)
    for _ in range(10):
        assert not outage.failed(StoreError("500"))
        engine.clock.advance(seconds=31)


def test_one_question_for_twenty_tasks_fails_once(engine: Engine) -> None:
    outage, error = engine.stages.outages.of(Outside.API), ApiTimeout("no answer")

    assert not any(outage.failed(error, task_id=str(number)) for number in range(20))


def test_one_task_that_the_api_cannot_show_is_no_outage_of_the_api(engine: Engine) -> None:
    outage = engine.stages.outages.of(Outside.API)

    assert not any(outage.failed(ApiTimeout("no answer"), task_id="poison") for _ in range(20))
    assert [outage.failed(ApiTimeout("no answer"), task_id=name) for name in ("second", "third")] == [
        False,
        True,
    ]


def test_a_hold_that_only_tasks_have_met_goes_with_the_last_of_them(engine: Engine) -> None:
    holds = engine.ledger.holds
    holds.set(StoreError("405"), account=ACCOUNT, stage=Stage.ARCHIVE)
    holds.set_by_look(ApiTimeout("no answer"), account=ACCOUNT, stages=[Stage.VERIFY])
    task_id = engine.succeeded()
    assert holds.drop_idle() == []
    engine.clock.advance(seconds=3)
    engine.attempt()
    engine.assert_archived(task_id)

    assert [hold.stage for hold in holds.drop_idle()] == [Stage.ARCHIVE]
    assert [hold.stage for hold in holds.all()] == [Stage.VERIFY]


def sweeps_of(engine: Engine) -> SweepLoop:
    return SweepLoop(
        sweeper=engine.stages.sweeper,
        families=(FAMILY, "images/editing/expand", "images/omni-image"),
        ledger=engine.ledger,
        interval_seconds=300,
        stop=Unwaiting(),
        on_swept=lambda _family: None,
        outages=engine.stages.outages,
        monotonic=engine.clock.monotonic,
    )


def test_lists_that_fail_alone_are_a_hold_of_the_sweep_alone(engine: Engine) -> None:
    sweeps = sweeps_of(engine)
    engine.sim.fault("list", faults.server_error())
    right_look(engine.sim).look()

    sweeps.step()

    assert [(hold.stage, hold.reason) for hold in engine.ledger.holds.all()] == [
        (Stage.SWEEP, "api_server_error")
    ]


def test_lists_that_a_gateway_does_not_offer_are_no_hold(engine: Engine) -> None:
    sweeps = sweeps_of(engine)
    engine.sim.fault("list", faults.Html(200))
    for _ in range(10):
        sweeps.step()
        engine.clock.advance(seconds=60)

    assert engine.ledger.holds.all() == ()


def test_an_outage_that_answers_with_pages_does_not_make_lists_unavailable(engine: Engine) -> None:
    for endpoint_name in ("list", "query"):
        engine.sim.fault(endpoint_name, faults.Html(200))
    sweeps, families = sweeps_of(engine), (FAMILY, "images/editing/expand", "images/omni-image")
    engine.ledger.holds.set_by_look(
        ApiTimeout("no answer"), account=ACCOUNT, stages=[Stage.VERIFY, Stage.SWEEP]
    )
    for _ in range(30):
        sweeps.step()
        engine.clock.advance(seconds=60)
    engine.sim.clear_faults()

    assert not any(engine.stages.sweeper.is_unavailable(family) for family in families)


# --- the machine ----------------------------------------------------------------------------------------------------


def machine(folder: pathlib.Path, clock: EngineClock, **parts: Any) -> MachineLoop:
    spool = parts.pop("spool", None) or Spool(folder / "spool")
    look = MachineLook(spool, f"sqlite:///{folder}/ledger.db", **{"file_system": lambda _url: None, **parts})
    return MachineLoop(look, stop=Unwaiting(), monotonic=clock.monotonic)


def test_a_machine_that_has_what_is_needed_is_no_problem(tmp_path: pathlib.Path) -> None:
    loop = machine(tmp_path, EngineClock())
    loop.step()

    assert loop.problems() == []
    assert list((tmp_path / "spool").iterdir()) == []


def test_a_spool_s_disk_that_fills_up_is_a_problem_within_a_minute_and_ends_with_it(
    tmp_path: pathlib.Path,
) -> None:
    clock, space = EngineClock(), [Space(free=10**9, total=10**10)]
    loop = machine(tmp_path, clock, spool=Spool(tmp_path / "spool", space=lambda _folder: space[0]))
    found = list[list[str]]()
    for free in (10**9, 10**6, 10**9):
        space[0] = Space(free=free, total=10**10)
        clock.advance(seconds=LOOK_SECONDS)
        loop.step()
        found.append([problem.code for problem in loop.problems()])

    assert found == [[], ["disk_low"], []]
    assert LOOK_SECONDS < MINUTE


def test_a_spool_that_cannot_be_written_is_a_problem_that_names_its_setting(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    loop = machine(tmp_path, EngineClock(), spool=Spool(tmp_path / "file" / "spool"))
    loop.step()

    (problem,) = loop.problems()
    assert "KLING_SPOOL_DIR" in problem.what_to_do


def test_a_ledger_on_a_network_file_system_is_a_problem_of_the_settings(tmp_path: pathlib.Path) -> None:
    loop = machine(tmp_path, EngineClock(), file_system=lambda _url: "nfs4")
    loop.step()

    (problem,) = loop.problems()
    assert problem.code == "settings"
    assert "nfs4" in problem.message
    assert "KLING_LEDGER_URL" in problem.what_to_do
