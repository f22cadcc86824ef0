"""Where a link leads: real HTTP and a real ledger, before a store that is answered from memory."""

import contextlib
import hashlib
import http.client
import pathlib
import socket
from collections.abc import Iterator, Mapping

import pytest
import structlog.testing

from archiver.failures import LedgerUnavailable, NeverMedia, StoreCredentialsMissing, StoreUnreachable
from archiver.ledger import FileView
from archiver.model import Stage, Status
from archiver.store import StoredObject
from tests.harness.ledgers import ACCOUNT, answer
from tests.harness.links import (
    CDN_URL,
    FORMER,
    PREFIX,
    PUBLIC_URL,
    LinkDesk,
    ScriptedStore,
    folder_of,
    image,
    link_of,
    record_stored,
    serving,
)

CONTENT = b"the bytes of a picture"
ALWAYS = {
    "referrer-policy": "no-referrer",
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "Accept-Ranges, Content-Length, Content-Range, ETag",
}
NOT_FOUND = b'{"code":1203,"message":"There is nothing here."}'


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


@pytest.fixture
def desk(tmp_path: pathlib.Path, store: ScriptedStore) -> Iterator[LinkDesk]:
    """By redirect."""
    with serving(tmp_path, store, mode="redirect") as desk:
        yield desk


def headers_of(desk: LinkDesk, method: str, path: str) -> Mapping[str, str]:
    answer = desk.ask(method, path)
    assert {name: answer.headers.get(name) for name in ALWAYS} == ALWAYS
    return answer.headers


# --- a stored file ---


@pytest.mark.parametrize("extension", ["png", "jpg", "mp4", ""])
@pytest.mark.parametrize("account", [ACCOUNT, FORMER])
def test_a_link_to_a_stored_file_redirects_to_the_store_whatever_extension_and_name_of_ours_it_has(
    desk: LinkDesk, account: str, extension: str
) -> None:
    record_stored(desk.ledger, CONTENT)
    answer = desk.get(link_of(extension=extension, account=account))

    assert answer.status_code == 302
    assert answer.headers["location"] == (
        f"https://store.example/{PREFIX}{folder_of('t')}/0.png?method=GET&seconds=3600"
    )
    assert answer.headers["cache-control"] == "private, max-age=600"
    assert {name: answer.headers.get(name) for name in ALWAYS} == ALWAYS
    desk.assert_counted({"stored": 1})


def test_head_is_redirected_to_a_url_for_head_which_is_never_cached(desk: LinkDesk) -> None:
    record_stored(desk.ledger, CONTENT)
    answer = desk.ask("HEAD", link_of(extension="png"))

    assert answer.status_code == 302
    assert "method=HEAD" in answer.headers["location"]
    assert answer.headers["cache-control"] == "no-store"


def test_a_film_may_be_played_for_six_hours(desk: LinkDesk) -> None:
    record_stored(desk.ledger, CONTENT, extension="mp4")
    answer = desk.get(link_of(extension="mp4"))

    assert answer.headers["location"].endswith("seconds=21600")
    assert answer.headers["cache-control"] == "private, max-age=3600"


@pytest.mark.parametrize("query", ["?download", "?download=1", "?v=2&download"])
def test_a_download_is_an_attachment_with_a_name_of_its_own(desk: LinkDesk, query: str) -> None:
    record_stored(desk.ledger, CONTENT)

    assert desk.get(link_of() + query).headers["location"].endswith("&name=t-0.png")
    assert "name=" not in desk.get(link_of() + "?downloads").headers["location"]


def test_a_stem_that_ends_like_a_format_is_found_before_it_is_cut(desk: LinkDesk) -> None:
    record_stored(desk.ledger, CONTENT, stem="audio-0.mp3", extension="mp3")

    for extension in ("", "mp3", "wav"):
        answer = desk.get(link_of(stem="audio-0.mp3", extension=extension))
        assert "/audio-0.mp3?method" in answer.headers["location"]
    assert desk.get(link_of(stem="audio-0", extension="mp3")).status_code == 404


