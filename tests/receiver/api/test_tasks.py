"""`/api`: who is let in, what a registration may say, and that 200 means committed. Real HTTP, a real ledger."""

import pathlib
import threading
from collections.abc import Iterator

import pytest

from archiver.failures import LedgerUnavailable
from archiver.model import Callback, State, Status
from receiver.api.tasks import BODY_BYTES_MAX, LEDGER_CALLS_MAX
from tests.harness.api import ADMIN, FAMILY, ApiDesk, bearer
from tests.harness.command_line import api_task, record
from tests.harness.edge import SECONDS_MAX, Edge
from tests.harness.ledgers import ACCOUNT, DAY, START

BODY: dict[str, object] = {"task_id": "77", "family": FAMILY}


@pytest.fixture
def desk(tmp_path: pathlib.Path) -> Iterator[ApiDesk]:
    with ApiDesk(tmp_path, "default").running() as made:
        yield made


@pytest.fixture
def two(tmp_path: pathlib.Path) -> Iterator[ApiDesk]:
    """Two accounts."""
    with ApiDesk(tmp_path, "eu", "us").running() as made:
        yield made


# --- who is let in ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer wrong",
        b"Bearer " + ADMIN.encode() + b"x",
        b"Bearer " + ADMIN[:-1].encode(),
        b"Basic " + ADMIN.encode(),
        ADMIN.encode(),
        b"Bearer \xff\xfe\xc3\x28",
        b"Bearer " + ADMIN.encode() + b" " + ADMIN.encode(),
    ],
)
@pytest.mark.parametrize("path", ["/api/tasks", "/api/tasks/77"])
def test_without_the_token_a_client_learns_nothing(desk: ApiDesk, header: bytes | None, path: str) -> None:
    headers = [] if header is None else [(b"authorization", header)]
    method = "POST" if path == "/api/tasks" else "GET"
    answer = desk.edge.client.request(method, path, headers=headers, content=b"{")

    assert (answer.status_code, answer.json()["code"]) == (401, 1000)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert desk.ledger.accounts.names() == []


def test_the_scheme_has_no_case_and_two_headers_are_refused(desk: ApiDesk) -> None:
    header = (b"authorization", b"bearer " + ADMIN.encode())

    assert desk.edge.client.get("/api/tasks/77", headers=[header]).status_code == 404
    assert desk.edge.client.get("/api/tasks/77", headers=[header, header]).status_code == 401


def test_without_an_admin_token_there_is_no_api() -> None:
    with Edge() as edge:
        assert edge.client.post("/api/tasks", json=BODY, headers=bearer(ADMIN)).status_code == 404
        assert edge.client.get("/api/tasks/77", headers=bearer(ADMIN)).status_code == 404


# --- registering ------------------------------------------------------------------------------------------------


def test_a_registration_is_in_the_ledger_when_it_is_answered(desk: ApiDesk) -> None:
    request = {"prompt": "a cat", "n": 2, "callback_url": "https://me/callbacks/the-token/x"}
    answer = desk.post({**BODY, "external_task_id": "order 7/ü", "request": request})
    shown = desk.shown("order 7/ü")

    assert (answer.status_code, answer.json()["code"], answer.json()["message"]) == (200, 0, "ok")
    assert answer.json()["data"] == {
        "task_id": "77",
        "account": "default",
        "family": FAMILY,
        "external_task_id": "order 7/ü",
        "new": True,
    }
    assert shown is not None
    assert (shown["task_id"], shown["state"], shown["discovered_by"]) == ("77", "reported", "registration")
    (lease,) = desk.ledger.claims.verify(count=1, offset=0, account=ACCOUNT)
    assert lease.request == {"prompt": "a cat", "n": 2}
    assert desk.registered == ["default"]


def test_the_same_registration_again_is_no_second_task(desk: ApiDesk) -> None:
    answers = [desk.post(BODY) for _ in range(3)]

    assert [answer.json()["data"]["new"] for answer in answers] == [True, False, False]
    assert desk.ledger.views.status().states[State.REPORTED] == 1


def test_a_callback_that_came_first_is_joined(desk: ApiDesk) -> None:
    desk.ledger.callbacks.record([Callback("default", "77", Status.SUCCEEDED, None)])

    assert desk.post(BODY).json()["data"]["new"] is False
    shown = desk.shown("77")
    assert shown is not None
    assert (shown["family"], shown["callbacks"]) == (FAMILY, 1)


