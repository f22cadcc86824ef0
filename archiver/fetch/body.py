"""Writes a response body into the spool and hashes it on the way.

`store_announced` exists for speed: see `connections`.
"""

import hashlib
from collections.abc import Callable, Iterator

import httpcore2

from archiver.failures import BodyIncomplete, SpoolFull, TooLarge
from archiver.fetch.connections import HttpExchange
from archiver.fetch.spool import BLOCK_BYTES, Reservation

GROWTH_BYTES = 4 * 1024 * 1024
"""How much is reserved at a time for a body of unknown length."""


class RunningDigests:
    """Digests of the bytes so far. Stores check an upload by MD5."""

    def __init__(self) -> None:
        self.bytes = 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def update(self, block: bytes | memoryview) -> None:
        self.bytes += len(block)
        self._sha256.update(block)
        self._md5.update(block)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()


def store_announced(exchange: HttpExchange, reservation: Reservation, *, length: int) -> RunningDigests:
    """From the socket into the spool's memory, or through one block to disk.

    Raises BodyIncomplete, SpoolFull, TooLarge.
    """
    if not length:
        raise BodyIncomplete("the body is empty")
    digests = RunningDigests()
    if reservation.is_in_memory:
        with reservation.in_place() as room:
            _fill(room, exchange)
            digests.update(room)
        return digests
    block = memoryview(bytearray(min(length, BLOCK_BYTES)))
    while digests.bytes < length:
        part = block[: length - digests.bytes]
        _fill(part, exchange)
        reservation.write(part)
        digests.update(part)
    return digests


def _fill(view: memoryview, exchange: HttpExchange) -> None:
    filled = 0
    while filled < len(view):
        count = exchange.read_into(view[filled:])
        if not count:
            raise BodyIncomplete("the connection ended before the body did")
        filled += count


def store_unannounced(
    exchange: HttpExchange, reservation: Reservation, *, bytes_max: int, check: Callable[[], object]
) -> RunningDigests:
    """Block by block. `check` raises once the time is up: one read may give thousands of pieces.

    Raises BodyIncomplete, SpoolFull, TooLarge.
    """
    digests = RunningDigests()
    received, block = 0, list[bytes]()
    for piece in _pieces(exchange):
        received += len(piece)
        check()
        if received > bytes_max:
            raise TooLarge(f"the body is larger than {bytes_max} bytes")
        block.append(piece)
        if received - digests.bytes >= BLOCK_BYTES:
            _write(b"".join(block), reservation, digests, bytes_max=bytes_max)
            block.clear()
    _write(b"".join(block), reservation, digests, bytes_max=bytes_max)
    if not digests.bytes:
        raise BodyIncomplete("the body is empty")
    reservation.resize(0)  # down to what was written
    return digests


def _pieces(exchange: HttpExchange) -> Iterator[bytes]:
    """Raises BodyIncomplete if the peer cut the transfer."""
    try:
        yield from exchange.pieces()
    except httpcore2.RemoteProtocolError as error:
        raise BodyIncomplete("the connection ended before the body did") from error


def _write(block: bytes, reservation: Reservation, digests: RunningDigests, *, bytes_max: int) -> None:
    wanted = digests.bytes + len(block)
    if wanted > reservation.bytes_reserved:
        try:
            reservation.resize(min(bytes_max, wanted + GROWTH_BYTES))
        except (SpoolFull, TooLarge):
            reservation.resize(wanted)  # the rest may be shorter
    reservation.write(block)
    digests.update(block)
