"""What readers that take nothing cost in memory: little, however long the file is."""

import contextlib
import pathlib
import socket
import threading
import tracemalloc
from collections.abc import Iterator

import pytest

from archiver.store import object_streams
from tests.harness.edge import SECONDS_MAX
from tests.harness.links import LinkDesk, ScriptedStore, link_of, record_stored, serving

READERS = 24
SIZE = 2**31
PIECE = bytes(65536)
OTHER_BYTES = 64 * 1024
"""A reader's connections, tasks and parsers."""


class CrowdedStore:
    """Sends a film of zeros on every connection, as much as is taken."""

    def __init__(self) -> None:
        self.stuck = threading.Semaphore(0)
        """One for each reader that has taken nothing for half a second."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = self._socket.accept()
                threading.Thread(target=self._send, args=(line,), daemon=True).start()

    def _send(self, line: socket.socket) -> None:
        is_stuck = False
        line.settimeout(0.5)
        with line, contextlib.suppress(ConnectionError):
            line.recv(65536)
            line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
            while True:
                try:
                    line.send(PIECE)
                except TimeoutError:
                    if not is_stuck:
                        self.stuck.release()
                    is_stuck = True

    def close(self) -> None:
        with contextlib.suppress(OSError):  # wakes a thread that waits in accept()
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(SECONDS_MAX)
        self._socket.close()  # only now: the thread would accept from what next has this file descriptor


@contextlib.contextmanager
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


@contextlib.contextmanager
def stuck_readers(desk: LinkDesk, store: CrowdedStore, count: int) -> Iterator[None]:
    """So many read a film, and have taken nothing but the first bytes until the store could send nothing more."""
    with contextlib.ExitStack() as opened:
        for _ in range(count):
            line = opened.enter_context(desk.edge.connection())
            line.sendall(f"GET {link_of()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert line.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        for _ in range(count):
            assert store.stuck.acquire(timeout=SECONDS_MAX)
        yield


@pytest.mark.parametrize(
    ("pieces_bytes_max", "piece_bytes"),
    [
        (READERS * object_streams.PIECE_BYTES_MAX, object_streams.PIECE_BYTES_MAX),
        (0, object_streams.PIECE_BYTES_MIN),
    ],
    ids=["few readers", "many readers"],
)
def test_a_reader_that_takes_nothing_keeps_one_piece_which_is_smaller_when_there_are_many_readers(
    tmp_path: pathlib.Path, pieces_bytes_max: int, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_streams, "PIECES_BYTES_MAX", pieces_bytes_max)
    with (
        contextlib.closing(CrowdedStore()) as store,
        serving(tmp_path, ScriptedStore(signed_url=store.url), mode="stream") as desk,
    ):
        record_stored(desk.ledger, b"a film", extension="mp4")
        desk.ledger.write("UPDATE assets SET bytes = ?", SIZE)
        with stuck_readers(desk, store, 1):
            """Keeps what all share."""
        with traced(), stuck_readers(desk, store, READERS):
            kept, peak = tracemalloc.get_traced_memory()

    assert kept <= READERS * (piece_bytes + OTHER_BYTES)
    assert peak <= READERS * (2 * piece_bytes + OTHER_BYTES)