@pytest.mark.parametrize(
    ("created_at", "days_left"),
    [
        (START - 10 * DAY, 20),
        ((START - 10 * DAY) // 1000, 20),
        ("2026-09-11T13:33:20Z", 20),
        (START - 60 * DAY, 1),
        (START + 60_000, 30),
    ],
)
def test_the_deadline_is_counted_from_when_the_task_was_created_and_is_never_over_at_once(
    desk: ApiDesk, created_at: object, days_left: int
) -> None:
    assert desk.post({**BODY, "created_at": created_at}).status_code == 200
    (lease,) = desk.ledger.claims.verify(count=1, offset=0, account=ACCOUNT)

    assert round((lease.deadline_at - START) / DAY) == days_left


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "The body is not JSON."),
        (b"\xff", "The body is not JSON."),
        (b"[" * 100_000, "The body is not JSON."),
        (b'{"task_id": NaN}', "The body is not JSON."),
        (b'{"task_id": ' + b"9" * 5000 + b"}", "The body is not JSON."),
        ([BODY], "The body is not a JSON object."),
        ({}, "task_id must be a string"),
        ({**BODY, "task_id": 77}, "task_id must be a string"),
        ({**BODY, "task_id": ".."}, "task_id must be a string"),
        ({**BODY, "task_id": "a\nb"}, "task_id must be a string"),
        ({**BODY, "task_id": "\ud800"}, "task_id must be a string"),
        ({**BODY, "task_id": "x" * 257}, "task_id must be a string of 1 to 256 printable characters"),
        ({"task_id": "77"}, "family must be two or three path segments"),
        ({**BODY, "family": "Images/Generations"}, "family must be two or three path segments"),
        ({**BODY, "family": "../../etc"}, "family must be two or three path segments"),
        ({**BODY, "family": "v1/images/generations"}, "family takes the path without /v1"),
        ({**BODY, "external_task_id": ""}, "external_task_id must be a string"),
        ({**BODY, "account": "other"}, "account must be one of: default."),
        ({**BODY, "account": 1}, "account must be a string."),
        ({**BODY, "request": "text"}, "request must be an object"),
        ({**BODY, "request": {"image": "A" * 8193}}, "request has a text of more than 8192 characters"),
        ({**BODY, "request": {"a": [{"b": "A" * 8193}]}}, "request has a text of more than 8192"),
        ({**BODY, "request": {"a": ["A" * 8000] * 20}}, "request has more than 131072 bytes"),
        (b'{"task_id": "7", "family": "a/b", "request": {"x": 1e999}}', "has a value that JSON does not"),
        ({**BODY, "created_at": "yesterday"}, "created_at must be a time"),
        ({**BODY, "created_at": "2026-09-11T13:33:20"}, "created_at must be a time"),
        ({**BODY, "created_at": True}, "created_at must be a time"),
        ({**BODY, "created_at": 10**400}, "created_at must be a time"),
        ({**BODY, "created_at": START + 2 * DAY}, "created_at must be a time in the past"),
        ({**BODY, "task": "typo"}, "The body has an unknown field; the known ones are account, created_at"),
    ],
)  # fmt: skip
def test_an_invalid_registration_is_a_400_that_says_why_and_writes_nothing(
    desk: ApiDesk, body: object, said: str
) -> None:
    assert said in desk.said(body)
    assert desk.ledger.accounts.names() == []


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_413(desk: ApiDesk, announced: bool) -> None:
    body = b" " * (BODY_BYTES_MAX + 1)
    content = body if announced else iter([body])
    answer = desk.edge.client.post("/api/tasks", content=content, headers=bearer(ADMIN))

    assert (answer.status_code, answer.json()["message"]) == (413, "The body is too large.")


def test_a_ledger_that_cannot_commit_is_503_and_says_when_to_come_back(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise LedgerUnavailable("locked")

    with ApiDesk(tmp_path, "default").running() as desk:
        monkeypatch.setattr(desk.ledger.registrations, "register", refuse)
        answer = desk.post(BODY)

    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, 5001, "5")
    assert desk.registered == []


