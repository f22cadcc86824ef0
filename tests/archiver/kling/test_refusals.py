"""Which failure each refusal of the API is, and what is kept of its words."""

import pytest

from archiver import failures
from archiver.failures import Stopped
from archiver.kling.limiter import Priority, RateLimiter
from tests.harness.scripted_api import FAMILY, KEYS, Api, Clients, Reply, envelope, query, sample

TABLE = [
    (401, 1000, failures.ApiCredentialsRefused),
    (401, 1001, failures.ApiCredentialsRefused),
    (401, 1002, failures.ApiCredentialsRefused),
    (429, 1100, failures.ApiAccountAbnormal),
    (429, 1101, failures.ApiAccountInArrears),
    (429, 1102, failures.ApiPackUsedUp),
    (403, 1103, failures.ApiForbidden),
    (400, 1200, failures.ApiRequestInvalid),
    (400, 1201, failures.TaskNotFound),
    (404, 1202, failures.ApiRequestInvalid),
    (404, 1203, failures.TaskNotShown),
    (400, 1300, failures.ApiPolicyTriggered),
    (400, 1301, failures.ApiContentRefused),
    (429, 1302, failures.ApiRateLimited),
    (429, 1303, failures.ApiConcurrencyExceeded),
    (429, 1304, failures.ApiAddressNotAllowed),
    (500, 5000, failures.ApiServerError),
    (503, 5001, failures.ApiMaintenance),
    (504, 5002, failures.ApiServerError),
    # the code decides, inside HTTP 200 too
    (200, 1101, failures.ApiAccountInArrears),
    (200, 1201, failures.TaskNotFound),
    (200, "1201", failures.TaskNotFound),
    (200, 5001, failures.ApiMaintenance),
    (200, 1999, failures.ApiBadParameter),
    (200, 5999, failures.ApiServerError),
    (200, 10**400, failures.ApiServerError),
    (200, -1, failures.ApiBadParameter),
    # a gateway's error with a code that does not fit it decides nothing about the task
    (502, 1201, failures.ApiServerError),
    (502, 1000, failures.ApiServerError),
    (503, 5999, failures.ApiServerError),
    (500, 1302, failures.ApiRateLimited),
    (404, 0, failures.TaskNotShown),
    (429, 1399, failures.ApiRateLimited),
]


@pytest.mark.parametrize(("status", "code", "expected"), TABLE)
def test_every_documented_refusal_is_the_failure_that_knows_what_to_do(
    api: Api, clients: Clients, status: int, code: object, expected: type[failures.Failure]
) -> None:
    api.says(Reply(envelope(None, code=code, message="sorry"), status=status))

    with pytest.raises(failures.Failure) as refusal:
        query(clients())
    assert type(refusal.value) is expected
    assert "sorry" in str(refusal.value)
    assert refusal.value.family == (FAMILY if expected is failures.ApiForbidden else None)


HTML = b"<html>no</html>"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, failures.ApiEnvelopeMissing),
        (204, failures.ApiEnvelopeMissing),
        (302, failures.ApiEnvelopeMissing),
        (400, failures.ApiRefusedWithoutCode),
        (401, failures.ApiCredentialsRefused),
        (403, failures.ApiEnvelopeMissing),
        (404, failures.TaskNotShown),
        (408, failures.ApiTimeout),
        (429, failures.ApiRateLimited),
        (446, failures.ApiRefusedWithoutCode),
        (500, failures.ApiServerError),
        (503, failures.ApiServerError),
    ],
)
def test_without_a_readable_code_the_http_status_decides(
    api: Api, clients: Clients, status: int, expected: type[failures.Failure]
) -> None:
    body = b"" if status == 204 else HTML
    api.says(Reply(body, status=status, headers={"Location": "/elsewhere"} if status == 302 else {}))

    with pytest.raises(failures.Failure) as refusal:
        query(clients())
    assert type(refusal.value) is expected
    assert refusal.value.outside is (None if status in (401, 404, 429) else failures.Outside.API)
    assert len(api.asked) == 1
    assert clients.observed == [("query", f"http_{status}")]


def test_an_unknown_task_is_not_found_and_the_api_s_own_words_are_kept(api: Api, clients: Clients) -> None:
    api.says(Reply(sample("error_unknown_task.json"), status=400))

    with pytest.raises(failures.TaskNotFound, match="Task not found") as refusal:
        query(clients())
    assert "6f1d2c58-9f43-4d0f-8a4e-0c9a4d1f7b12" in str(refusal.value)


def test_a_bad_parameter_of_a_list_says_nothing_about_a_task(api: Api, clients: Clients) -> None:
    api.says(Reply(envelope(None, code=1201), status=400))

    with pytest.raises(failures.ApiBadParameter):
        clients().list_page(FAMILY, page=1, priority=Priority.BACKGROUND)


@pytest.mark.parametrize(("status", "body"), [(429, envelope(None, code=1302)), (429, HTML)])
def test_too_fast_halves_the_rate_of_all(api: Api, clients: Clients, status: int, body: bytes) -> None:
    clients.limiter = RateLimiter(1000.0, wait=lambda _seconds: False, monotonic=lambda: 0.0)
    api.says(Reply(body, status=status))

    with pytest.raises(failures.ApiRateLimited):
        query(clients())
    assert clients.limiter.rate_per_second == 500.0


def test_other_refusals_leave_the_rate_alone(api: Api, clients: Clients) -> None:
    api.says(Reply(sample("error_arrears.json"), status=429))

    with pytest.raises(failures.ApiAccountInArrears):
        query(clients())
    assert clients.limiter.rate_per_second == 1000.0


def test_a_stop_is_no_failure(api: Api, clients: Clients) -> None:
    clients.limiter = RateLimiter(1.0, wait=lambda _seconds: True)

    with pytest.raises(Stopped):
        query(clients())
    assert api.asked == []


def test_what_the_api_says_is_repeated_without_keys_and_signed_urls_on_one_short_line(
    api: Api, clients: Clients
) -> None:
    said = f"\x1b[31m{KEYS.secret_key} {KEYS.access_key}\nhttps://a.b/c?Signature=xyz " + "long " * 1000
    api.says(Reply(envelope(None, code=1200, message=said), status=400))

    with pytest.raises(failures.ApiRequestInvalid) as refusal:
        query(clients())
    told = str(refusal.value)
    assert "https://a.b/c" in told
    assert all(secret not in told for secret in (KEYS.secret_key, KEYS.access_key, "xyz", "\n", "\x1b"))
    assert len(told) < 400


def test_a_stranger_s_code_makes_no_metric_of_its_own(api: Api, clients: Clients) -> None:
    api.says(envelope(None, code=123456))

    with pytest.raises(failures.Failure):
        query(clients())
    assert clients.observed == [("query", "http_200")]