def test_a_prefix_is_put_before_the_key_and_its_characters_keep_their_meaning(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, ScriptedStore(), mode="https://cdn.example.com/x/") as desk:
        record_stored(desk.ledger, CONTENT)
        answers = [desk.ask(method, link_of()) for method in ("GET", "HEAD")]

    location = f"https://cdn.example.com/x/{PREFIX}{folder_of('t')}/0.png"
    assert [(answer.status_code, answer.headers["location"]) for answer in answers] == [(302, location)] * 2


# --- a file that is not stored ---


@pytest.mark.parametrize("status", [Status.SUCCEEDED, "buried"])
def test_before_it_is_stored_a_link_redirects_to_klings_url_uncached(desk: LinkDesk, status: str) -> None:
    desk.ledger.say(answer("t", assets=(image(),)))
    if status == "buried":
        desk.ledger.fail(desk.ledger.claim(Stage.ARCHIVE), NeverMedia("a web page"))
    found = desk.get(link_of(extension="png"))

    assert (found.status_code, found.headers["location"]) == (302, CDN_URL)
    assert found.headers["cache-control"] == "no-store"
    desk.assert_counted({"upstream": 1})


@pytest.mark.parametrize(
    "url",
    [
        "http://cdn.klingai.com/0.png",
        "https://cdn.klingai.com.evil.example/0.png",
        "https://127.0.0.1/0.png",
        "https://user@cdn.klingai.com/0.png",
        "javascript:alert(1)",
        "https://cdn.klingai.com/\r\nSet-Cookie: x=1",
        "",
    ],
)
def test_a_url_that_we_would_not_fetch_is_not_passed_on(desk: LinkDesk, url: str) -> None:
    desk.ledger.say(answer("t", assets=(image(url=url),)))
    found = desk.get(link_of())

    assert (found.status_code, "location" in found.headers) == (503, False)
    assert int(found.headers["retry-after"]) > 0
    assert found.headers["cache-control"] == "no-store"
    desk.assert_counted({"refused": 1})


def test_a_file_that_is_not_tried_any_more_is_gone(desk: LinkDesk) -> None:
    desk.ledger.say(answer("t", assets=(image(),)))
    desk.ledger.clock.advance(31 * 86_400_000)
    desk.ledger.write("UPDATE tasks SET attempts = 1")
    desk.ledger.ledger.deadlines.expire()
    desk.ledger.write("UPDATE tasks SET due_at = NULL, claim_group = NULL")
    found = desk.get(link_of())

    assert (found.status_code, found.headers["cache-control"]) == (410, "no-store")
    desk.assert_counted({"gone": 1})


# --- what is no link ---


def variants() -> list[str]:
    """Paths that are nearly that of a link."""
    path = link_of(extension="png")
    _, _, mac, account, rest = path.split("/", 4)
    folder, name = rest.rsplit("/", 1)
    wrong_mac = ("A" if mac[0] != "A" else "B") + mac[1:]
    return [
        f"/files/{wrong_mac}/{account}/{rest}",
        f"/files/{mac[:-1]}/{account}/{rest}",
        f"/files/{mac}x/{account}/{rest}",
        f"/files/{mac}/other/{rest}",
        f"/files/{mac}/{account}/{folder}/1.png",
        f"/files/{mac}/{account}/{folder}/0.watermark.png",
        f"/files/{mac}/{account}/{folder}/0.exe",
        f"/files/{mac}/{account}/{folder}/0.png.exe",
        f"/files/{mac}/{account}/{folder}/manifest.json",
        f"/files/{mac}/{account}/{folder}/",
        f"/files/{mac}/{account}/{folder}",
        f"/files/{mac}/{account}/{PREFIX}{rest}",
        f"/files/{mac}/{account}//{rest}",
        f"/files//{mac}/{account}/{rest}",
        f"/files/{mac}/{account}/{folder}/./{name}",
        f"/files/{mac}/{account}/{folder}/x/../{name}",
        f"/files/{mac}/{account}/{folder}%2F{name}",
        f"/files/{mac}/{account}/{folder}%5C{name}",
        f"/files/{mac}/{account}/{folder}/{name}%00",
        f"/files/{mac}/{account}/{folder}/{name}%0A",
        f"/files/{mac}/{account}/{folder}/0%2Epng",
        f"/files/{mac}/{account}/{folder}/%2e%2e/t/{name}",
        f"/files/{mac}/{account}/{folder}/%FF{name}",
        f"/files/{mac}/{account}/{folder}/{'9' * 5000}.png",
        f"/files/{mac}/{account}/{rest};x",
        "/files/",
        "/files",
        "/files/%0A",
        "/files/a/b/c",
    ]


