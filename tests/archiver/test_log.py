"""Logging: one line per event, declared names, and nothing secret in it whatever is thrown in."""

import ast
import datetime
import io
import json
import logging
import pathlib
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from archiver import log
from archiver.redaction import Redaction
from archiver.version import VERSION
from tests.harness.repository import ROOT

SECRET = "tk-9f8e7d6c5b4a3f2e"
SIGNED = (
    "https://user:pw123456@p1-kling.klingai.com/bs2/0.png?Expires=1&Signature=abcDEF123&ksTime=69#frag9999"
)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Leave the process's logging as it was found."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with warnings.catch_warnings():
        yield
    logging.captureWarnings(False)
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def set_up(*, format: log.Format = "json", level: str = "debug", strict: bool = True) -> io.StringIO:  # noqa: A002 - as in configure
    stream = io.StringIO()
    logging.getLogger().handlers = []  # pytest's own would raise at a record that does not fit its format
    log.configure(format=format, level=level, stream=stream, secrets=[SECRET], strict=strict)
    return stream


def line(stream: io.StringIO) -> dict[str, Any]:
    """The one line that was logged, parsed."""
    (only,) = stream.getvalue().splitlines()
    parsed: dict[str, Any] = json.loads(only, parse_constant=pytest.fail)
    return parsed


