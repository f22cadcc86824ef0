"""Who is let into the console, and what a form may do."""

import asyncio
import contextlib
import pathlib

import pytest
from httpx2 import ASGITransport, AsyncClient, Response

from receiver.console.access import slowing
from receiver.console.access.addresses import UNKNOWN, ClientAddresses
from receiver.console.access.sessions import SESSION_SECONDS, derived_key
from receiver.console.access.slowing import ADDRESSES_MAX, FORGET_SECONDS, SECONDS_MAX, WAITING_MAX, Slowing
from receiver.console.console import build_console
from receiver.console.frame import FORM_BYTES_MAX
from tests.harness.console import ADMIN_TOKEN, HttpConsole, console_parts, csrf_of, http_console
from tests.harness.ledgers import Desk

ACTIONS = ["forwards/replay", "forwards/replay-dead", "logout"]
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


DOTS = ("/console/../../x", "/console/..", "/console/%2e%2E/x", "/console/./x")


def attributes(cookie: str) -> set[str]:
    return {part.strip() for part in cookie.split(";")[1:]}


@pytest.mark.parametrize("page", ["/console", "/console/forwards?state=dead", "/console/accounts"])
def test_a_page_leads_to_the_login_and_the_login_back_to_the_page(console: HttpConsole, page: str) -> None:
    answer = console.client.get(page)
    assert (answer.status_code, answer.headers["cache-control"]) == (303, "no-store")
    login = console.client.get(answer.url.join(answer.headers["location"]))
    assert str(login.url).startswith("http://testserver/console/login?next=")

    form = {"csrf": csrf_of(login), "token": ADMIN_TOKEN, "next": page}
    back = console.post("login", form)

    assert f'name="next" value="{page}"' in login.text
    assert str(back.url.join(back.headers["location"])) == f"http://testserver{page}"
    assert console.client.get(page).status_code == 200


@pytest.mark.parametrize(
    ("public_url", "is_secure"),
    [(None, False), ("http://kling.example.com", False), ("https://kling.example.com/k", True)],
)
def test_the_cookie_is_for_this_browser_and_this_site_and_half_a_day(
    tmp_path: pathlib.Path, public_url: str | None, is_secure: bool
) -> None:
    with http_console(tmp_path, public_url=public_url) as console, contextlib.closing(console.desk):
        console.client = console.browser("https://testserver")
        cookie = console.log_in().headers["set-cookie"]

    secure = {"Secure"} if is_secure else set()
    assert attributes(cookie) == {"HttpOnly", "SameSite=strict", f"Max-Age={SESSION_SECONDS}"} | secure
    assert ADMIN_TOKEN not in cookie


def test_a_login_leads_to_the_console_only(console: HttpConsole) -> None:
    for target in (
        "",
        "//evil.example",
        "https://evil.example/console",
        "/consoles",
        "/console\\x",
        "/",
        *DOTS,
    ):
        console.client = console.browser()
        assert console.log_in(target=target).headers["location"] == "../console", target


def test_wrong_tokens_are_slowed_and_the_right_one_gets_in_all_the_same(console: HttpConsole) -> None:
    for _ in range(8):
        answer = console.log_in("a-wrong-token-0123456789abcdef")
        assert (answer.status_code, "not the admin token" in answer.text) == (403, True)
    assert not console.is_in()

    assert console.log_in().status_code == 303

    assert console.is_in()
    assert console.waited == [0, 0.25, 0.5, 1, 2, 4, 8, 8, 8]


def test_a_client_that_tries_wrong_tokens_slows_down_no_other_client(console: HttpConsole) -> None:
    for _ in range(3):
        console.log_in("a-wrong-token-0123456789abcdef", x_forwarded_for="192.0.2.1")
    console.waited.clear()

    console.log_in(x_forwarded_for="6.6.6.6, 192.0.2.2")

    assert console.waited == [0]


def test_an_address_that_is_quiet_for_long_or_has_the_right_token_is_slowed_no_more() -> None:
    now = [0.0]
    made = Slowing(monotonic=lambda: now[0])
    for address in ("192.0.2.1", "192.0.2.2"):
        made.note_wrong(address)
    made.note_right("192.0.2.2")
    assert (made.seconds("192.0.2.1"), made.seconds("192.0.2.2")) == (0.25, 0)

    now[0] = FORGET_SECONDS + 1

    assert made.seconds("192.0.2.1") == 0