def answered(desk: LinkDesk, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body, for a path as it is written."""
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", int(desk.url.rpartition(":")[2]))
    ) as line:
        line.request(method, path)
        found = line.getresponse()
        headers = {name.lower(): value for name, value in found.getheaders() if name.lower() != "date"}
        return found.status, headers, found.read()


def test_any_other_path_is_404_with_the_same_bytes_and_without_a_look_up(
    tmp_path: pathlib.Path, store: ScriptedStore
) -> None:
    def find(**_: str) -> FileView:
        raise AssertionError("the ledger was asked")

    with serving(tmp_path, store, mode="redirect", find=find) as desk:
        answers = [answered(desk, method, path) for path in variants() for method in ("GET", "HEAD")]

    assert {status for status, _, _ in answers} == {404}
    assert {body for _, _, body in answers} == {NOT_FOUND, b""}
    assert all(headers == answers[0][1] for _, headers, _ in answers)
    assert answers[0][1]["cache-control"] == "no-store"
    assert store.asked == []


def test_a_path_that_a_client_library_would_mend_is_404_too(desk: LinkDesk) -> None:
    mac = link_of().split("/")[2]
    for target in (f"/files/{mac}/../{mac}".encode(), b"/files/\x00", b"/files/\xff\xfe", b"/files/a b"):
        answer = desk.edge.raw(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.split(b" ")[1] in {b"404", b"400"}, target


def test_a_genuine_link_to_a_missing_file_is_the_same_404(desk: LinkDesk, store: ScriptedStore) -> None:
    unknown = desk.get(link_of("unknown", extension="png"))
    forged = desk.get(variants()[0])

    assert (unknown.status_code, unknown.content) == (404, NOT_FOUND)
    assert dict(unknown.headers) | {"date": ""} == dict(forged.headers) | {"date": ""}
    assert store.asked == [f"list {PREFIX}{folder_of('unknown')}/0"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods_are_refused(desk: LinkDesk, method: str) -> None:
    record_stored(desk.ledger, CONTENT)
    answer = desk.ask(method, link_of())

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    headers_of(desk, method, link_of())


def test_a_browser_may_ask_for_a_range_from_any_origin(desk: LinkDesk) -> None:
    headers = headers_of(desk, "OPTIONS", link_of())

    assert desk.ask("OPTIONS", link_of()).status_code == 204
    assert headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
    assert "Range" in headers["access-control-allow-headers"]


# --- without the ledger ---


def in_bucket(store: ScriptedStore, *names: str, sha256: str | None = None) -> None:
    for name in names:
        store.objects[f"{PREFIX}{folder_of('t')}/{name}"] = StoredObject(
            9, "e", "text/html", sha256, "t", "f"
        )


class BrokenLedger:
    """A ledger that cannot be used now."""

    def find(self, **_: str) -> FileView:
        raise LedgerUnavailable("its disk is full")


@pytest.mark.parametrize("is_lost", [True, False])
@pytest.mark.parametrize(
    ("stem", "extension", "name"),
    [
        ("0", "png", "0.png"),
        ("0", "jpg", "0.png"),
        ("0.watermark", "", "0.watermark.webp"),
        ("audio-0.mp3", "", "audio-0.mp3"),
    ],
)
def test_what_is_in_the_bucket_is_found_without_the_ledger(
    tmp_path: pathlib.Path, store: ScriptedStore, stem: str, extension: str, name: str, is_lost: bool
) -> None:
    in_bucket(
        store, "0.png", "0-1.png", "0.watermark.webp", "audio-0.mp3", "0.png.exe", "0.", "manifest.json"
    )
    broken = {} if is_lost else {"find": BrokenLedger().find}
    with serving(tmp_path, store, mode="redirect", **broken) as desk:
        answer = desk.get(link_of(stem=stem, extension=extension))

    assert answer.status_code == 302
    assert f"/{name}?method=GET" in answer.headers["location"]


@pytest.mark.parametrize("names", [["0.json"], ["0"], ["0.png.exe"], ["00.png"]])
def test_nothing_but_a_file_of_the_stem_is_served_from_the_bucket(
    desk: LinkDesk, store: ScriptedStore, names: list[str]
) -> None:
    in_bucket(store, *names)

    assert desk.get(link_of()).status_code == 404


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (True, None),
        (True, StoreUnreachable("list: simulated")),
        (False, StoreUnreachable("list: simulated")),
        (False, StoreCredentialsMissing("presign: simulated")),
    ],
)
def test_if_neither_ledger_nor_bucket_can_tell_the_client_is_asked_to_come_again(
    tmp_path: pathlib.Path, store: ScriptedStore, broken: bool, error: Exception | None
) -> None:
    store.error = error
    with serving(
        tmp_path, store, mode="redirect", **({"find": BrokenLedger().find} if broken else {})
    ) as desk:
        if isinstance(error, StoreCredentialsMissing):
            record_stored(desk.ledger, CONTENT)
        with structlog.testing.capture_logs() as logged:
            answer = desk.get(link_of())

    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    assert [event["event"] for event in logged if event["event"].startswith("link")] == ["link.failed"]


# --- bytes from here ---


def test_conditions_are_answered_without_the_store(tmp_path: pathlib.Path, store: ScriptedStore) -> None:
    etag = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    with serving(tmp_path, store, mode="stream") as desk:
        record_stored(desk.ledger, CONTENT)
        kept = desk.get(link_of(extension="png"), if_none_match=f'W/"x", {etag}')
        past = desk.get(link_of(extension="png"), range="bytes=100-")
        desk.assert_counted({"stored": 1, "refused": 1})

    assert (kept.status_code, kept.headers["etag"], kept.content) == (304, etag, b"")
    assert (past.status_code, past.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")
    assert {answer.headers["referrer-policy"] for answer in (kept, past)} == {"no-referrer"}


def test_a_store_that_is_down_is_503_and_not_logged_with_a_url(
    tmp_path: pathlib.Path, store: ScriptedStore
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        store.signed_url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
    with serving(tmp_path, store, mode="stream") as desk:
        record_stored(desk.ledger, CONTENT)
        with structlog.testing.capture_logs() as logged:
            answer = desk.get(link_of())

        head = desk.ask("HEAD", link_of())
        desk.assert_counted({"refused": 2})

    (event,) = (event for event in logged if event["event"] == "link.failed")
    assert head.status_code == 503
    assert (answer.status_code, answer.headers["cache-control"]) == (503, "no-store")
    assert event["message"] == "read an object: ConnectError"
    assert store.signed_url not in str(event)
    assert PUBLIC_URL not in str(event)


def test_a_forgotten_file_is_404_though_it_lies_in_the_bucket(desk: LinkDesk, store: ScriptedStore) -> None:
    stored = record_stored(desk.ledger, CONTENT)
    store.objects[stored.key] = StoredObject(len(CONTENT), "", "image/png", stored.sha256, "t", None)
    desk.ledger.ledger.tombstones.forget("t", account=ACCOUNT)

    answered = desk.get(link_of())

    assert (answered.status_code, answered.content) == (404, NOT_FOUND)
    assert store.asked == []
