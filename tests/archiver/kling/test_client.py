"""The API client against a real HTTP server that says whatever a test makes it say."""

import contextlib
import dataclasses
import email.utils
import gzip
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwt.types import Options

from archiver import failures
from archiver.failures import Stopped
from archiver.kling import responses
from archiver.kling.client import KlingClient
from archiver.kling.credentials import ApiKey, KeyPair, mint_token
from archiver.kling.limiter import Priority, RateLimiter
from tests.harness.repository import SAMPLES

FAMILY = "images/generations"
TASK_ID = "828338674605228111"
KEYS = KeyPair("access-key-of-the-test", "secret-key-of-the-test-0123456789abcdef")
NOW = 1_765_600_000
ANY_TIME: Options = {"verify_exp": False, "verify_nbf": False}


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def envelope(data: object, *, code: object = 0, message: str = "SUCCEED") -> bytes:
    return json.dumps({"code": code, "message": message, "request_id": "r-1", "data": data}).encode()


def row(task_id: str = TASK_ID, **fields: object) -> dict[str, object]:
    return {"task_id": task_id, "task_status": "succeed", "task_result": {}, **fields}


@dataclasses.dataclass
class Reply:
    """What the server says to one request. `body` may write by hand, for answers that no server should give."""

    body: bytes | Callable[[http.server.BaseHTTPRequestHandler], None] = b""
    status: int = 200
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Asked:
    path: str
    headers: dict[str, str]


