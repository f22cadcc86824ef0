"""Runs that the store or a stop ends, and runs that resume."""

import threading
from typing import Any

import pytest

from archiver.archive.manifest import FILE_NAME
from archiver.audit.places import Span
from archiver.audit.sample import Sample
from archiver.audit.unread import FAILURES_IN_A_ROW_MAX
from archiver.audit.verification import VerifiedAccount
from archiver.failures import (
    BucketForbidden,
    Failure,
    ObjectInColdStorage,
    Stopped,
    StoreError,
    StoreMismatch,
    StoreUnreachable,
)
from tests.harness.audited import Audited, cut, lose, lose_all
from tests.harness.ledgers import ACCOUNT, DAY, FAMILY, START
from tests.harness.patience import patient


def _failing(audited: Audited, error: Failure, *, operation: str = "digest", key: str = "") -> None:
    def hook(asked: str, about: str) -> tuple[bool, BaseException | None]:
        return True, error if asked == operation and about.endswith(key) else None

    audited.store.hook = hook


def test_an_object_that_alone_cannot_be_read_is_an_error_and_the_run_goes_on(audited: Audited) -> None:
    task, other = audited.archive("881"), audited.archive("882")
    _failing(audited, ObjectInColdStorage("it sleeps"), key=task.asset(0).key)

    lines = audited.lines()

    assert lines == [
        f"! {task.asset(0).key}",
        f"= {task.folder}manifest.json",
        f"= {other.folder}0.png",
        f"= {other.folder}manifest.json",
    ]


def test_a_store_that_refuses_one_object_is_not_a_store_that_refuses_all(audited: Audited) -> None:
    task = audited.archive("881")
    _failing(audited, BucketForbidden("no kms:Decrypt"), key=task.asset(0).key)

    (fault,) = audited.faults()
    assert (fault.symbol, fault.message) == ("!", "no kms:Decrypt")


def test_objects_that_the_store_lists_and_does_not_have_are_missing_however_many(audited: Audited) -> None:
    tasks = [audited.archive(f"{number:02}") for number in range(FAILURES_IN_A_ROW_MAX + 1)]
    _failing(audited, StoreMismatch("no object is there"))

    faults = audited.faults(repair=True)

    assert [fault.key for fault in faults] == [task.asset(0).key for task in tasks]
    assert {(fault.symbol, fault.message) for fault in faults} == {
        ("+", "the store lists it, and has nothing to read")
    }


def test_a_store_that_stays_away_ends_the_run_which_goes_on_after_what_is_done(audited: Audited) -> None:
    tasks = [audited.archive(f"88{number}") for number in range(5)]
    cut(audited, tasks[1])

    def hook(operation: str, key: str) -> tuple[bool, BaseException | None]:
        is_down = operation == "check" or (operation == "digest" and key == tasks[3].asset(0).key)
        return True, StoreUnreachable("no route") if is_down else None

    audited.store.hook = hook
    first = audited.verification()
    seen = []
    with pytest.raises(StoreUnreachable):
        seen += [finding.key for finding in iter(first.run().__next__, None)]
    first.save()

    audited.store.hook = lambda *_: (True, None)
    second = audited.verification()
    assert second.resume()
    rest = [finding.key for finding in second.run()]

    assert rest == [task.folder + name for task in tasks[3:] for name in ("0.png", FILE_NAME)]
    assert (second.counts.folders, second.counts.same, second.counts.different) == (5, 9, 1)
    assert not audited.verification().resume(), "it is done"


def test_a_run_that_is_killed_loses_seconds_and_prints_no_line_less(audited: Audited) -> None:
    for number in range(30):
        audited.archive(f"{number:03}")
    everything = audited.lines()
    first = audited.verification()
    printed: list[str] = []
    for finding in first.run():
        audited.clock += 0.5
        printed.append(f"{finding.symbol} {finding.key}")
        if len(printed) == 25:
            break

    second = audited.verification()
    assert second.resume()
    rest = [f"{finding.symbol} {finding.key}" for finding in second.run()]

    assert list(dict.fromkeys(printed + rest)) == everything
    repeated = len(printed) + len(rest) - len(everything)
    assert 0 <= repeated <= 2 * 5 / 0.5
    assert second.counts.same == len(everything)


def test_a_run_with_other_choices_is_another_run(audited: Audited) -> None:
    audited.archive("881")
    audited.verification(span=Span(family=FAMILY)).save()

    assert not audited.verification().resume()
    assert not audited.verification(span=Span(family=FAMILY), sample=Sample(10)).resume()
    assert not audited.verification(span=Span(family=FAMILY), repair=True).resume()
    assert audited.verification(span=Span(family=FAMILY)).resume()
    audited.store.location = "a copy of the bucket"
    assert not audited.verification(span=Span(family=FAMILY)).resume()


