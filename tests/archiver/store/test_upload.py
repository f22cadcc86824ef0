"""What goes out to the store, in pieces: as large as the line takes, and never more than it has shown to take."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.store.upload import PIECE_BYTES, PIECE_BYTES_MAX, QUICK_SECONDS, Body

CONTENT = bytes(range(256)) * 16_384  # 4 MiB
QUICK, SLOW = QUICK_SECONDS / 2, QUICK_SECONDS * 2
LINE_BYTES = 16_384
"""What urllib3 asks for, always."""


class Line:
    """Takes pieces as urllib3 does, and lets the clock go on by what each took."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pieces: list[bytes] = []

    def body(self, file: BinaryIO | None = None, *, asks_leave: bool = False) -> Body:
        return Body(
            io.BytesIO(CONTENT) if file is None else file,
            sha256="",
            asks_leave=asks_leave,
            monotonic=lambda: self.now,
        )

    def take(self, body: Body, seconds: Callable[[int], float]) -> list[int]:
        """All of the body, its piece number `n` in `seconds(n)`; how long the pieces were."""
        self.pieces = []
        while piece := body.read(LINE_BYTES):
            self.now += seconds(len(self.pieces))
            self.pieces.append(bytes(piece))
        return [len(piece) for piece in self.pieces]


def quick(_: int) -> float:
    return QUICK


@pytest.fixture
def line() -> Line:
    return Line()


def test_on_a_quick_line_pieces_double_up_to_the_largest(line: Line) -> None:
    lengths = line.take(line.body(), quick)

    assert lengths[:6] == [PIECE_BYTES * times for times in (1, 1, 2, 4, 8, 16)]
    assert max(lengths) == PIECE_BYTES_MAX
    assert b"".join(line.pieces) == CONTENT


def test_on_a_slow_line_no_piece_is_larger_than_the_first(line: Line) -> None:
    lengths = line.take(line.body(), lambda _: SLOW)

    assert set(lengths) == {PIECE_BYTES}
    assert b"".join(line.pieces) == CONTENT


def test_a_line_that_turns_slow_gets_the_smallest_piece_next(line: Line) -> None:
    lengths = line.take(line.body(), lambda number: SLOW if number == 4 else QUICK)

    assert lengths[4:8] == [PIECE_BYTES * times for times in (8, 1, 1, 2)]


@given(st.lists(st.sampled_from([0.0, QUICK, SLOW]), min_size=70, max_size=70))
def test_no_piece_is_larger_than_what_has_just_gone_quickly(took: list[float]) -> None:
    line = Line()
    lengths = line.take(line.body(), lambda number: took[number])

    quickly = 0
    for length, seconds in zip(lengths, took, strict=False):
        assert length <= max(quickly, PIECE_BYTES)
        quickly = quickly + length if seconds <= QUICK_SECONDS else 0
    assert b"".join(line.pieces) == CONTENT


def test_a_body_that_is_sent_a_second_time_goes_in_small_pieces(line: Line) -> None:
    body = line.body()
    line.take(body, quick)
    body.seek(0)

    assert set(line.take(body, quick)) == {PIECE_BYTES}
    assert b"".join(line.pieces) == CONTENT


def test_measuring_a_body_before_it_is_sent_is_not_sending_it(line: Line) -> None:
    body = line.body()
    body.seek(0, io.SEEK_END)
    length = body.tell()
    body.seek(0)

    assert length == len(CONTENT)
    assert max(line.take(body, quick)) == PIECE_BYTES_MAX


def test_a_body_that_asks_for_leave_goes_in_small_pieces(line: Line) -> None:
    assert set(line.take(line.body(asks_leave=True), quick)) == {PIECE_BYTES}


def test_a_file_on_the_disk_goes_in_the_same_pieces_as_one_in_memory(line: Line, tmp_path: Path) -> None:
    path = tmp_path / "spool"
    path.write_bytes(CONTENT)
    with path.open("rb", buffering=0) as file:
        from_disk = line.take(line.body(file), quick)
        assert b"".join(line.pieces) == CONTENT

    assert from_disk == line.take(line.body(), quick)


def test_all_of_a_body_can_be_read_at_once(line: Line) -> None:
    assert line.body().read() == CONTENT


def pieces_of(body: Body) -> Iterator[bytes | memoryview]:
    while piece := body.read(LINE_BYTES):
        yield piece


def test_a_file_whose_pieces_have_all_gone_can_be_closed(line: Line) -> None:
    file = io.BytesIO(CONTENT)
    body = line.body(file)
    for _ in pieces_of(body):
        pass
    body.close()

    assert file.read() == b""  # closing the body has left it open
    del body, _
    file.close()


def test_a_piece_that_somebody_still_holds_keeps_no_file_from_being_closed(line: Line) -> None:
    file = io.BytesIO(CONTENT)
    body = line.body(file)
    held = [body.read(LINE_BYTES), body.read(LINE_BYTES)]
    body.seek(0)  # for the second attempt
    held.append(body.read(LINE_BYTES))
    body.close()
    file.close()

    assert (file.closed, len(held)) == (True, 3)
