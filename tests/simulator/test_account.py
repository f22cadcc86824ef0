"""The simulated API behaves as documented: all other tests rely on that."""

import base64
import json
import threading
import time
from typing import Any

import httpx2
import jwt
import pytest

from tests.harness.simulator_client import GENERATIONS, bearer, code, get, post
from tests.simulator import KlingSimulator, Switches, faults

DAY_SECONDS = 86_400


def test_a_created_task_is_followed_to_its_images(sim: KlingSimulator, http: httpx2.Client) -> None:
    """The main path: create, unfinished query, finished query, download, nothing to complain of."""
    created = post(sim, http, GENERATIONS, {"prompt": "a puppy", "n": 2, "external_task_id": "mine"}).json()
    task_id = created["data"]["task_id"]
    unfinished = get(sim, http, f"{GENERATIONS}/{task_id}").json()["data"]
    sim.succeed(task_id)
    finished = get(sim, http, f"{GENERATIONS}/mine").json()["data"]
    urls = [image["url"] for image in finished["task_result"]["images"]]
    bodies = [http.get(url).content for url in urls]

    assert len(task_id) == 18
    assert (unfinished["task_status"], unfinished["task_result"]) == ("submitted", {})
    assert unfinished["task_info"] == {"external_task_id": "mine"}
    assert (finished["task_status"], finished["task_id"]) == ("succeed", task_id)
    assert bodies == [sim.expected_bytes(task_id, "0"), sim.expected_bytes(task_id, "1")]
    assert bodies[0] != bodies[1]
    assert sim.requests == {"create": 1, "query": 2, "cdn": 2}
    assert sim.complaints == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (200, 0)),
        ({"iss": "someone"}, (401, 1000)),
        ({"nbf": 4_000_000_000}, (401, 1003)),
        ({"exp": 1_000_000_000}, (401, 1004)),
        ({"exp": None}, (401, 1002)),
        ({"exp": 4_000_000_000}, (401, 1002)),
    ],
)
def test_a_token_is_judged_by_its_claims(
    sim: KlingSimulator, http: httpx2.Client, changes: dict[str, object], expected: tuple[int, int]
) -> None:
    at = int(time.time())
    claims: dict[str, object] = {"iss": sim.access_key, "exp": at + 1800, "nbf": at - 5, **changes}
    token = jwt.api_jws.encode(json.dumps(claims).encode(), sim.secret_key, headers={"typ": "JWT"})
    answer = http.get(sim.base_url + GENERATIONS, headers={"Authorization": f"Bearer {token}"})

    assert code(answer) == expected