def test_what_is_remembered_of_addresses_is_bounded() -> None:
    made = Slowing(monotonic=lambda: 0.0)
    for number in range(ADDRESSES_MAX + 10):
        made.note_wrong(f"2001:db8:{number // 65536:x}:{number % 65536:x}::1")
    assert len(made) == ADDRESSES_MAX

    for _ in range(2000):
        made.note_wrong("2001:db8:ffff:ffff::1")
    made.note_wrong("2001:db8:ffff:ffff::2")  # another address of the same customer

    assert len(made) == ADDRESSES_MAX
    assert made.seconds("2001:db8:ffff:ffff:1::9") == SECONDS_MAX


def test_only_some_answers_of_an_address_wait_at_a_time() -> None:
    made = Slowing(monotonic=lambda: 0.0)
    made.note_wrong("192.0.2.1")
    assert [made.begin_waiting("192.0.2.1") for _ in range(WAITING_MAX + 1)] == [True] * WAITING_MAX + [False]

    made.end_waiting("192.0.2.1")

    assert made.begin_waiting("192.0.2.1")


def test_tries_beyond_the_limit_are_refused_unchecked_and_lock_no_client_out_for_good(
    console: HttpConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as crowded:
        crowded.setattr(slowing, "WAITING_MAX", 0)
        answers = [console.log_in(token) for token in ("a-wrong-token-0123456789abcdef", ADMIN_TOKEN)]
    said = {(answer.status_code, answer.headers["retry-after"], page_of(answer)) for answer in answers}

    assert len(said) == 1
    assert [answer.status_code for answer in answers] == [429, 429]
    assert (console.is_in(), console.waited) == (False, [])
    assert console.log_in().status_code == 303
    assert console.is_in()


def page_of(answer: Response) -> str:
    """Without what is new in every page."""
    return answer.text.replace(csrf_of(answer), "")


def test_tries_at_once_wait_as_long_as_tries_in_turn_and_are_judged_after_the_wait(
    tmp_path: pathlib.Path,
) -> None:
    """A right token among many says no sooner than a wrong one which it is."""

    async def run(desk: Desk) -> tuple[list[float], list[int], set[int]]:
        waited: list[float] = []
        released = asyncio.Event()

        async def sleep(seconds: float) -> None:
            waited.append(seconds)
            await released.wait()

        app = build_console(console_parts(desk), sleep=sleep)
        transport = ASGITransport(app=app, client=("192.0.2.1", 50000))
        async with AsyncClient(transport=transport, base_url="http://testserver") as client:
            csrf = csrf_of(await client.get("/console/login"))
            tokens = [f"a-wrong-token-{number}" for number in range(WAITING_MAX - 1)] + [ADMIN_TOKEN] * 2
            tries = [
                asyncio.create_task(client.post("/console/login", data={"csrf": csrf, "token": token}))
                for token in tokens
            ]
            refused = await tries[-1]  # no place was left for it
            early = [done.result().status_code for done in tries if done.done()]
            released.set()
            judged = {(await each).status_code for each in tries[:-1]}
        return waited, [refused.status_code, *early], judged

    with contextlib.closing(Desk(tmp_path)) as desk:
        waited, at_once, judged = asyncio.run(run(desk))

    assert waited == [0, 0.25, 0.5, 1, 2, 4] + [8] * (WAITING_MAX - 6)
    assert (at_once, judged) == ([429, 429], {403, 303})


def test_refused_tries_are_one_line_a_second_for_each_address() -> None:
    now = [0.0]
    made = Slowing(monotonic=lambda: now[0])
    told = [made.note_refused("192.0.2.1") for _ in range(5)]
    other = made.note_refused("192.0.2.2")

    now[0] = 1.0

    assert (told, other, made.note_refused("192.0.2.1")) == ([1, 0, 0, 0, 0], 1, 5)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("198.51.100.1", "192.0.2.1", "198.51.100.1"),  # anybody may write the header
        ("10.1.2.3", "192.0.2.1", "192.0.2.1"),
        ("10.1.2.3", "6.6.6.6, 192.0.2.1", "192.0.2.1"),  # what the client has written stands first
        ("10.1.2.3", "192.0.2.1, 10.9.9.9", "192.0.2.1"),
        ("10.1.2.3", "192.0.2.1:4711", "192.0.2.1"),
        ("10.1.2.3", "[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:10.1.2.3", "192.0.2.1", "192.0.2.1"),
        ("10.1.2.3", "unknown, nonsense", "10.1.2.3"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("::1", "192.0.2.1", "192.0.2.1"),
        ("testclient", "192.0.2.1", UNKNOWN),
    ],
)
def test_only_trusted_proxies_say_where_a_request_comes_from(peer: str, forwarded: str, address: str) -> None:
    addresses = ClientAddresses(["10.0.0.0/8", "::1"])
    scope = {"client": (peer, 1), "headers": [(b"x-forwarded-for", forwarded.encode())]}

    assert addresses.of(scope) == address
    assert addresses.of({"client": None, "headers": []}) == UNKNOWN