class Api(http.server.ThreadingHTTPServer):
    """Says its replies in turn, the last one again and again, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply] = []
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def says(self, *replies: Reply | bytes) -> None:
        self.replies = [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # the name that http.server dispatches to
        api = cast("Api", self.server)
        api.asked.append(Asked(self.path, {name.lower(): value for name, value in self.headers.items()}))
        reply = api.replies.pop(0) if len(api.replies) > 1 else api.replies[0]
        if callable(reply.body):
            self.close_connection = True
            with contextlib.suppress(OSError):  # the client has had enough: that is what is tested
                reply.body(self)
            return
        self.send_response_only(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


class Clients:
    """Makes clients of the server, and keeps what they observe."""

    def __init__(self, api: Api) -> None:
        self._url = api.url
        self._made: list[KlingClient] = []
        self.observed: list[tuple[str, str]] = []
        self.limiter = RateLimiter(1000.0, wait=lambda _seconds: False)
        self.now = float(NOW)

    def __call__(self, credential: KeyPair | ApiKey = KEYS, *, path: str = "", **limits: Any) -> KlingClient:
        client = KlingClient(
            self._url + path,
            credential,
            self.limiter,
            observe=lambda endpoint, code: self.observed.append((endpoint, code)),
            now=lambda: self.now,
            **limits,
        )
        self._made.append(client)
        return client

    def close(self) -> None:
        for client in self._made:
            client.close()


@pytest.fixture
def clients(api: Api) -> Iterator[Clients]:
    made = Clients(api)
    yield made
    made.close()


def query(client: KlingClient, identifier: str = TASK_ID, *, family: str = FAMILY) -> Any:
    return client.query(family, identifier, priority=Priority.VERIFY)


def token_of(asked: Asked) -> dict[str, Any]:
    scheme, _, token = asked.headers["authorization"].partition(" ")
    assert scheme == "Bearer"
    return dict(jwt.decode(token, KEYS.secret_key, algorithms=["HS256"], options=ANY_TIME))


# --- credentials ----------------------------------------------------------------------------------------


def test_a_token_is_what_the_api_documents() -> None:
    token = mint_token("ak", "s" * 32, now=NOW)

    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    assert jwt.decode(token, "s" * 32, algorithms=["HS256"], options=ANY_TIME) == {
        "iss": "ak",
        "exp": NOW + 1800,
        "nbf": NOW - 5,
    }


def test_a_short_secret_is_signed_with_like_any_other() -> None:
    assert mint_token("ak", "short", now=NOW).count(".") == 2


def test_credentials_never_show_themselves() -> None:
    assert "key" not in repr(KeyPair("access-key-1", "secret-key-1")).lower().replace("keypair", "")
    assert "hidden" not in repr(ApiKey("hidden"))


@pytest.mark.parametrize("secret", ["", "two words", "line\n", "ümlaut", "\ud800"])
def test_a_secret_that_fits_into_no_header_is_refused_without_being_shown(secret: str) -> None:
    for make in (lambda: ApiKey(secret), lambda: KeyPair("a", secret), lambda: KeyPair(secret, "b")):
        with pytest.raises(ValueError, match="KLING_") as refusal:
            make()
        assert not secret or secret not in str(refusal.value)


def test_one_token_serves_until_shortly_before_it_ends(api: Api, clients: Clients) -> None:
    api.says(envelope(row()))
    client = clients()
    for clients.now in (NOW, NOW + 1499, NOW + 1501):
        query(client)

    issued = [token_of(asked)["exp"] - 1800 for asked in api.asked]
    assert issued == [NOW, NOW, NOW + 1501]


def test_a_clock_set_far_back_makes_a_fresh_token(api: Api, clients: Clients) -> None:
    api.says(envelope(row()))
    client = clients()
    for clients.now in (NOW, NOW - 86_400):
        query(client)

    assert token_of(api.asked[1])["nbf"] == NOW - 86_400 - 5


def test_an_api_key_is_sent_as_it_is(api: Api, clients: Clients) -> None:
    api.says(envelope(row()))
    query(clients(ApiKey("sk-live-1")))

    assert api.asked[0].headers["authorization"] == "Bearer sk-live-1"


@pytest.mark.parametrize("code", [1003, 1004])
def test_a_token_refused_as_such_is_signed_once_more(api: Api, clients: Clients, code: int) -> None:
    api.says(Reply(envelope(None, code=code), status=401), envelope(row()))

    assert query(clients()).task_id == TASK_ID
    assert clients.observed == [("query", str(code)), ("query", "0")]


def test_a_fresh_token_that_is_refused_too_means_that_the_clocks_differ(api: Api, clients: Clients) -> None:
    api.says(Reply(envelope(None, code=1004), status=401))

    with pytest.raises(failures.ApiTokenRefused):
        query(clients())
    assert len(api.asked) == 2


def test_an_api_key_cannot_be_signed_again(api: Api, clients: Clients) -> None:
    api.says(Reply(envelope(None, code=1004), status=401))

    with pytest.raises(failures.ApiTokenRefused):
        query(clients(ApiKey("sk-live-1")))
    assert len(api.asked) == 1


# --- one task -------------------------------------------------------------------------------------------


def test_a_task_is_asked_for_under_its_family_s_path(api: Api, clients: Clients) -> None:
    api.says(sample("generations_single.json"))
    task = query(clients())

    assert task.task_id == TASK_ID
    assert [asset.stem for asset in task.assets] == ["0", "0.watermark", "1"]
    assert task.document == json.loads(sample("generations_single.json"))["data"]
    assert [asked.path for asked in api.asked] == [f"/v1/images/generations/{TASK_ID}"]
    assert clients.observed == [("query", "0")]


def test_a_request_says_who_asks_and_carries_nothing_else(api: Api, clients: Clients) -> None:
    api.says(Reply(envelope(row()), headers={"Set-Cookie": "session=1; Path=/"}))
    client = clients()
    query(client)
    query(client)

    assert api.asked[1].headers["user-agent"].startswith("kling-archiver/")
    assert set(api.asked[1].headers) == {
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "connection",
        "authorization",
    }


def test_a_base_url_may_carry_a_path(api: Api, clients: Clients) -> None:
    api.says(envelope(row()))
    query(clients(path="/kling/"))

    assert api.asked[0].path == f"/kling/v1/images/generations/{TASK_ID}"


def test_a_proxy_of_the_environment_does_not_stand_before_loopback(
    api: Api, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    api.says(envelope(row()))

    assert query(clients()).task_id == TASK_ID


@pytest.mark.parametrize(
    ("external", "segment"),
    [
        ("order 7/é", "order%207%2F%C3%A9"),
        ("../../x?y#z", "..%2F..%2Fx%3Fy%23z"),
        ("%41", "%2541"),
        ("a\0b", "a%00b"),
    ],
)
def test_an_external_id_is_one_path_segment_whatever_it_holds(
    api: Api, clients: Clients, external: str, segment: str
) -> None:
    api.says(envelope(row(task_info={"external_task_id": external})))
    with contextlib.suppress(failures.ApiAnswerUnreadable):  # NUL is not stored, so it cannot be compared
        assert query(clients(), external).task_id == TASK_ID

    assert api.asked[0].path == f"/v1/images/generations/{segment}"


@pytest.mark.parametrize("identifier", ["", ".", "..", "\ud800", "x" * 1025])
def test_an_id_that_would_ask_for_something_else_is_not_asked_for(
    api: Api, clients: Clients, identifier: str
) -> None:
    with pytest.raises(failures.ApiRequestInvalid):
        query(clients(), identifier)
    assert api.asked == []


@pytest.mark.parametrize(
    "data",
    [row("828338674605228999"), [row("1"), row("2")], "x", 7, {"task_status": "succeed"}],
)
def test_an_answer_about_anything_else_does_not_count(api: Api, clients: Clients, data: object) -> None:
    api.says(envelope(data))

    with pytest.raises(failures.ApiAnswerUnreadable):
        query(clients())


@pytest.mark.parametrize("data", [[], {}, None])
def test_an_answer_without_a_task_shows_none(api: Api, clients: Clients, data: object) -> None:
    api.says(envelope(data))

    with pytest.raises(failures.TaskNotShown):
        query(clients())


def test_an_array_around_the_task_is_harmless(api: Api, clients: Clients) -> None:
    api.says(envelope([row("1"), row()]))

    assert query(clients()).task_id == TASK_ID


def test_the_new_standard_is_asked_at_tasks_and_needs_an_api_key(api: Api, clients: Clients) -> None:
    api.says(sample("tasks_query.json"))
    task = query(clients(ApiKey("sk-live-1")), "930810057590833241", family="tasks/image")

    assert task.family == "tasks/image"
    assert api.asked[0].path == "/tasks?task_ids=930810057590833241"
    assert clients.observed == [("tasks", "0")]
    with pytest.raises(failures.NeedsApiKey):
        query(clients(), "930810057590833241", family="tasks/image")
    with pytest.raises(failures.ApiRequestInvalid):
        query(clients(ApiKey("sk-live-1")), "a,b", family="solutions/virtual_try_on")


def test_an_id_that_tasks_leaves_out_is_not_found(api: Api, clients: Clients) -> None:
    api.says(envelope([]))

    with pytest.raises(failures.TaskNotFound):
        query(clients(ApiKey("sk-live-1")), "1", family="tasks/video")


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize("body", [b"<html>", envelope(None, code=1203)])
def test_a_question_that_the_api_does_not_offer_is_told_from_a_task_that_is_not_there(
    api: Api, clients: Clients, status: int, body: bytes
) -> None:
    client = clients(ApiKey("sk-live-1"))
    api.says(Reply(body, status))

    for ask in (
        lambda: list_page(client),
        lambda: client.collection("tasks", query={"task_ids": "1"}, priority=Priority.VERIFY),
        lambda: query(client, "1", family="tasks/video"),
    ):
        with pytest.raises(failures.NotOffered):
            ask()
    with pytest.raises(failures.Failure) as single:
        query(client)
    assert not isinstance(single.value, failures.NotOffered | failures.TaskNotFound)


def test_a_collection_is_asked_with_an_api_key_only(api: Api, clients: Clients) -> None:
    api.says(envelope([]))
    clients(ApiKey("sk-live-1")).collection("solutions", query={"task_ids": "1,2"}, priority=Priority.VERIFY)
    with pytest.raises(failures.NeedsApiKey):
        clients().collection("solutions", query={"task_ids": "1,2"}, priority=Priority.VERIFY)

    assert [asked.path for asked in api.asked] == ["/solutions?task_ids=1,2"]
    assert clients.observed == [("tasks", "0")]


# --- refusals -------------------------------------------------------------------------------------------

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


# --- the wire -------------------------------------------------------------------------------------------


def test_a_compressed_answer_is_read(api: Api, clients: Clients) -> None:
    api.says(Reply(gzip.compress(envelope(row())), headers={"Content-Encoding": "gzip"}))

    assert query(clients()).task_id == TASK_ID


@pytest.mark.parametrize("body", [b"not gzip", gzip.compress(b" " * 3_000_000)])
def test_a_compressed_body_that_is_broken_or_a_bomb_is_unreadable(
    api: Api, clients: Clients, body: bytes
) -> None:
    api.says(Reply(body, headers={"Content-Encoding": "gzip"}))

    with pytest.raises(failures.ApiAnswerUnreadable):
        query(clients(body_bytes_max=1_000_000))
    assert clients.observed == [("query", "http_200")]


def test_an_endless_body_is_cut_off(api: Api, clients: Clients) -> None:
    def pour(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(500):  # as good as endless, and an end for a client that does not cut it off
            handler.wfile.write(b" " * 65_536)

    api.says(Reply(pour))

    with pytest.raises(failures.ApiAnswerUnreadable, match="more than 1000000 bytes"):
        query(clients(body_bytes_max=1_000_000))


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_that_drips_is_given_up_at_the_deadline_in_headers_and_in_the_body(
    api: Api, clients: Clients, head: bytes
) -> None:
    def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(head)
        for _ in range(500):  # far longer than the deadline, each wait far shorter than any read timeout
            if api.closing.wait(0.02):
                return
            handler.wfile.write(b"x")

    api.says(Reply(drip))

    with pytest.raises(failures.ApiTimeout):
        query(clients(answer_seconds=0.3))
    assert clients.observed == [("query", "timeout")]


def test_silence_is_a_timeout(api: Api, clients: Clients) -> None:
    api.says(Reply(lambda _handler: cast("None", api.closing.wait(60))))

    with pytest.raises(failures.ApiTimeout):
        query(clients(read_seconds=0.1))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_connection_that_breaks_is_unreachable_and_not_an_answer(
    api: Api, clients: Clients, raw: bytes
) -> None:
    api.says(Reply(lambda handler: cast("None", handler.wfile.write(raw))))

    with pytest.raises(failures.ApiUnreachable):
        query(clients())
    assert clients.observed == [("query", "connection")]


def test_nobody_listening_is_unreachable(api: Api, clients: Clients) -> None:
    client = clients()
    api.shutdown()
    api.socket.close()

    with pytest.raises(failures.ApiUnreachable):
        query(client)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, 0), (-1, -1000), (1, 1000), (-600, -600_000), (600, 600_000)]
)
def test_the_clocks_are_compared_as_far_as_whole_seconds_tell(
    api: Api, clients: Clients, seconds: int, expected: int
) -> None:
    api.says(
        Reply(envelope(row()), headers={"Date": email.utils.formatdate(NOW + seconds, usegmt=True)}),
        envelope(row()),
    )
    client = clients()
    before = client.skew_ms
    query(client)
    query(client)  # an answer without a date changes nothing

    assert before is None
    # The date may stand for any moment of its second.
    assert client.skew_ms == (expected if expected >= 0 else expected + 999)


@pytest.mark.parametrize(
    ("seconds", "age", "expected"),
    [(-600, "600", 0), (-86_400, "86400", 0), (-900, "600", -300_000), (0, "0", 0), (-600, "", -600_000)]
    + [(-600, age, -600_000) for age in ("-600", "ten minutes", "9" * 10, "9" * 5000)],
)
def test_an_answer_from_a_cache_tells_the_time_that_it_was_made_at_and_its_age(
    api: Api, clients: Clients, seconds: int, age: str, expected: int
) -> None:
    headers = {"Date": email.utils.formatdate(NOW + seconds, usegmt=True), "Age": age}
    api.says(Reply(envelope(row()), headers=headers))
    client = clients()
    query(client)

    assert client.skew_ms == (expected if expected >= 0 else expected + 999)


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Foo 99999 99:99:99 GMT", "9" * 5000])
def test_a_date_that_is_none_is_ignored(api: Api, clients: Clients, date: str) -> None:
    api.says(Reply(envelope(row()), headers={"Date": date}))
    client = clients()
    query(client)

    assert client.skew_ms is None


# --- lists ----------------------------------------------------------------------------------------------


def list_page(client: KlingClient, **arguments: Any) -> Any:
    return client.list_page(FAMILY, page=1, priority=Priority.BACKGROUND, **arguments)


def test_a_page_is_read_in_the_order_of_its_rows(api: Api, clients: Clients) -> None:
    api.says(sample("expand_list.json"))
    page = clients().list_page("images/editing/expand", page=3, priority=Priority.BACKGROUND)

    assert api.asked[0].path == "/v1/images/editing/expand?pageNum=3&pageSize=500"
    assert page.ids == ("830000000000000000", "830000000000000001")
    assert [task.task_id for task in page.tasks] == list(page.ids)
    assert (page.rows, page.malformed) == (2, 0)
    assert clients.observed == [("list", "0")]


@pytest.mark.parametrize("data", [None, [], {}, {"result": []}])
def test_past_the_end_a_page_has_no_rows(api: Api, clients: Clients, data: object) -> None:
    api.says(envelope(data))

    assert list_page(clients()).rows == 0


@pytest.mark.parametrize("data", [row(), {"result": [row()], "count": 1}])
def test_one_object_in_place_of_an_array_is_a_page(api: Api, clients: Clients, data: object) -> None:
    api.says(envelope(data))

    assert list_page(clients()).ids == (TASK_ID,)


def test_a_task_with_a_result_of_its_own_is_no_wrapper(api: Api, clients: Clients) -> None:
    api.says(envelope(row(result=[])))

    assert list_page(clients()).ids == (TASK_ID,)


@pytest.mark.parametrize("data", ["x", 7, True])
def test_data_that_holds_no_rows_is_unreadable_and_not_the_end(
    api: Api, clients: Clients, data: object
) -> None:
    api.says(envelope(data))

    with pytest.raises(failures.ApiAnswerUnreadable):
        list_page(clients())


BAD_ROWS = [
    "null",
    "7",
    '"x"',
    "[]",
    "{}",
    '{"task_id":"9"}',
    '{"task_id":"9","task_status":"dancing"}',
    '{"task_id":"9","task_status":NaN}',
    '{"task_id":-Infinity,"task_status":"succeed"}',
    '{"task_id":"9","task_status":"succeed","task_status":"failed"}',
    '{"task_id":"9","task_status":"succeed","x":' + "[" * 100 + "]" * 100 + "}",
]


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_a_bad_row_is_counted_and_costs_no_other(api: Api, clients: Clients, bad: str) -> None:
    good = json.dumps(row())
    api.says(f'{{"code":0,"message":"ok","data":[{bad},{good}]}}'.encode())
    page = list_page(clients())

    assert [task.task_id for task in page.tasks] == [TASK_ID]
    assert (page.rows, page.malformed, len(page.reasons)) == (2, 1, 1)
    assert page.ids in ((TASK_ID,), ("9", TASK_ID))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
def test_a_number_that_json_cannot_hold_costs_nothing_in_a_field_that_is_not_used(
    api: Api, clients: Clients, number: str
) -> None:
    odd = f'{{"task_id":"9","task_status":"succeed","created_at":{number},"x":[{{"y":{number}}}]}}'
    api.says(f'{{"code":0,"message":"ok","data":[{odd}]}}'.encode())
    page = list_page(clients())

    assert (page.malformed, page.tasks[0].created_at) == (0, None)
    assert page.tasks[0].document["x"] == [{"y": None}]


# --- bytes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"\xff\xfe\x00",
        HTML,
        b"[]",
        b"null",
        b'{"code":0',
        b'{"message":"ok","data":{}}',
        b'{"code":null}',
        b'{"code":true}',
        b'{"code":0.0}',
        b'{"code":"success","data":{}}',
        b'{"code":0,"code":1}',
        b'{"code":' + b"9" * 5000 + b"}",
        b"[" * 200_000,
    ],
)
def test_bytes_that_are_no_envelope_are_unreadable(body: bytes) -> None:
    with pytest.raises(failures.ApiAnswerUnreadable):
        responses.read_answer(body)


def test_broken_characters_in_a_text_do_not_keep_a_task_out(api: Api, clients: Clients) -> None:
    body = envelope(row(task_status_msg="cut \ud83d", name="ok")).replace(b'"ok"', b'"\xe4\xbd"')
    api.says(body)
    document = query(clients()).document

    assert (document["task_status_msg"], document["name"]) == ("cut \ufffd", "\ufffd")


def test_ids_beyond_doubles_keep_every_digit(api: Api, clients: Clients) -> None:
    api.says(b'{"code":"0","data":{"task_id":828338674605228111,"task_status":"submitted"}}')

    assert query(clients()).task_id == "828338674605228111"


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_an_answer_or_unreadable(body: bytes) -> None:
    with contextlib.suppress(failures.ApiAnswerUnreadable):
        assert isinstance(responses.read_answer(body).code, int)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    )
)
def test_whatever_is_sound_can_be_written_again(data: object) -> None:
    answer = responses.read_answer(json.dumps({"code": 0, "data": data}).encode())
    with contextlib.suppress(failures.ApiAnswerUnreadable):
        written = json.dumps(responses.sound(answer.data), allow_nan=False, ensure_ascii=False)
        assert json.loads(written.encode()) == json.loads(written)
