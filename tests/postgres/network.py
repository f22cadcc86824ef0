"""A network before a PostgreSQL server that fails on demand. It passes bytes on, and looks into none but those that a
test waits for."""

import contextlib
import enum
import pathlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

SOCKET_NAME = ".s.PGSQL.5432"
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset, and waits for nothing."""


_SESSION = b"K\x00\x00\x00\x0c"
"""Begins the message BackendKeyData: the number of the session and a key."""


class Fate(enum.Enum):
    """What becomes of bytes from the client."""

    PASSED = enum.auto()
    LOST = enum.auto()
    """The connection breaks before the server has them."""
    UNANSWERED = enum.auto()
    """The server has them and answers; the connection breaks before the client hears it."""


def pass_all(_sent: bytes) -> Fate:
    """Nothing fails."""
    return Fate.PASSED


class BadNetwork:
    """Listens on a loopback port, and passes on to the server whose socket lies in `folder`."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.judge: Callable[[bytes], Fate] = pass_all
        """Asked for all bytes of a client, from several threads."""
        self.is_refusing = False
        self.hides_sessions = False
        """Tells clients of another session than the one that they have, as poolers do."""
        self.flows = threading.Event()
        """Cleared while nothing arrives."""
        self.flows.set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._links: set[_Link] = set()
        self._lock = threading.Lock()

    def url(self, database: str) -> str:
        """As KLING_LEDGER_URL names the database behind it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def working(self) -> Iterator["BadNetwork"]:
        thread = threading.Thread(target=self._accept)
        thread.start()
        try:
            yield self
        finally:
            self.is_refusing = True
            with contextlib.suppress(OSError):  # wakes a thread that waits in accept()
                self._listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            self._listener.close()  # only now: the thread would accept from what next has this file descriptor
            self.flow()
            self.cut()

    def cut(self) -> int:
        """Break all connections; how many."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            link.cut()
        return len(links)

    def hang(self) -> None:
        """From now on nothing arrives, and nothing breaks."""
        self.flows.clear()

    def hang_present(self) -> None:
        """The same for the connections of now."""
        with self._lock:
            for link in self._links:
                link.flows.clear()

    def flow(self) -> None:
        """The end of `hang`."""
        self.flows.set()

    def once(self, words: bytes, fate: Fate) -> None:
        """The fate of the next bytes that contain these."""
        waiting = [words]

        def judge(sent: bytes) -> Fate:
            if waiting and waiting[0] in sent:
                waiting.clear()
                return fate
            return Fate.PASSED

        self.judge = judge

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_refusing:
                client.close()
                continue
            try:
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self.folder / SOCKET_NAME))
            except OSError:  # it does not run
                client.close()
                continue
            link = _Link(self, client, server)
            with self._lock:
                self._links.add(link)
            link.start()

    def forget(self, link: "_Link") -> None:
        """It has ended."""
        with self._lock:
            self._links.discard(link)


class _Link:
    """One connection."""

    def __init__(self, network: BadNetwork, client: socket.socket, server: socket.socket) -> None:
        self._network = network
        self._client = client
        self._server = server
        self.flows = threading.Event()
        self.flows.set()
        self._is_unanswered = False
        self._running = 2
        self._lock = threading.Lock()

    def start(self) -> None:
        for run in (self._send, self._answer):
            threading.Thread(target=self._run, args=(run,), daemon=True).start()

    def cut(self) -> None:
        """Both ends find it broken; the threads notice, and close it."""
        self.flows.set()
        with contextlib.suppress(OSError):
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _run(self, pump: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):
            pump()
        self.cut()
        with self._lock:
            self._running -= 1
            is_last = not self._running
        if is_last:
            self._client.close()
            self._server.close()
            self._network.forget(self)

    def _send(self) -> None:
        while sent := self._client.recv(65536):
            self._wait_for_flow()
            fate = self._network.judge(sent)
            if fate is Fate.LOST:
                return
            self._is_unanswered |= fate is Fate.UNANSWERED
            self._server.sendall(sent)

    def _wait_for_flow(self) -> None:
        self._network.flows.wait()
        self.flows.wait()

    def _answer(self) -> None:
        while answer := self._server.recv(65536):
            self._wait_for_flow()
            if self._is_unanswered:
                return
            if self._network.hides_sessions and (at := answer.find(_SESSION)) >= 0:
                at += len(_SESSION)
                answer = answer[:at] + bytes(4) + answer[at + 4 :]
            self._client.sendall(answer)