def test_an_event_is_one_line_of_json_with_time_level_event_version_and_its_fields() -> None:
    stream = set_up()
    log.get().info("task.archived", task_id="837", assets=2)

    logged = line(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", logged.pop("timestamp"))
    assert logged == {
        "level": "info",
        "event": "task.archived",
        "version": VERSION,
        "task_id": "837",
        "assets": 2,
    }


def test_the_time_on_a_line_is_when_it_was_logged() -> None:
    stream = set_up()
    before = datetime.datetime.now(datetime.UTC)
    log.get().info("task.archived")
    after = datetime.datetime.now(datetime.UTC)

    told = datetime.datetime.fromisoformat(line(stream)["timestamp"])
    assert before - datetime.timedelta(microseconds=1) <= told <= after


def test_the_time_on_a_line_is_universal_and_has_six_digits_of_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = set_up()
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        monkeypatch.setattr(time, "time_ns", lambda: 1_781_080_794_000_042_999)
        log.get().info("task.archived")
    finally:
        monkeypatch.undo()
        time.tzset()

    assert line(stream)["timestamp"] == "2026-06-10T08:39:54.000042Z"


def test_fields_bound_to_the_context_stand_on_the_line_and_are_gone_afterwards() -> None:
    stream = set_up()
    with log.bound(request_id="r-1"):
        log.get().info("callback.accepted")

    assert line(stream)["request_id"] == "r-1"
    log.get().info("callback.accepted")
    assert "request_id" not in json.loads(stream.getvalue().splitlines()[1])


def test_a_level_below_the_configured_one_writes_nothing_and_computes_nothing() -> None:
    class Costly:
        def __str__(self) -> str:
            raise AssertionError("rendered although nobody wants it")

    stream = set_up(level="warning")
    log.get().info("task.archived", task=Costly())

    assert stream.getvalue() == ""


def test_an_undeclared_event_raises_in_tests_and_passes_in_production() -> None:
    set_up(strict=True)
    with pytest.raises(log.UndeclaredEvent):
        log.get().info("task.vanished")

    stream = set_up(strict=False)
    log.get().info("task.vanished")
    assert line(stream)["event"] == "task.vanished"


def test_every_declared_event_is_a_noun_and_a_word() -> None:
    assert [name for name in log.EVENTS if not re.fullmatch(r"[a-z]+\.[a-z]+(_[a-z]+)*", name)] == []


def test_every_event_that_the_code_logs_is_declared() -> None:
    undeclared = {
        (path.name, name)
        for package in ("archiver", "receiver")
        for path in (ROOT / package).rglob("*.py")
        for name in logged_names(path)
        if name not in log.EVENTS
    }

    assert undeclared == set()


def logged_names(path: pathlib.Path) -> Iterator[str]:
    """The literal event names in calls like ``log.info("task.archived", …)``."""
    levels = {"debug", "info", "warning", "error", "exception", "critical"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in levels:
            names = [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
            # `parser.error("a sentence")` is no event.
            yield from (name for name in names if isinstance(name, str) and " " not in name)


@pytest.mark.parametrize("format", ["json", "console"])
def test_secrets_and_signed_urls_leave_no_trace_in_fields_or_tracebacks(format: log.Format) -> None:  # noqa: A002 - as in configure
    stream = set_up(format=format)
    try:
        int(f"GET {SIGNED} with {SECRET} refused")
    except ValueError:
        log.get().exception(
            "task.failed",
            url=SIGNED,
            nested={"urls": [SIGNED, (SECRET,)], "authorization": "Bearer abc.def.ghi"},
            callback_token="another-token",
            body=b"the body",
            message=f"path /callbacks/{SECRET}/images/generations",
            header="Authorization: Bearer eyJhbGciOi.eyJpc3MiOi.c2lnbmF0dXJl",
        )

    text = stream.getvalue()
    assert "ValueError" in text
    assert "https://p1-kling.klingai.com/bs2/0.png" in text
    gone = (SECRET, "Signature", "abcDEF123", "pw123456", "frag9999", "another-token", "the body", "eyJ")
    assert [secret for secret in gone if secret in text] == []


def test_a_known_secret_is_masked_in_its_percent_encoded_form_too() -> None:
    redaction = Redaction(["a secret/with=signs"])

    assert redaction.text("x a%20secret%2Fwith%3Dsigns y") == "x *** y"


def test_a_known_secret_of_letters_alone_is_masked_inside_a_word_and_inside_a_key() -> None:
    redaction = Redaction(["correcthorse9"])

    assert redaction.text("xcorrecthorse9y") == "x***y"
    assert redaction.fields({"correcthorse9": "correcthorse9"}) == {"***": "***"}


def test_a_very_short_secret_does_not_mask_half_of_every_word() -> None:
    assert Redaction(["ak"]).text("a task makes a mark") == "a task makes a mark"


def test_a_request_target_without_a_host_loses_its_query() -> None:
    assert Redaction().text('"GET /bucket/key?X-Amz-Signature=abc&x=1 HTTP/1.1" 403') == (
        '"GET /bucket/key HTTP/1.1" 403'
    )


def test_counts_whose_names_only_begin_like_a_secret_stay() -> None:
    assert Redaction().fields({"body_bytes": 7, "token_seconds": 8}) == {"body_bytes": 7, "token_seconds": 8}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet=st.characters()) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
)


@given(st.dictionaries(st.text(), anything))
def test_whatever_is_logged_the_redacted_fields_are_strict_json_on_one_line(
    fields: dict[str, object],
) -> None:
    rendered = json.dumps(Redaction([SECRET]).fields(fields), allow_nan=False, ensure_ascii=False)

    assert rendered.encode("utf-8")
    assert len(rendered.splitlines()) == 1


@pytest.mark.parametrize(
    "value",
    [10**5000, float("inf"), "\ud800", "a\nb\x1b[31m", {"a": {"b": [[[[1]]]]}}],
    ids=["huge integer", "infinity", "lone surrogate", "escape sequence", "nesting"],
)
@pytest.mark.parametrize("format", ["json", "console"])
def test_a_value_from_outside_cannot_break_or_forge_a_line(format: log.Format, value: object) -> None:  # noqa: A002 - as in configure
    stream = set_up(format=format)
    log.get().info("field.unknown", value=value)

    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b[31m" not in stream.getvalue()


def test_a_value_that_contains_itself_is_cut_off() -> None:
    loop: list[object] = []
    loop.append(loop)
    stream = set_up()
    log.get().info("field.unknown", value=loop)

    assert "nested too deep" in json.dumps(line(stream))


def test_a_secret_across_the_cut_of_a_long_text_is_masked_whole() -> None:
    text = Redaction([SECRET]).text("x" * 3_990 + SECRET, length_max=4_000)

    assert "tk-9" not in text


@pytest.mark.parametrize("name", ["botocore.endpoint", "httpx2", "uvicorn.error", "alembic.runtime", "other"])
def test_a_library_logs_through_the_same_renderer_from_warning_up(name: str) -> None:
    stream = set_up()
    library = logging.getLogger(name)
    library.debug("quiet")
    library.info("quiet")
    library.warning("fetching %s failed", SIGNED)

    logged = line(stream)
    assert (logged["event"], logged["logger"], logged["level"]) == ("library.logged", name, "warning")
    assert logged["message"] == "fetching https://p1-kling.klingai.com/bs2/0.png failed"


def test_a_library_record_with_a_traceback_a_bad_format_or_an_odd_level_is_still_one_line() -> None:
    stream = set_up()
    library = logging.getLogger("library")
    try:
        int(SECRET)
    except ValueError:
        library.log(37, "%d of %d", "one", exc_info=True)

    logged = line(stream)
    assert (logged["level"], logged["message"]) == ("warning", "%d of %d")
    assert "invalid literal for int() with base 10: '***'" in logged["exception"]
    logging.getLogger("library").log(99, "loud")
    assert json.loads(stream.getvalue().splitlines()[1])["level"] == "critical"


def test_configuring_twice_does_not_log_twice() -> None:
    set_up()
    stream = set_up()
    logging.getLogger("library").warning("once")

    assert line(stream)["message"] == "once"


def test_a_log_that_cannot_be_written_does_not_stop_the_work() -> None:
    script = """if True:
        from archiver import log
        log.configure(format="json", level="info")
        log.get().info("task.archived")
        log.get().info("task.archived")
        print("done")
    """
    with pathlib.Path("/dev/full").open("w") as full:  # every write: no space left on device
        done = subprocess.run(
            [sys.executable, "-c", script], check=False, stdout=subprocess.PIPE, stderr=full, cwd=ROOT
        )

    assert done.stdout == b"done\n"


def test_a_log_whose_stream_was_closed_does_not_stop_the_work() -> None:
    stream = set_up()
    stream.close()
    log.get().info("task.archived")

    assert stream.closed


def test_a_terminal_that_is_not_utf_8_gets_escapes_instead_of_an_error() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    log.configure(format="console", level="info", stream=stream, strict=True)
    log.get().info("field.unknown", value="Bild–Größe")

    assert rb"Bild\u2013Gr\xf6\xdfe" in raw.getvalue()


def test_in_a_plain_process_lines_and_warnings_go_to_standard_error_only() -> None:
    script = """if True:
        import warnings
        from archiver import log
        logger = log.get()
        log.configure(format="json", level="info")
        logger.info("daemon.started")
        warnings.warn("old thing")
        print("data")
    """
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert done.stdout == "data\n"
    assert [json.loads(text)["event"] for text in done.stderr.splitlines()] == [
        "daemon.started",
        "library.logged",
    ]


def test_what_an_outage_repeats_is_written_now_and_then_with_how_often_it_was_not() -> None:
    now = [0.0]
    sparing = log.Sparing(seconds=30, monotonic=lambda: now[0])

    said = []
    for now[0] in (0.0, 1.0, 29.9, 30.0, 31.0, 90.0, 200.0):
        said.append((now[0], sparing.fields("verify")))

    assert [(at, fields) for at, fields in said if fields is not None] == [
        (0.0, {}),
        (30.0, {"left_out": 2}),
        (90.0, {"left_out": 1}),
        (200.0, {}),
    ]
    assert sparing.fields("sweep") == {}
