"""`KlingClient.create`: what is sent, and after which answers it is known that nothing was created."""

import json
import threading
from collections.abc import Iterator

import httpx2
import pytest

from archiver import failures
from archiver.failures import Stopped
from archiver.kling.client import KlingClient
from archiver.kling.credentials import KeyPair
from archiver.kling.limiter import Priority, RateLimiter
from archiver.model import Status
from tests.simulator import Fault, KlingSimulator, faults

FAMILY = "images/generations"
BODY = {"prompt": "ein Fuchs im Schnee 🦊", "n": 2, "external_task_id": "ka-1"}


@pytest.fixture
def sim() -> Iterator[KlingSimulator]:
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture(scope="module")
def shared() -> Iterator[KlingSimulator]:
    """One account for tables of refusals."""
    with KlingSimulator() as simulator:
        yield simulator


@pytest.fixture
def observed() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def client(sim: KlingSimulator, observed: list[tuple[str, str]]) -> Iterator[KlingClient]:
    with _client(sim, observed) as made:
        yield made


def _client(
    sim: KlingSimulator, observed: list[tuple[str, str]], *, create_seconds: float = 60.0
) -> KlingClient:
    return KlingClient(
        sim.base_url,
        KeyPair(sim.access_key, sim.secret_key),
        RateLimiter(1000, wait=threading.Event().wait),
        observe=lambda endpoint, code: observed.append((endpoint, code)),
        create_seconds=create_seconds,
    )


def test_a_created_task_is_named_at_once(
    sim: KlingSimulator, client: KlingClient, observed: list[tuple[str, str]]
) -> None:
    task = client.create(FAMILY, BODY)

    created = sim.task(task.task_id)
    assert (task.family, task.status, task.assets) == (FAMILY, Status.RUNNING, ())
    assert (created.external_task_id, len(created.indexes)) == ("ka-1", 2)
    assert observed == [("create", "0")]
    assert sim.complaints == []


def test_every_value_of_the_body_arrives_as_it_was(sim: KlingSimulator) -> None:
    received: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        received.append(request)
        data = {"task_id": "1", "task_status": "submitted"}
        return httpx2.Response(200, json={"code": 0, "message": "", "request_id": "", "data": data})

    with KlingClient(
        "https://gateway.example/kling",
        KeyPair(sim.access_key, sim.secret_key),
        RateLimiter(1000, wait=threading.Event().wait),
        transport=httpx2.MockTransport(answer),
    ) as client:
        client.create(FAMILY, BODY | {"nested": {"ratio": 0.1495, "big": 2**60}})
    (request,) = received

    assert json.loads(request.content) == BODY | {"nested": {"ratio": 0.1495, "big": 2**60}}
    assert request.headers["content-type"] == "application/json"
    assert (request.method, str(request.url)) == (
        "POST",
        "https://gateway.example/kling/v1/images/generations",
    )


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, 1002, failures.ApiCredentialsRefused),
        (401, 1003, failures.ApiTokenRefused),
        (429, 1100, failures.ApiAccountAbnormal),
        (429, 1101, failures.ApiAccountInArrears),
        (429, 1102, failures.ApiPackUsedUp),
        (403, 1103, failures.ApiForbidden),
        (400, 1200, failures.ApiRequestInvalid),
        (400, 1201, failures.ApiBadParameter),
        (404, 1203, failures.ApiModelMissing),
        (400, 1300, failures.ApiPolicyTriggered),
        (400, 1301, failures.ApiContentRefused),
        (200, 1301, failures.ApiContentRefused),
        (429, 1302, failures.ApiRateLimited),
        (429, 1303, failures.ApiConcurrencyExceeded),
        (429, 1304, failures.ApiAddressNotAllowed),
        # what says nothing for certain
        (408, 1999, failures.CreateOutcomeUnknown),
        (500, 5000, failures.CreateOutcomeUnknown),
        (503, 5001, failures.CreateOutcomeUnknown),
        (504, 5002, failures.CreateOutcomeUnknown),
        (200, 5000, failures.CreateOutcomeUnknown),
        (502, 1301, failures.CreateOutcomeUnknown),
        (500, 1302, failures.CreateOutcomeUnknown),
    ],
)
def test_a_refusal_by_code_is_final_and_trouble_on_the_way_is_not(
    shared: KlingSimulator, status: int, code: int, expected: type[failures.Failure]
) -> None:
    # The second request of the one that signs anew is refused as well.
    shared.clear_faults()
    shared.fault("create", faults.ErrorCode(status, code, "sorry"))

    with _client(shared, []) as client, pytest.raises(failures.Failure) as refusal:
        client.create(FAMILY, BODY)
    assert type(refusal.value) is expected
    assert "a request to create a task of images/generations" in str(refusal.value)
    assert "sorry" in str(refusal.value)


