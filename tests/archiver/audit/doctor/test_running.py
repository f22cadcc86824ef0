"""Checks run beside each other, each with an end, and none takes another with it."""

import threading
import time
from collections.abc import Iterator

import pytest

from archiver.audit.doctor import Check, Finding, Verdict, run
from archiver.audit.doctor.finding import ok
from archiver.failures import StoreUnreachable


def check(name: str, *messages: str, seconds_max: float = 10.0) -> Check:
    return Check(
        name, "Group", f"the {name}", lambda: [ok(message) for message in messages], seconds_max=seconds_max
    )


def waiting(event: threading.Event, *, seconds_max: float) -> Check:
    def find() -> Iterator[Finding]:
        yield ok("begun")
        event.wait()

    return Check("stuck", "Group", "the disk", find, seconds_max=seconds_max, late="Look at the disk.")


def test_findings_come_in_the_order_of_the_table() -> None:
    found = run([check("first", "1", "2"), check("second"), check("third", "3")])

    assert [[finding.message for finding in findings] for _, findings in found] == [["1", "2"], [], ["3"]]


def test_a_check_that_does_not_end_is_a_failure_and_keeps_no_other() -> None:
    ended = threading.Event()
    (_, stuck), (_, others) = run([waiting(ended, seconds_max=0.05), check("other", "fine")])
    ended.set()

    assert [finding.verdict for finding in stuck] == [Verdict.OK, Verdict.FAILED]
    assert (stuck[1].message, stuck[1].what_to_do) == (
        "the disk: no answer within 0.05 s",
        "Look at the disk.",
    )
    assert others[0].message == "fine"


def test_all_checks_together_have_an_end() -> None:
    ended = threading.Event()
    begun = time.monotonic()
    many = [waiting(ended, seconds_max=60) for _ in range(40)]
    found = [findings for _, findings in run(many, seconds_max=0.1)]
    ended.set()

    assert time.monotonic() - begun < 30
    assert all(findings[-1].verdict is Verdict.FAILED for findings in found)
    assert "not looked at in time" in found[-1][-1].message


@pytest.mark.parametrize(
    ("error", "message", "what_to_do"),
    [
        (StoreUnreachable("the disk: no route", what_to_do="Look."), "the disk: no route", "Look."),
        (KeyError("a bug"), "the disk: the check has crashed (KeyError)", "This is a bug"),
    ],
)
def test_a_check_that_raises_is_a_failure(error: Exception, message: str, what_to_do: str) -> None:
    def find() -> list[Finding]:
        raise error

    [(_, [finding])] = run([Check("disk", "Group", "the disk", find, account="shop")])

    assert (finding.verdict, finding.message, finding.check, finding.account) == (
        Verdict.FAILED,
        message,
        "disk",
        "shop",
    )
    assert finding.what_to_do.startswith(what_to_do)


def test_no_secret_is_in_a_finding() -> None:
    [(_, [finding])] = run([check("a", "token is abcdefgh")], secrets=["abcdefgh"])

    assert finding.message == "token is ***"


def test_where_the_system_gives_no_thread_the_checks_run_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)

    assert [findings[0].message for _, findings in run([check("a", "1"), check("b", "2")])] == ["1", "2"]
