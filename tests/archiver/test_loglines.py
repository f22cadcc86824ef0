"""The log at a terminal: what an operator reads first, and that it fits."""

import io
import json
import logging
import re
import unicodedata
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver import log
from archiver.loglines import COLUMNS_MAX, lines_of
from archiver.redaction import Redaction

ID = "831768251064815642"
KEY = f"kling/images/editing/expand/2026/11/27/{ID}/0.png"
ADVICE = (
    "Check KLING_ACCESS_KEY and KLING_SECRET_KEY (or KLING_API_KEY), and that KLING_BASE_URL belongs to the same "
    "region."
)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(False)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def shown(event: str, level: str = "info", **fields: object) -> list[str]:
    """What is written for an event at 03:08:05."""
    first = {"timestamp": "2026-11-27T03:08:05.123456Z", "level": level, "event": event}
    return lines_of({**first, **Redaction().fields(fields)}, colours=False).splitlines()


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def test_an_event_is_time_to_the_second_level_event_fields_and_ids_last() -> None:
    assert shown("task.archived", task_id=ID, account="eu", assets=4, seconds=1.25, host=None) == [
        f"03:08:05Z info task.archived account=eu assets=4 seconds=1.25 task_id={ID}"
    ]


def test_a_sentence_and_what_to_do_come_before_everything_else_and_are_never_cut() -> None:
    lines = shown(
        "hold.set",
        "warning",
        account="eu",
        stage="archive",
        message="the API refuses the keys of this account: code 1002",
        what_to_do=ADVICE,
        task_id=ID,
    )

    assert lines == [
        "03:08:05Z warning hold.set the API refuses the keys of this account: code 1002",
        "    Check KLING_ACCESS_KEY and KLING_SECRET_KEY (or KLING_API_KEY), and that KLING_BASE_URL belongs",
        "    to the same region.",
        f"    account=eu stage=archive task_id={ID}",
    ]


def test_a_long_value_is_shortened_and_ids_stay_whole() -> None:
    (line,) = shown("asset.stored", task_id=ID, outcome="uploaded", key=KEY)

    assert line == f"03:08:05Z info asset.stored outcome=uploaded key=…/0.png task_id={ID}"


def test_the_id_of_a_request_gives_way_to_that_of_its_task() -> None:
    request = "3b1f7e5e-3a77-4e9b-9a53-4e7c5e9c1d2f"
    (with_task,) = shown("callback.accepted", task_id=ID, request_id=request, family="images/generations")
    (alone,) = shown("callback.refused", request_id=request, reason="x" * 90)

    assert with_task == f"03:08:05Z info callback.accepted family=images/generations task_id={ID}"
    assert alone.endswith(f"… request_id={request}")


def test_what_no_id_stands_for_is_wrapped_and_not_shortened() -> None:
    families = [
        "images/generations",
        "images/editing/expand",
        "images/multi-image2image",
        "images/omni-image",
    ]
    lines = shown(
        "daemon.started", ledger="/data/kling-ledger.db", bucket="results", families=families, public_url=None
    )

    assert max(map(len, lines)) <= COLUMNS_MAX
    assert " ".join(line.strip() for line in lines) == (
        f"03:08:05Z info daemon.started ledger=/data/kling-ledger.db bucket=results families={','.join(families)}"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("two words", 'value="two words"'),
        ("a\nb", r'value="a\nb"'),
        ("", 'value=""'),
        (["images/generations", "videos/text2video"], "value=images/generations,videos/text2video"),
        (["two words"], 'value=["two words"]'),
        ({"a": 1}, 'value={"a":1}'),
        (True, "value=true"),
    ],
)
def test_every_kind_of_value_is_legible(value: object, text: str) -> None:
    assert shown("field.unknown", value=value) == [f"03:08:05Z info field.unknown {text}"]


names = st.sampled_from(["message", "what_to_do", "key", "account", "reason", "missing", "fields", "count"])
texts = st.text(st.characters(), max_size=120) | st.text(st.sampled_from("ab /=图片 "), max_size=400)


@settings(max_examples=60)
@given(st.dictionaries(names, texts | st.integers() | st.lists(texts, max_size=2), max_size=5), st.booleans())
def test_whatever_is_logged_fits_100_columns_and_keeps_its_id(
    fields: dict[str, object], has_id: bool
) -> None:
    if has_id:
        fields["task_id"] = ID
    lines = shown("sweep.row_skipped", "warning", **fields)

    assert max(map(columns, lines)) <= COLUMNS_MAX
    assert lines[0].startswith("03:08:05Z warning sweep.row_skipped")
    assert not has_id or lines[-1].endswith(f"task_id={ID}")
    assert len(lines) <= 16


def test_colours_add_nothing_but_colours_and_a_traceback_follows_its_line() -> None:
    event = {
        "timestamp": "2026-11-27T03:08:05.123456Z",
        "level": "error",
        "event": "worker.crashed",
        "loop": "sweep",
        "exception": "Traceback (most recent call last):\n  ValueError: x",
    }
    plain, coloured = lines_of(event, colours=False), lines_of(event, colours=True)

    assert plain.splitlines()[0] == "03:08:05Z error worker.crashed loop=sweep"
    assert plain.splitlines()[1:] == event["exception"].splitlines()
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    assert coloured != plain


def test_a_line_of_json_begins_with_time_level_and_event() -> None:
    stream = io.StringIO()
    log.configure(format="json", level="info", stream=stream, strict=True)
    with log.bound(account="eu"):
        log.get().warning("task.archived", task_id=ID, message="x")

    assert list(json.loads(stream.getvalue()))[:3] == ["timestamp", "level", "event"]