def test_a_session_ends_after_half_a_day_whatever_it_does(console: HttpConsole) -> None:
    console.log_in()
    console.desk.clock.advance((SESSION_SECONDS - 1) * 1000)
    assert console.is_in()

    console.desk.clock.advance(1000)

    assert not console.is_in()


def test_a_changed_token_ends_every_session(console: HttpConsole) -> None:
    console.log_in()
    other = HttpConsole(console.desk, token="another-token-0123456789abcdef")
    other.client.cookies = console.client.cookies

    assert not other.is_in()


def test_a_logout_ends_the_session_in_other_processes_and_after_a_restart(console: HttpConsole) -> None:
    console.log_in()
    other = HttpConsole(console.desk)
    other.client = other.browser(like=console.client)
    assert other.is_in()
    console.post("logout", {"csrf": csrf_of(console.get())})

    answer = other.get("tasks")
    assert (answer.status_code, "login" in answer.headers["location"]) == (303, True)
    assert other.get("login").status_code == 200, "not back to a page that sends here again"
    restarted = HttpConsole(console.desk)
    restarted.client = other.client
    assert not restarted.is_in()
    restarted.log_in()
    assert restarted.is_in()


def test_a_logout_ends_the_session_also_for_a_copied_cookie(console: HttpConsole) -> None:
    console.log_in()
    kept = dict(console.client.cookies)

    answer = console.post("logout", {"csrf": csrf_of(console.get())})

    assert answer.headers["location"] == "../console/login"
    assert console.client.cookies.get("kling_console") is None
    console.client.cookies.update(kept)
    assert not console.is_in()


def test_a_cookie_that_we_have_not_signed_opens_no_page(console: HttpConsole) -> None:
    console.log_in()
    cookie = console.client.cookies["kling_console"]
    kind, expires_at, nonce, mac = cookie.split(".")
    guest = console.browser()
    guest.get("/console/login")
    signed = guest.cookies["kling_console"]
    forged = [
        f"{kind}.{int(expires_at) + 1}.{nonce}.{mac}",
        f"{kind}.{expires_at}.{nonce}.{mac[:-2]}",
        signed.replace("guest.", "admin."),
        signed,
        "",
        "admin",
        "admin.....",
        f"admin.{'9' * 400}.x.{mac}",
        f"admin.²³.x.{mac}",
    ]

    for each in forged:
        answer = console.browser().get("/console", headers=[(b"cookie", f"kling_console={each}".encode())])
        assert answer.status_code == 303, each


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_is_done_only_with_the_token_of_its_session(console: HttpConsole, action: str) -> None:
    console.log_in()
    of_another_session = csrf_of(console.get())
    console.client = console.browser()
    console.log_in()

    for form in ({}, {"csrf": ""}, {"csrf": "wrong"}, {"csrf": of_another_session}):
        answer = console.post(action, form)
        assert (answer.status_code, "Nothing was done" in answer.text) == (403, True), form
    assert console.is_in()


