"""A little DNS server over UDP whose answers a test writes: real packets for the system's own resolver.

It knows A records only, with a time to live of 0; every other type has no data, every other name does not exist.
A name's answers are a list of turns: each question for its addresses takes the next one, the last one for ever.
"""

import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

Turns = Sequence[Sequence[str]]
"""For each question in turn, the addresses that answer it."""

_TYPE_A = 1
_NO_ERROR, _NO_SUCH_NAME = 0x8180, 0x8183
_POINTER_TO_QUESTION = b"\xc0\x0c"


class NameServer:
    """Answers on one UDP address while it is `serving`."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._lock = threading.Lock()
        self._turns: dict[str, list[Sequence[str]]] = {}
        self.asked: Counter[str] = Counter()
        """Name → how often its addresses were asked for."""

    def answer(self, names: Mapping[str, Turns]) -> None:
        """From now on; forgets what was answered and asked before."""
        with self._lock:
            self._turns = {name: list(turns) for name, turns in names.items()}
            self.asked.clear()

    @contextlib.contextmanager
    def serving(self) -> Iterator["NameServer"]:
        thread = threading.Thread(target=self._serve, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as farewell:
                farewell.sendto(b"", self._socket.getsockname())
            thread.join()
            self._socket.close()

    def _serve(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(512)
            if not question:
                return
            self._socket.sendto(self._reply(question), asker)

    def _reply(self, question: bytes) -> bytes:
        name, end = _name_at(question, 12)
        (record_type,) = struct.unpack_from(">H", question, end)
        section = question[12 : end + 4]
        addresses = self._take(name) if record_type == _TYPE_A else ()
        flags = _NO_ERROR if name in self._turns else _NO_SUCH_NAME
        head = question[:2] + struct.pack(">HHHHH", flags, 1, len(addresses), 0, 0)
        return head + section + b"".join(_record(address) for address in addresses)

    def _take(self, name: str) -> Sequence[str]:
        with self._lock:
            self.asked[name] += 1
            turns = self._turns.get(name, [()])
            return turns.pop(0) if len(turns) > 1 else turns[0]


def _name_at(packet: bytes, start: int) -> tuple[str, int]:
    """A name without compression, as questions have it, and where it ends."""
    labels, at = [], start
    while length := packet[at]:
        labels.append(packet[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    return ".".join(labels).lower(), at + 1


def _record(address: str) -> bytes:
    return _POINTER_TO_QUESTION + struct.pack(">HHIH4s", _TYPE_A, 1, 0, 4, socket.inet_aton(address))
