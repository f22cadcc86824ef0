"""What of a file a client wants, by its headers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.links.ranges import ByteRange, NotSatisfiable, has_it, wanted_range

ETAG = '"abc"'
SIZE = 1000


def wanted(value: str, *, condition: str | None = None, size: int = SIZE) -> ByteRange | None:
    headers = [(b"range", value.encode("latin-1"))]
    if condition is not None:
        headers.append((b"if-range", condition.encode()))
    return wanted_range(headers, size=size, etag=ETAG)


@pytest.mark.parametrize(
    ("value", "first", "count"),
    [
        ("bytes=0-1", 0, 2),  # Safari's first question
        ("bytes=0-", 0, 1000),  # Chromium's
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 10),
        ("Bytes = 10 - 19", 10, 10),
        ("bytes=990-", 990, 10),
        ("bytes=990-5000", 990, 10),
        ("bytes=-10", 990, 10),
        ("bytes=-5000", 0, 1000),
    ],
)
def test_one_range_is_read(value: str, first: int, count: int) -> None:
    assert wanted(value) == ByteRange(first, count)
    assert wanted(value, condition=ETAG) == ByteRange(first, count)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=0-1,5-6",
        "lines=0-1",
        "bytes=a-b",
        "bytes=+1-2",
        "bytes=0x1-2",
        f"bytes={'9' * 400}-",
        "bytes=1-2-3",
        "bytes=\xb2-3",
    ],
)
def test_what_is_no_single_range_means_the_whole_file(value: str) -> None:
    assert wanted(value) is None


@pytest.mark.parametrize("condition", ['"other"', 'W/"abc"', "Sat, 21 Nov 2026 10:00:00 GMT", "abc"])
def test_a_range_of_another_file_means_the_whole_file(condition: str) -> None:
    assert wanted("bytes=0-1", condition=condition) is None


@pytest.mark.parametrize("value", ["bytes=1000-", "bytes=1000-2000", "bytes=-0"])
def test_a_range_past_the_end_cannot_be_satisfied(value: str) -> None:
    with pytest.raises(NotSatisfiable):
        wanted(value)


def test_two_headers_of_ranges_mean_the_whole_file() -> None:
    assert wanted_range([(b"range", b"bytes=0-1")] * 2, size=SIZE, etag=ETAG) is None


@given(st.text(st.characters(max_codepoint=255)), st.integers(0, 2**63))
def test_any_range_lies_within_the_file(value: str, size: int) -> None:
    try:
        found = wanted(f"bytes={value}", size=size)
    except NotSatisfiable:
        return
    assert found is None or (found.count > 0 and found.first + found.count <= size)


@pytest.mark.parametrize(
    ("value", "has"),
    [
        ('"abc"', True),
        ('W/"abc"', True),
        ('"x", "abc"', True),
        ("*", True),
        ('"ab"', False),
        ("abc", False),
        ("", False),
    ],
)
def test_a_client_has_the_file_that_its_header_names(value: str, has: bool) -> None:
    assert has_it([(b"if-none-match", value.encode())], etag=ETAG) is has
    assert not has_it([(b"if-none-match", value.encode())], etag=None)
