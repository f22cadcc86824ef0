"""Links as the settings want them, and readers that leave or take nothing."""

import asyncio
import contextlib
import http.server
import pathlib
import socket
import threading
from collections.abc import Iterator

import pytest

from archiver.config.settings import Settings
from archiver.metrics import Metrics
from receiver.links import readers
from receiver.parts import default_link_mode, link_service
from tests.harness.edge import SECONDS_MAX, read_to_end
from tests.harness.ledgers import Desk
from tests.harness.links import PREFIX, SECRET, LinkDesk, ScriptedStore, link_of, record_stored, serving

ENOUGH = {
    "KLING_API_KEY": "an-api-key",
    "KLING_CALLBACK_TOKEN": "a-token-of-24-characters",
    "KLING_S3_BUCKET": "results",
    "KLING_S3_REGION": "eu-central-1",
    "KLING_S3_PREFIX": PREFIX,
    "KLING_PUBLIC_URL": "https://kling.example.com",
}


@pytest.mark.parametrize(
    ("endpoint_url", "mode"),
    [
        ("https://s3.eu-central-1.amazonaws.com", "redirect"),
        ("https://s3.example.com", "redirect"),
        ("http://s3.example.com", "stream"),
        ("https://minio:9000", "stream"),
        ("https://10.0.0.7", "stream"),
        ("https://[::1]:9000", "stream"),
        ("https://s3.home.arpa", "stream"),
    ],
)
def test_without_a_mode_files_are_streamed_where_no_browser_could_reach_the_store(
    endpoint_url: str, mode: str
) -> None:
    assert default_link_mode(endpoint_url) == mode


@pytest.mark.parametrize(
    ("settings", "mode"),
    [({}, "stream"), ({"KLING_LINK_MODE": "https://cdn.example.com"}, "https://cdn.example.com/")],
)
def test_the_mode_that_is_set_wins(
    tmp_path: pathlib.Path, settings: dict[str, str], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A" * 20)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s" * 40)
    settings |= {"KLING_LINK_SECRET": SECRET, "KLING_S3_ENDPOINT_URL": "http://127.0.0.1:9"}
    with contextlib.closing(Desk(tmp_path)) as desk:
        service = link_service(Settings.load(ENOUGH | settings), desk.ledger, Metrics())
        assert service is not None
        asyncio.run(service.close())

    assert service.mode == mode


@pytest.mark.parametrize("lacking", ["KLING_LINK_SECRET", "KLING_PUBLIC_URL"])
def test_without_a_secret_or_a_public_url_nothing_is_served(tmp_path: pathlib.Path, lacking: str) -> None:
    environ = ENOUGH | {"KLING_LINK_SECRET": SECRET}
    del environ[lacking]
    with contextlib.closing(Desk(tmp_path)) as desk:
        assert link_service(Settings.load(environ), desk.ledger, Metrics()) is None


# --- readers ---