def test_a_run_with_repair_requests_what_an_interrupted_run_without_it_found_missing(
    audited: Audited,
) -> None:
    tasks = [audited.archive(f"88{number}") for number in range(3)]
    lose(audited, tasks[0])
    first = audited.verification()
    for finding in first.run():
        if finding.key.startswith(tasks[2].folder):
            break
    first.save()

    second = audited.verification(repair=True)
    assert not second.resume()
    assert [finding.key for finding in second.run() if finding.is_fault] == [tasks[0].asset(0).key]
    assert second.counts.wanted_back == 1


def test_a_resumed_run_knows_when_its_first_part_began(audited: Audited) -> None:
    audited.archive("881")
    first = audited.verification()
    first.save()
    audited.desk.clock.advance(DAY // 2)
    second = audited.verification()
    assert second.resume()
    second.save()
    audited.desk.clock.advance(DAY // 2)

    third = audited.verification()
    assert third.resume()
    assert third.resumed_from == START

    audited.desk.clock.advance(DAY)
    fourth = audited.verification()
    assert not fourth.resume(), "what was checked so long ago is checked again"
    assert fourth.resumed_from is None


@pytest.mark.parametrize("stray", ["kling/README.md", "kling/images/.DS_Store", "kling/images/generations/x"])
def test_a_run_goes_on_after_a_stray_object_with_all_that_lies_beside_it(
    audited: Audited, stray: str
) -> None:
    task = audited.archive("881", prefix="kling/")
    audited.store.place(stray, b"stray")
    account = VerifiedAccount(ACCOUNT, frozenset({ACCOUNT}), "kling/")
    everything = [finding.key for finding in audited.verification(account).run()]
    assert everything == sorted([stray, task.asset(0).key, task.folder + FILE_NAME])

    first = audited.verification(account)
    printed: list[str] = []
    for finding in first.run():
        printed.append(finding.key)
        if first.reached.after_key:
            break
    first.save()
    second = audited.verification(account)
    assert second.resume()

    rest = [finding.key for finding in second.run()]
    assert list(dict.fromkeys(printed + rest)) == everything


def test_of_several_accounts_the_run_goes_on_with_the_one_it_was_at(audited: Audited) -> None:
    names = ("team-a", "team-b")
    accounts = [VerifiedAccount(name, frozenset({name}), f"{name}/") for name in names]
    tasks = [
        audited.archive(f"88{place}", account=name, prefix=f"{name}/") for place, name in enumerate(names)
    ]
    lose_all(audited, audited.archive("9", account="team-a", prefix="team-a/"))
    first = audited.verification(*accounts)
    for finding in first.run():
        if finding.key.startswith("team-b/"):
            break
    first.save()

    second = audited.verification(*accounts)
    assert second.resume()
    rest = [finding.key for finding in second.run()]

    assert rest == [tasks[1].folder + "0.png", tasks[1].folder + FILE_NAME]
    assert (second.counts.same, second.counts.missing) == (4, 2)


def test_a_run_can_be_resumed_in_its_second_pass(audited: Audited) -> None:
    lose_all(audited, audited.archive("881"))
    first = audited.verification()
    findings = first.run()
    next(findings)
    first.save()
    assert first.reached.is_ledgers_turn

    second = audited.verification()
    assert second.resume()
    assert [finding.symbol for finding in second.run()] == ["+", "+"]
    assert second.counts.missing == 2


def test_a_store_that_fails_now_and_then_costs_only_time(audited: Audited) -> None:
    for number in range(5):
        audited.archive(f"88{number}")
    turn = iter(range(10_000))

    def hook(operation: str, _key: str) -> tuple[bool, BaseException | None]:
        fails = operation in ("digest", "read", "head", "list_after") and next(turn) % 3 == 0
        return True, StoreError("503") if fails else None

    audited.store.hook = hook

    assert audited.faults() == []


def test_a_stop_ends_the_reading_of_a_large_file(audited: Audited) -> None:
    task = audited.archive("881")
    stop = threading.Event()
    reader = patient(audited.store, stop=stop)

    def on_piece(_size: int) -> None:
        stop.set()

    audited.store.digest = _in_pieces  # type: ignore[method-assign,assignment]  # a large file
    with pytest.raises(Stopped):
        reader.digest(task.asset(0).key, on_piece=on_piece)


def _in_pieces(_key: str, *, on_piece: Any) -> tuple[str, int]:
    for _ in range(100):
        on_piece(1)
    raise AssertionError("read to its end")
