"""Links to real S3 servers, opened by clients of other projects."""

import hashlib
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

import httpx2
import pytest
import requests
import structlog.testing

from archiver.store import S3Store
from tests.harness.links import PREFIX, LinkDesk, folder_of, link_of, put, record_stored, serving
from tests.s3_servers import FaultyProxy, S3Server
from tests.s3_servers.faulty import Exchange, Fault, answering, cut_while_answering, speaking, with_headers

CONTENT = bytes(range(256)) * 1024
SIZE = len(CONTENT)
ETAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'


def store_video(desk: LinkDesk, store: S3Store) -> str:
    """The path of the link of a film in the bucket, whose type the store has wrong."""
    stored = record_stored(desk.ledger, CONTENT, extension="mp4")
    put(store, stored.key, CONTENT, content_type="text/html")
    return link_of(extension="mp4")


@pytest.fixture
def redirecting(tmp_path: pathlib.Path, store: S3Store) -> Iterator[LinkDesk]:
    with serving(tmp_path, store, mode="redirect") as desk:
        yield desk


@pytest.fixture
def streaming(tmp_path: pathlib.Path, store: S3Store) -> Iterator[LinkDesk]:
    with serving(tmp_path, store, mode="stream") as desk:
        yield desk


def test_every_store_takes_the_urls_that_links_lead_to_for_their_method_alone(
    redirecting: LinkDesk, store: S3Store
) -> None:
    path = store_video(redirecting, store)
    locations = {method: redirecting.ask(method, path).headers["location"] for method in ("GET", "HEAD")}
    download = redirecting.get(f"{path}?download").headers["location"]

    with httpx2.Client(trust_env=False, timeout=60) as client:
        whole = client.get(locations["GET"])
        part = client.get(locations["GET"], headers={"Range": "bytes=5-9"})
        head = client.head(locations["HEAD"])
        crossed = client.get(locations["HEAD"])
        attachment = client.get(download)

    assert (whole.content, part.content) == (CONTENT, CONTENT[5:10])
    assert (head.status_code, head.headers["content-length"]) == (200, str(SIZE))
    assert crossed.status_code == 403
    assert attachment.content == CONTENT


def test_every_store_is_streamed_whole_and_in_ranges_with_our_own_type_and_etag(
    streaming: LinkDesk, store: S3Store
) -> None:
    path = store_video(streaming, store)
    whole = streaming.get(path)
    cases = {
        "bytes=0-1": (0, 2),
        "bytes=0-": (0, SIZE),
        "bytes=-7": (SIZE - 7, 7),
        "bytes=1000-": (1000, SIZE - 1000),
    }
    parts = {value: streaming.get(path, range=value, if_range=ETAG) for value in cases}
    other = streaming.get(path, range="bytes=0-1", if_range='"other"')
    head = streaming.ask("HEAD", path, range="bytes=0-1")

    assert (whole.status_code, whole.content, other.status_code, other.content) == (
        200,
        CONTENT,
        200,
        CONTENT,
    )
    for value, (first, count) in cases.items():
        assert (parts[value].status_code, parts[value].content) == (206, CONTENT[first : first + count])
        assert parts[value].headers["content-range"] == f"bytes {first}-{first + count - 1}/{SIZE}"
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(SIZE), b"")
    for answer in (whole, head, *parts.values()):
        assert answer.headers["etag"] == ETAG
        assert answer.headers["content-type"] == "video/mp4"
        assert answer is head or answer.headers["content-length"] == str(len(answer.content))
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["access-control-allow-origin"] == "*"
    assert "content-disposition" not in whole.headers
    disposition = streaming.get(f"{path}?download").headers["content-disposition"]
    assert disposition == 'attachment; filename="t-0.mp4"'


def test_every_store_is_looked_through_where_the_ledger_is_empty(streaming: LinkDesk, store: S3Store) -> None:
    for name in ("0-1.png", "0.png", "manifest.json"):
        put(store, f"{PREFIX}{folder_of('t')}/{name}", CONTENT)
    answers = [streaming.ask(method, link_of()) for method in ("GET", "HEAD")]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert (answers[0].content, answers[0].headers["content-type"]) == (CONTENT, "image/png")
    assert answers[1].headers["content-length"] == str(SIZE)
    assert {answer.headers["etag"] for answer in answers} == {ETAG}
    assert streaming.get(link_of(stem="1")).status_code == 404


@pytest.mark.parametrize("mode", ["redirect", "stream"])
def test_requests_and_a_client_that_follows_no_redirect_by_itself_get_the_file(
    tmp_path: pathlib.Path, swift_server: S3Server, swift_bucket: str, mode: str
) -> None:
    store = swift_server.store(swift_bucket)
    with serving(tmp_path, store, mode=mode) as desk, requests.Session() as session:
        session.trust_env = False
        url = desk.url + store_video(desk, store)
        with session.get(url, stream=True, timeout=60) as got:
            pieces = list(got.iter_content(65536))
        with httpx2.Client(trust_env=False, timeout=60, follow_redirects=False) as client:
            first = client.get(url)
            last = client.get(first.headers["location"]) if first.is_redirect else first

    assert (got.status_code, b"".join(pieces)) == (200, CONTENT)
    assert [len(got.history), first.is_redirect] == ([1, True] if mode == "redirect" else [0, False])
    assert (last.status_code, last.content) == (200, CONTENT)