class EndlessStore:
    """Sends a film of zeros on each connection for as long as it is taken, and notes when it is hung up on."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.sent = 0
        self.was_left = threading.Event()
        self.is_stuck = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._socket.accept()
                with line:
                    line.recv(65536)
                    line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self._size)
                    self._send(line)

    def _send(self, line: socket.socket) -> None:
        """A send that waits for half a second means that the client reads nothing."""
        line.settimeout(0.5)
        while self.sent < self._size:
            try:
                self.sent += line.send(bytes(65536))
            except TimeoutError:
                self.is_stuck.set()
            except OSError:
                return self.was_left.set()
        return None

    def close(self) -> None:
        with contextlib.suppress(OSError):  # wakes a thread that waits in accept()
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(SECONDS_MAX)
        self._socket.close()  # only now: the thread would accept from what next has this file descriptor


SIZE = 2**30


@pytest.fixture
def endless() -> Iterator[EndlessStore]:
    with contextlib.closing(EndlessStore(SIZE)) as store:
        yield store


def test_a_reader_that_waits_is_not_read_ahead_for_and_one_that_leaves_is_not_read_for(
    tmp_path: pathlib.Path, endless: EndlessStore
) -> None:
    with serving(tmp_path, ScriptedStore(signed_url=endless.url), mode="stream") as desk:
        stored = record_stored(desk.ledger, b"a film", extension="mp4")
        desk.ledger.write("UPDATE assets SET bytes = ?", SIZE)
        with desk.edge.connection() as line:
            line.sendall(f"GET {link_of()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = line.recv(65536)
            is_stuck = endless.is_stuck.wait(SECONDS_MAX)
        was_left = endless.was_left.wait(SECONDS_MAX)

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert stored.sha256.encode() in head
    assert is_stuck
    assert endless.sent < 64 * 2**20, "what fills the buffers of the system"
    assert was_left


@contextlib.contextmanager
def reading(desk: LinkDesk, task_id: str = "t") -> Iterator[socket.socket]:
    """A reader of a film, who has its head and takes nothing more."""
    record_stored(desk.ledger, b"a film", task_id, extension="mp4")
    desk.ledger.write("UPDATE assets SET bytes = ?", SIZE)
    with asking(desk, task_id) as line:
        yield line


@contextlib.contextmanager
def asking(desk: LinkDesk, task_id: str) -> Iterator[socket.socket]:
    """A connection on which the file is asked for, and the answer has begun."""
    with desk.edge.connection() as line:
        line.sendall(f"GET {link_of(task_id)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert line.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        yield line


@pytest.mark.parametrize("limit", ["READERS_MAX", "READERS_OF_FILE_MAX"])
def test_a_reader_beyond_a_limit_is_asked_to_come_again_and_head_says_the_same(
    tmp_path: pathlib.Path, endless: EndlessStore, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(readers, limit, 1)
    with (
        serving(tmp_path, ScriptedStore(signed_url=endless.url), mode="stream") as desk,
        reading(desk),
    ):
        refused = [desk.ask(method, link_of()) for method in ("GET", "HEAD")]
        desk.assert_counted({"refused": 2})

    assert [(answer.status_code, answer.headers["cache-control"]) for answer in refused] == [
        (503, "no-store")
    ] * 2


def test_a_redirect_takes_no_place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "READERS_MAX", 0)
    with serving(tmp_path, ScriptedStore(), mode="redirect") as desk:
        record_stored(desk.ledger, b"a picture")
        assert desk.get(link_of()).status_code == 302


def test_a_reader_that_takes_nothing_is_cut_off(
    tmp_path: pathlib.Path, endless: EndlessStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "PATIENCE_SECONDS", 0.2)
    with (
        serving(tmp_path, ScriptedStore(signed_url=endless.url), mode="stream") as desk,
        reading(desk),
    ):
        assert endless.was_left.wait(SECONDS_MAX)


CONTENT = bytes(300_000)
HANGING = [f"hanging-{number}" for number in range(8)]


class StallingStore:
    """Begins to send every object, and sends the rest of none but one until it is closed."""

    def __init__(self, content: bytes, whole: str) -> None:
        """`whole`: what stands in the URL of the object that is sent."""
        released = self._released = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if whole not in self.path:
                    self.wfile.write(content[:10])
                    released.wait()
                with contextlib.suppress(OSError):
                    self.wfile.write(content if whole in self.path else content[10:])

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def stalling(tmp_path: pathlib.Path) -> Iterator[LinkDesk]:
    """Streams files of which only that of the task `whole` comes to its end."""
    with (
        contextlib.closing(StallingStore(CONTENT, "whole")) as store,
        serving(tmp_path, ScriptedStore(signed_url=store.url), mode="stream") as desk,
    ):
        for task_id in ("whole", *HANGING):
            record_stored(desk.ledger, CONTENT, task_id)
        yield desk


def test_reads_that_the_store_lets_hang_hold_up_no_other_reader(stalling: LinkDesk) -> None:
    with contextlib.ExitStack() as lines:
        for task_id in HANGING:
            lines.enter_context(asking(stalling, task_id))
        whole = stalling.get(link_of("whole"))

    assert (whole.status_code, whole.content) == (200, CONTENT)


def test_readers_of_one_file_leave_places_for_those_of_others(
    stalling: LinkDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "READERS_OF_FILE_MAX", 2)
    with asking(stalling, HANGING[0]), asking(stalling, HANGING[0]):
        statuses = [stalling.get(link_of(task_id)).status_code for task_id in (HANGING[0], "whole")]

    assert statuses == [503, 200]


def test_a_slow_reader_leaves_its_place_to_another(
    stalling: LinkDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "READERS_MAX", 1)
    monkeypatch.setattr(readers, "SLOW_SECONDS", 0.0)
    with asking(stalling, HANGING[0]) as slow:
        whole = stalling.get(link_of("whole"))
        rest = read_to_end(slow)

    assert (whole.status_code, whole.content) == (200, CONTENT)
    assert len(rest) < len(CONTENT)


def test_while_callbacks_are_committed_files_go_on_piece_by_piece(tmp_path: pathlib.Path) -> None:
    asked = 0

    def is_door_busy() -> bool:
        nonlocal asked
        asked += 1
        return True

    with (
        contextlib.closing(StallingStore(CONTENT, "whole")) as store,
        serving(
            tmp_path,
            ScriptedStore(signed_url=store.url),
            mode="stream",
            is_door_busy=is_door_busy,
        ) as desk,
    ):
        record_stored(desk.ledger, CONTENT, "whole")
        whole = desk.get(link_of("whole"))

    assert whole.content == CONTENT
    assert asked >= len(CONTENT) // 65536