def test_questions_that_hang_are_only_so_many_at_once_and_close_no_door(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, asked = threading.Event(), threading.Semaphore(0)
    running: list[int] = []

    def hang(*_: object, **__: object) -> None:
        running.append(1)
        asked.release()
        assert gate.wait(SECONDS_MAX)

    with ApiDesk(tmp_path, "default").running() as desk:
        monkeypatch.setattr(desk.ledger.views, "show", hang)
        callers = [
            threading.Thread(target=desk.get, args=("/api/tasks/77",)) for _ in range(LEDGER_CALLS_MAX + 3)
        ]
        for caller in callers:
            caller.start()
        for _ in range(LEDGER_CALLS_MAX):
            assert asked.acquire(timeout=SECONDS_MAX)
        assert desk.edge.client.get("/healthz").status_code == 200
        assert len(running) == LEDGER_CALLS_MAX
        assert desk.edge.client.get("/readyz").status_code == 200
        gate.set()
        for caller in callers:
            caller.join()

    assert len(running) == LEDGER_CALLS_MAX + 3


# --- several accounts -------------------------------------------------------------------------------------------


def test_a_registration_names_its_account_if_there_are_several(two: ApiDesk) -> None:
    assert two.said(BODY) == "account is missing, and there are several: eu, us."
    assert two.post({**BODY, "account": "us"}).json()["data"]["account"] == "us"

    assert (two.shown("77", "eu"), two.registered) == (None, ["us"])


def test_one_id_of_two_accounts_is_two_tasks(two: ApiDesk) -> None:
    for account in ("eu", "us"):
        two.post({**BODY, "account": account, "external_task_id": f"order-{account}"})

    assert two.get("/api/tasks/77").json()["message"].startswith("Several accounts have this id")
    found = [two.get(f"/api/tasks/77?account={account}").json() for account in ("eu", "us")]
    assert [task["external_task_id"] for task in found] == ["order-eu", "order-us"]
    assert two.get("/api/tasks/order-us").json()["account"] == "us"
    assert two.get("/api/tasks/77?account=other").status_code == 404


# --- looking ----------------------------------------------------------------------------------------------------


def test_a_task_is_shown_as_the_command_shows_it(desk: ApiDesk) -> None:
    desk.post({**BODY, "external_task_id": "order 7"})

    assert desk.get("/api/tasks/77").json() == desk.shown("77")
    assert desk.get("/api/tasks/order%207").json() == desk.shown("77")


def test_a_task_of_an_account_that_the_settings_no_longer_name_is_shown(desk: ApiDesk) -> None:
    desk.ledger.registrations.register("left", account="left-account", family=FAMILY)

    assert [task["task_id"] for task in desk.get("/api/tasks?account=left-account").json()["tasks"]] == [
        "left"
    ]
    assert desk.get("/api/tasks/left").json()["account"] == "left-account"
    assert desk.get("/api/tasks/left?account=left-account").status_code == 200
    assert desk.get("/api/tasks/left?account=nobody").status_code == 404


def test_a_forgotten_task_is_shown_as_forgotten_and_cannot_be_registered(desk: ApiDesk) -> None:
    record(desk.ledger, api_task("1"))
    desk.ledger.tombstones.forget("1", account=ACCOUNT)

    shown, registered = desk.get("/api/tasks/1"), desk.post(BODY | {"task_id": "1"})

    assert (shown.status_code, shown.json()["state"]) == (200, "forgotten")
    described = desk.get("/api/openapi.json").json()["components"]["schemas"]["Task"]["properties"]
    assert shown.json().keys() <= described.keys()
    assert (registered.status_code, registered.json()["code"]) == (409, 1201)
    assert desk.registered == []


def test_a_shown_task_has_the_links_of_its_files(desk: ApiDesk) -> None:
    record(desk.ledger, api_task("77"))

    (asset,) = desk.get("/api/tasks/77").json()["assets"]
    assert asset["link"].startswith("https://kling.example.com/files/")
    assert asset["link"].endswith("/77/0.png")


@pytest.mark.parametrize("identifier", ["nobody", "%00", "%ff", "9" * 400, "..%20", "%5C"])
def test_an_unknown_id_is_404(desk: ApiDesk, identifier: str) -> None:
    answer = desk.get(f"/api/tasks/{identifier}")

    assert (answer.status_code, answer.json()["code"]) == (404, 1203)
