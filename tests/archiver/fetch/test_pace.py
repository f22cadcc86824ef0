"""How long a transfer may take: progress decides, on a clock that stands still but for the simulated line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpcore2
import pytest

from archiver.failures import FetchEnded, FetchTimeout, HostVerdict
from archiver.fetch.connecting import BoundedStream
from archiver.fetch.fetcher import SECONDS_MAX
from archiver.fetch.pace import Allowance
from archiver.fetch.spool import Spool
from tests.harness.server import MIB, answer, fetcher_for, png

KB = 1000


class Line(httpcore2.NetworkStream):
    """A connection that gives the head at once, then `piece_bytes` at a time, each after `seconds`."""

    def __init__(self, content: bytes, *, piece_bytes: int, seconds: float) -> None:
        self.now = 0.0
        head, _, body = content.partition(b"\r\n\r\n")
        self._ready = memoryview(head + b"\r\n\r\n")
        self._content = memoryview(body)
        self._piece_bytes = piece_bytes
        self._seconds = seconds
        self._allowed: float | None = None

    def clock(self) -> float:
        return self.now

    def settimeout(self, seconds: float | None) -> None:
        self._allowed = seconds

    def _next(self, count: int) -> memoryview:
        assert self._allowed is not None
        if not self._ready:
            self.now += min(self._seconds, self._allowed)
            if self._allowed < self._seconds:
                raise TimeoutError("timed out")
            self._ready = self._content[: self._piece_bytes]
            self._content = self._content[self._piece_bytes :]
        piece, self._ready = self._ready[:count], self._ready[count:]
        return piece

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._allowed = timeout
        return bytes(self._next(max_bytes))

    def recv_into(self, view: memoryview) -> int:
        piece = self._next(len(view))
        view[: len(piece)] = piece
        return len(piece)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        assert timeout is not None
        assert not buffer or buffer.startswith(b"GET ")

    def close(self) -> None:
        pass

    def get_extra_info(self, info: str) -> Any:
        return cast("Any", self) if info == "socket" else False


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """Every test ends with nothing promised."""
    spool = Spool(tmp_path / "spool")
    yield spool
    assert spool.promised_bytes == 0


def fetch(line: Line, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> bytes:
    def connect(*_: object, **__: object) -> BoundedStream:
        return BoundedStream(line)

    monkeypatch.setattr("archiver.fetch.egress.PinnedBackend.connect_tcp", connect)
    with (
        fetcher_for("http://cdn.example", spool=spool, idle_seconds=15.0, clock=line.clock) as fetcher,
        fetcher.fetch("http://cdn.example/a", bytes_max=100 * MIB) as fetched,
    ):
        return fetched.file.read()


@pytest.mark.parametrize(
    ("file_bytes", "piece_bytes", "seconds", "took"),
    [
        (3000 * KB, 110 * KB, 10, 280),
        (3000 * KB, 21 * KB, 2, 286),
        (17_000 * KB, 154 * KB, 14, 1550),
        (900 * KB, 130 * KB, 15, 105),
    ],
)
@pytest.mark.parametrize("announced", [True, False])
def test_a_transfer_that_is_alive_is_not_cut(
    announced: bool,
    file_bytes: int,
    piece_bytes: int,
    seconds: int,
    took: int,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = png(file_bytes)
    framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    line = Line(answer(body) if announced else head + framed, piece_bytes=piece_bytes, seconds=seconds)

    assert fetch(line, spool, monkeypatch) == body
    assert line.now == pytest.approx(took, abs=2 * seconds)


@pytest.mark.parametrize(
    ("piece_bytes", "seconds", "cut_at"),
    [(90 * KB, 10, 120), (1, 1, 120), (130 * KB, 14, 120), (1 * MIB, 16, 15)],
)
def test_a_transfer_below_the_pace_is_cut_after_two_minutes_and_counts_against_the_host(
    piece_bytes: int, seconds: int, cut_at: int, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(answer(png(3_000 * KB)), piece_bytes=piece_bytes, seconds=seconds)

    with pytest.raises(FetchTimeout) as raised:
        fetch(line, spool, monkeypatch)
    assert line.now == pytest.approx(cut_at, abs=seconds)
    assert raised.value.host_verdict is HostVerdict.DOWN


def test_a_transfer_that_is_alive_at_the_end_of_its_half_hour_is_no_failure_of_the_host(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(answer(png(22_000 * KB)), piece_bytes=130 * KB, seconds=11)

    with pytest.raises(FetchEnded, match="bytes had come from") as raised:
        fetch(line, spool, monkeypatch)
    assert line.now == SECONDS_MAX
    assert raised.value.host_verdict is HostVerdict.ANSWERS
    assert raised.value.reason == "fetch_timeout"


@pytest.mark.parametrize(
    ("bytes_per_minute", "alive"),
    [
        ([600 * KB] * 20, True),
        ([1200 * KB, 1] * 9, True),
        ([599 * KB] * 20, False),
        ([60_000 * KB, 1, 1, 1], False),
        ([1, 1, 60_000 * KB], False),
    ],
)
def test_the_pace_counts_over_two_minutes(bytes_per_minute: list[int], alive: bool) -> None:
    now = 0.0
    allowance = Allowance(until=1e9, idle_seconds=60.0, clock=lambda: now)
    allowance.begin_body()
    try:
        for count in bytes_per_minute:
            assert allowance.seconds() > 0
            now += 60
            allowance.came(count)
        allowance.seconds()
    except httpcore2.TimeoutException:
        assert not alive
    else:
        assert alive