# --- a store that does other than S3 does ---


@pytest.fixture
def faulty(
    tmp_path: pathlib.Path, swift_server: S3Server, swift_bucket: str, swift_proxy: FaultyProxy
) -> Iterator[LinkDesk]:
    """Streams from Swift behind a proxy; a film is in the bucket."""
    store = swift_server.store(swift_bucket, endpoint_url=swift_proxy.endpoint_url)
    with serving(tmp_path, store, mode="stream") as desk:
        store_video(desk, store)
        yield desk


def without_range(exchange: Exchange) -> None:
    """The whole object, whatever was asked for."""
    exchange.send(200, {"Content-Length": str(SIZE)}, CONTENT)


def test_a_store_that_answers_a_range_with_all_is_cut(faulty: LinkDesk, swift_proxy: FaultyProxy) -> None:
    swift_proxy.rule = lambda _: without_range

    for value, (first, count) in {"bytes=0-1": (0, 2), "bytes=200000-200009": (200_000, 10)}.items():
        answer = faulty.get(link_of(), range=value)
        assert (answer.status_code, answer.content) == (206, CONTENT[first : first + count])
        assert answer.headers["content-range"] == f"bytes {first}-{first + count - 1}/{SIZE}"


@pytest.mark.parametrize(
    "fault",
    [
        answering(404, "NoSuchKey"),
        answering(403, "AccessDenied"),
        answering(500),
        answering(302, headers={"Location": "http://127.0.0.1:9/"}),
        with_headers(**{"Content-Range": f"bytes 1-2/{SIZE}"}),
        with_headers(**{"Content-Encoding": "gzip"}),
        speaking(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother"),
        speaking(b"\x00\x01\x02"),
        Exchange.reset,
    ],
)
def test_what_a_store_says_instead_of_the_file_is_503_and_never_passed_on(
    faulty: LinkDesk, swift_proxy: FaultyProxy, fault: Fault
) -> None:
    swift_proxy.rule = lambda _: fault
    answer = faulty.get(link_of(), range="bytes=0-9")

    assert (answer.status_code, answer.headers["cache-control"]) == (503, "no-store")
    assert answer.json()["code"] == 5001


@pytest.mark.parametrize(
    "fault", [answering(404, "NoSuchKey"), answering(200, headers={"Content-Length": "5"})]
)
def test_a_file_that_the_bucket_lacks_or_has_in_another_size_is_503_for_get_and_head_and_said_aloud(
    faulty: LinkDesk, swift_proxy: FaultyProxy, fault: Fault
) -> None:
    swift_proxy.rule = lambda _: fault
    with structlog.testing.capture_logs() as logged:
        answers = [faulty.ask(method, link_of()) for method in ("GET", "HEAD")]

    assert [answer.status_code for answer in answers] == [503, 503]
    assert "missing in the bucket" in answers[0].json()["message"]
    missing = [event for event in logged if event["event"] == "object.missing"]
    assert [event["key"] for event in missing] == [f"{PREFIX}{folder_of('t')}/0.mp4"] * 2
    faulty.assert_counted({"refused": 2})


def test_a_file_that_breaks_off_is_never_taken_for_whole(faulty: LinkDesk, swift_proxy: FaultyProxy) -> None:
    swift_proxy.rule = lambda _: cut_while_answering(100_000)

    with pytest.raises(httpx2.RemoteProtocolError):
        faulty.get(link_of())


# --- clients ---


@pytest.fixture(params=["redirect", "stream"])
def desk(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, swift_server: S3Server, swift_bucket: str
) -> Iterator[LinkDesk]:
    """In both modes before Swift, with a film in the bucket."""
    store = swift_server.store(swift_bucket)
    with serving(tmp_path, store, mode=request.param) as desk:
        store_video(desk, store)
        yield desk


def ran(*command: str | pathlib.Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_curl_gets_a_file_its_headers_a_range_and_the_rest_of_a_download(
    desk: LinkDesk, tmp_path: pathlib.Path
) -> None:
    url = desk.url + link_of(extension="mp4")
    curl = ("curl", "--silent", "--show-error", "--fail", "--location")
    whole, part, rest = (tmp_path / name for name in ("whole", "part", "rest"))
    rest.write_bytes(CONTENT[:1000])
    ran(*curl, "--output", whole, url)
    ran(*curl, "--range", "10-19", "--output", part, url)
    ran(*curl, "--continue-at", "-", "--output", rest, url)
    head = ran(*curl, "--head", url)

    assert (whole.read_bytes(), part.read_bytes(), rest.read_bytes()) == (CONTENT, CONTENT[10:20], CONTENT)
    assert f"content-length: {SIZE}\n" in head.lower()


@pytest.mark.skipif(shutil.which("wget") is None, reason="wget is missing: apt-get install wget")
def test_wget_gets_a_file_and_the_rest_of_a_download(desk: LinkDesk, tmp_path: pathlib.Path) -> None:
    url = desk.url + link_of(extension="mp4")
    (tmp_path / "0.mp4").write_bytes(CONTENT[:1000])
    ran("wget", "--quiet", "--no-proxy", "--continue", "--output-document", tmp_path / "0.mp4", url)

    assert (tmp_path / "0.mp4").read_bytes() == CONTENT