def test_missing_and_foreign_credentials_have_their_own_codes(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    url = sim.base_url + GENERATIONS
    valid = bearer(sim)["Authorization"]
    headers = [None, "Bearer", "Basic eA==", f"{valid}x", "Bearer a.b.c", "Bearer other"]
    answers = [http.get(url, headers={"Authorization": value} if value else {}) for value in headers]
    api_key = http.get(url, headers={"Authorization": f"Bearer {sim.api_key}"})

    assert [code(answer)[1] for answer in answers] == [1001, 1001, 1002, 1000, 1002, 1000]
    assert code(api_key) == (200, 0)


def test_an_unknown_id_and_a_wrong_family_are_the_same_bad_parameter(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    task_id = sim.create_task(family="images/editing/expand")
    unknown = get(sim, http, f"{GENERATIONS}/123")
    wrong_family = get(sim, http, f"{GENERATIONS}/{task_id}")

    assert code(unknown) == code(wrong_family) == (400, 1201)
    assert "123" in unknown.json()["message"]
    assert code(get(sim, http, f"/v1/images/editing/expand/{task_id}")) == (200, 0)


def test_a_failed_task_is_shown_in_a_successful_answer(sim: KlingSimulator, http: httpx2.Client) -> None:
    task_id = sim.create_task()
    sim.fail(task_id, "risk control")
    answer = get(sim, http, f"{GENERATIONS}/{task_id}").json()

    assert (answer["code"], answer["message"]) == (0, "SUCCEED")
    assert answer["data"]["task_status_msg"] == "risk control"
    assert answer["data"]["task_result"] == {}


def test_a_create_call_is_checked_and_an_external_id_is_taken_once(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    bodies = [{}, {"prompt": "x", "n": 10}, {"prompt": "x", "external_task_id": "a"}]
    codes = [code(post(sim, http, GENERATIONS, body)) for body in bodies]
    again = post(sim, http, "/v1/images/multi-image2image", {"external_task_id": "a"})
    assert sim.complaints == []
    post(sim, http, GENERATIONS, {"prompt": "x", "colour": "red"})

    assert codes == [(400, 1201), (400, 1201), (200, 0)]
    assert code(again) == (400, 1201)
    assert "a" in again.json()["message"]
    assert sim.complaints == ["unknown parameters for images/generations: colour"]


def test_list_pages_have_documented_bounds(sim: KlingSimulator, http: httpx2.Client) -> None:
    for number in range(31):
        sim.create_task(created_at=sim.now_ms() - number * 1000)
    pages = [get(sim, http, GENERATIONS, pageNum=number).json()["data"] for number in (1, 2, 3)]
    bad: list[dict[str, object]] = [{"pageNum": 0}, {"pageNum": 1001}, {"pageSize": 501}, {"pageSize": "x"}]

    assert [len(page) for page in pages] == [30, 1, 0]
    assert [code(get(sim, http, GENERATIONS, **params)) for params in bad] == [(400, 1201)] * 4


def test_the_list_order_is_a_switch(sim: KlingSimulator, http: httpx2.Client) -> None:
    oldest_first = [sim.create_task(created_at=sim.now_ms() - (50 - n) * 1000) for n in range(50)]

    def listed(order: Any) -> list[str]:
        sim.switches.list_order = order
        return [row["task_id"] for row in get(sim, http, GENERATIONS, pageSize=50).json()["data"]]

    assert listed("oldest_first") == oldest_first
    assert listed("newest_first") == oldest_first[::-1]
    assert sorted(first := listed("shuffled")) == sorted(oldest_first)
    assert first != listed("shuffled")


def test_a_hidden_row_makes_a_page_short_and_a_cap_makes_pages_small(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    task_ids = [sim.create_task(created_at=sim.now_ms() - n * 1000) for n in range(4)]
    sim.hide_from_list(task_ids[0])
    sim.switches.list_page_rows_max = 2
    pages = [get(sim, http, GENERATIONS, pageNum=n, pageSize=500).json()["data"] for n in (1, 2, 3)]

    assert [[row["task_id"] for row in page] for page in pages] == [task_ids[1:2], task_ids[2:], []]


@pytest.mark.parametrize("purged", [True, False])
def test_rows_and_files_end_after_30_days(http: httpx2.Client, *, purged: bool) -> None:
    """The files always do; whether the rows do is a switch."""
    with KlingSimulator(switches=Switches(purge_rows=purged, url_lifetime_seconds=60)) as sim:
        task_id = sim.create_task(status="succeed")
        sim.advance(30 * DAY_SECONDS - 100)
        early = http.get(sim.url(task_id, "0"))
        sim.advance(200)
        late = http.get(sim.url(task_id, "0"))

        assert (early.status_code, late.status_code) == (200, 404)
        assert code(get(sim, http, f"{GENERATIONS}/{task_id}"))[0] == (400 if purged else 200)
        assert len(get(sim, http, GENERATIONS).json()["data"]) == (0 if purged else 1)


def test_answers_carry_the_clock_of_the_account(http: httpx2.Client) -> None:
    with KlingSimulator(now=lambda: 1_800_000_000.0) as sim:
        sim.advance(1)

        assert get(sim, http, GENERATIONS).headers["Date"] == "Fri, 15 Jan 2027 08:00:01 GMT"
        assert sim.create_task() == str(((1_800_000_001_000 - 1_568_028_518_800) << 22) + 1)


def test_api_faults_happen_as_often_as_armed(sim: KlingSimulator, http: httpx2.Client) -> None:
    task_id = sim.create_task()
    path = f"{GENERATIONS}/{task_id}"
    sim.fault("query", faults.too_fast(), times=2)
    sim.fault("query", faults.Html(502), times=1)
    sim.fault("query", faults.Empty(), times=1)
    sim.fault("query", faults.Json("[" * 100), match=task_id)
    answers = [get(sim, http, path) for _ in range(6)]
    sim.clear_faults("query")

    assert [answer.status_code for answer in answers] == [429, 429, 502, 200, 200, 200]
    assert [answer.content for answer in answers[3:]] == [b"", b"[" * 100, b"[" * 100]
    assert code(get(sim, http, path)) == (200, 0)


def test_a_create_that_is_cut_has_happened(sim: KlingSimulator, http: httpx2.Client) -> None:
    for cut in (faults.Cut(), faults.Cut(kept=0), faults.Cut(kept=0, reset=True)):
        sim.fault("create", cut, times=1)
        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            post(sim, http, GENERATIONS, {"prompt": "x"})

    assert len(sim.task_ids()) == 3


def test_a_hanging_request_ends_with_the_simulator(http: httpx2.Client) -> None:
    failures: list[BaseException] = []

    def ask(sim: KlingSimulator) -> None:
        try:
            get(sim, http, GENERATIONS)
        except httpx2.TransportError as error:
            failures.append(error)

    arrived = threading.Event()
    with KlingSimulator() as sim:
        sim.fault(None, faults.Hang())
        sim.on_request(lambda _: arrived.set())
        client = threading.Thread(target=ask, args=(sim,))
        client.start()
        assert arrived.wait(60)
    client.join(60)

    assert len(failures) == 1


def test_an_overridden_task_is_shown_as_it_was_written(sim: KlingSimulator, http: httpx2.Client) -> None:
    task_id = sim.create_task()
    odd = {"task_id": task_id, "created_at": 10**400, "task_status_msg": "\ud800\0"}
    sim.override(task_id, odd)

    assert get(sim, http, f"{GENERATIONS}/{task_id}").json()["data"] == odd
    assert get(sim, http, GENERATIONS).json()["data"] == [odd]


def test_what_the_account_would_never_expect_is_complained_of(
    sim: KlingSimulator, http: httpx2.Client
) -> None:
    task_id = sim.create_task(status="succeed")
    get(sim, http, "/v1/images/invented")
    get(sim, http, GENERATIONS, page=1)
    http.delete(sim.base_url + GENERATIONS, headers=bearer(sim))
    http.get(sim.url(task_id, "0"), headers={**bearer(sim), "Referer": "https://example.com"})

    assert len(sim.complaints) == 5
    for word in ("invented", "page", "DELETE", "authorization", "referer"):
        assert any(word in complaint for complaint in sim.complaints)


def test_the_account_may_change_between_two_pages(sim: KlingSimulator, http: httpx2.Client) -> None:
    sim.create_task(created_at=sim.now_ms() - 1000)
    sim.fault("list", faults.Call(sim.create_task), times=1)

    assert len(get(sim, http, GENERATIONS).json()["data"]) == 2


@pytest.mark.parametrize(("answer", "status"), [("404", 404), ("405", 405), ("html", 200)])
def test_a_gateway_may_offer_single_questions_only(http: httpx2.Client, answer: Any, status: int) -> None:
    switches = Switches(lists_offered=False, tasks_offered=False, tokens_taken=False, unoffered_answer=answer)
    with KlingSimulator(prefix="/kling", switches=switches) as sim:
        task_id = sim.create_task(status="succeed")
        key = {"Authorization": f"Bearer {sim.api_key}"}
        single = http.get(f"{sim.base_url}{GENERATIONS}/{task_id}", headers=key)
        others = [
            http.get(f"{sim.base_url}{GENERATIONS}", headers=key),
            http.get(f"{sim.base_url}/tasks", headers=key, params={"task_ids": task_id}),
            http.post(f"{sim.base_url}/solutions", headers=key, json={}),
        ]

        assert single.json()["data"]["task_id"] == task_id
        assert [(other.status_code, other.text[:6]) for other in others] == [(status, "<html>")] * 3
        assert code(get(sim, http, f"{GENERATIONS}/{task_id}")) == (401, 1000)
        assert sim.complaints == []


def test_a_token_without_a_signature_is_invalid(sim: KlingSimulator, http: httpx2.Client) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"iss": sim.access_key}).encode()).decode().rstrip("=")
    header = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    answer = http.get(sim.base_url + GENERATIONS, headers={"Authorization": f"Bearer {header}.{claims}."})

    assert code(answer) == (401, 1002)