@pytest.mark.parametrize("action", [action for action in ACTIONS if action != "logout"])
def test_an_action_without_a_session_is_not_done_and_says_so(console: HttpConsole, action: str) -> None:
    answer = console.post(action, {"csrf": csrf_of(console.get("login"))})

    assert answer.status_code == 303
    assert "Your session has ended" in console.client.get(answer.url.join(answer.headers["location"])).text


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"csrf": "x"}', "application/json"),
        (b"csrf=" + b"x" * FORM_BYTES_MAX, "application/x-www-form-urlencoded"),
        (b"&".join([b"a=b"] * 2000), "application/x-www-form-urlencoded"),
        (b"\xff\xfe", "application/x-www-form-urlencoded"),
    ],
)
def test_a_body_that_is_no_form_of_ours_does_nothing(console: HttpConsole, content: bytes, kind: str) -> None:
    console.log_in()

    for path in ("/console/forwards/replay", "/console/logout"):
        answer = console.client.post(path, content=content, headers={"content-type": kind})
        assert answer.status_code == 403


def test_a_login_form_of_another_browser_or_without_a_cookie_is_not_taken(console: HttpConsole) -> None:
    form = {"csrf": csrf_of(console.get("login")), "token": ADMIN_TOKEN, "next": ""}

    answer = console.browser().post("/console/login", data=form)

    assert (answer.status_code, "please try again" in answer.text) == (403, True)
    assert console.waited == []


@pytest.mark.parametrize("more", [{"next": "x" * 4096}, {f"field-{number}": "" for number in range(8)}])
def test_a_login_form_that_is_larger_than_ours_is_not_read(
    console: HttpConsole, more: dict[str, str]
) -> None:
    form = {"csrf": csrf_of(console.get("login")), "token": ADMIN_TOKEN}

    answer = console.post("login", form | more)

    assert (answer.status_code, console.waited, console.is_in()) == (403, [], False)


def test_a_second_tab_with_the_login_form_is_let_in_once_the_first_has_logged_in(
    console: HttpConsole,
) -> None:
    second = {"csrf": csrf_of(console.get("login")), "token": "typed-before-the-first-tab", "next": ""}
    console.log_in()

    assert console.post("login", second).status_code == 303
    assert console.get("login").headers["location"] == "../console"
    assert console.is_in()


def test_every_page_forbids_what_is_not_ours(console: HttpConsole) -> None:
    for page in ("login", "nothing", "", "forwards", "accounts"):
        if page == "nothing":
            console.log_in()
        headers = console.get(page).headers

        assert headers["content-security-policy"] == POLICY, page
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
        assert (headers["referrer-policy"], headers["cache-control"]) == ("no-referrer", "no-store")


def test_there_is_a_page_for_what_is_not_there_and_for_what_a_page_does_not_take(
    console: HttpConsole,
) -> None:
    console.log_in()
    for below, method, status in (
        ("nothing", "GET", 404),
        ("forwards", "POST", 405),
        ("static/0/x.css", "GET", 404),
    ):
        assert console.client.request(method, f"/console/{below}").status_code == status
    assert "<h1>Not found</h1>" in console.get("nothing").text
    assert console.client.get("/console/").headers["location"] == "../console"


def test_styles_are_kept_until_they_change(console: HttpConsole) -> None:
    page = console.get("login")
    path = page.text.partition('rel="stylesheet" href="')[2].partition('"')[0]
    style = console.client.get(page.url.join(path))

    assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in style.headers["cache-control"]
    assert (
        console.client.get(str(page.url.join(path)).replace("/console.css", "/icon.svg")).status_code == 404
    )


def test_the_console_works_below_a_path_that_a_proxy_takes_away(console: HttpConsole) -> None:
    """No link or redirect begins at the root of the host."""
    for page in ("login", "nothing", "", "forwards"):
        if page == "":
            console.log_in()
        text = console.get(page).text
        assert 'href="/' not in text
        assert 'action="/' not in text
        assert 'src="/' not in text


def test_keys_are_derived_as_rfc_5869_says() -> None:
    """Test case 3, the first 32 of its 42 bytes."""
    assert (
        derived_key(b"\x0b" * 22, "").hex()
        == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    )