@pytest.mark.parametrize(
    "fault",
    [
        faults.Cut(),
        faults.Cut(kept=0, reset=True),
        faults.Drop(),
        faults.Drop(reset=True),
        faults.Truncate(with_length=True),
        faults.Empty(),
        faults.Empty(502),
        faults.Html(),
        faults.Html(403),
        faults.Redirect("/elsewhere"),
        faults.Json({"code": 0, "data": {}}),
        faults.Json({"code": 0, "data": {"task_id": "1"}}),
        faults.Json({"code": 0, "data": "1"}),
        faults.Json({"code": "success", "data": {"task_id": "1"}}),
        faults.Happened(faults.Html(502)),
    ],
    ids=repr,
)
def test_an_answer_that_says_nothing_leaves_it_open_whether_there_is_a_task(
    shared: KlingSimulator, fault: Fault
) -> None:
    shared.clear_faults()
    shared.fault("create", fault, times=1)
    before = shared.requests["create"]

    with _client(shared, []) as client, pytest.raises(failures.CreateOutcomeUnknown):
        client.create(FAMILY, {"prompt": "a red fox"})
    assert shared.requests["create"] == before + 1


def test_silence_leaves_it_open_after_a_patience_of_its_own(
    sim: KlingSimulator, observed: list[tuple[str, str]]
) -> None:
    sim.fault("create", faults.Happened(faults.Hang()), times=1)

    with _client(sim, observed, create_seconds=0.2) as client, pytest.raises(failures.CreateOutcomeUnknown):
        client.create(FAMILY, BODY)
    assert observed == [("create", "timeout")]
    assert len(sim.task_ids()) == 1


def test_without_a_listener_nothing_was_sent(observed: list[tuple[str, str]]) -> None:
    sim = KlingSimulator()
    with sim:
        pass

    with _client(sim, observed) as client, pytest.raises(failures.ApiNotReached):
        client.create(FAMILY, BODY)
    assert observed == [("create", "connection")]


def test_a_refused_token_is_signed_anew_once_since_nothing_was_created(
    sim: KlingSimulator, client: KlingClient
) -> None:
    sim.fault("create", faults.ErrorCode(401, 1004, "expired"), times=1)

    assert client.create(FAMILY, BODY).task_id == sim.task_ids()[0]
    assert sim.requests["create"] == 2


def test_a_lack_of_slots_does_not_slow_the_questions(sim: KlingSimulator) -> None:
    limiter = RateLimiter(1000, wait=threading.Event().wait)
    sim.fault("create", faults.over_concurrency())
    with KlingClient(sim.base_url, KeyPair(sim.access_key, sim.secret_key), limiter) as client:
        for _ in range(3):
            with pytest.raises(failures.ApiConcurrencyExceeded):
                client.create(FAMILY, BODY)

    assert limiter.rate_per_second == 1000


def test_a_create_does_not_start_once_the_process_stops(sim: KlingSimulator) -> None:
    limiter = RateLimiter(1000, wait=lambda _seconds: True)
    with (
        KlingClient(sim.base_url, KeyPair(sim.access_key, sim.secret_key), limiter) as client,
        pytest.raises(Stopped),
    ):
        client.create(FAMILY, BODY)

    assert sim.requests["create"] == 0


def test_a_lost_answer_is_found_by_the_external_id(sim: KlingSimulator, client: KlingClient) -> None:
    sim.fault("create", faults.Cut(kept=0), times=1)
    with pytest.raises(failures.CreateOutcomeUnknown):
        client.create(FAMILY, BODY)

    found = client.query(FAMILY, "ka-1", priority=Priority.VERIFY)
    assert found.task_id == sim.task_ids()[0]
    with pytest.raises(failures.ApiBadParameter, match="ka-1"):
        client.create(FAMILY, BODY)
    assert len(sim.task_ids()) == 1


def test_our_keys_are_in_no_failure(sim: KlingSimulator, client: KlingClient) -> None:
    sim.fault("create", faults.ErrorCode(400, 1300, f"bad {sim.secret_key}"), times=1)

    with pytest.raises(failures.ApiPolicyTriggered) as refusal:
        client.create(FAMILY, BODY)
    assert sim.secret_key not in str(refusal.value)
