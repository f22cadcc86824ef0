"""`submit --wait` follows the task into the bucket."""

import json

import pytest

from archiver.failures import NotMedia
from archiver.ledger import Ledger
from archiver.model import Callback, DiscoveredBy, State, Status
from tests.harness.command_line import (
    ACCOUNT,
    FAMILY,
    CommandLine,
    api_task,
    archive,
    bury,
)
from tests.harness.submitting import FOX, PUBLIC, request_of, sent
from tests.simulator import KlingSimulator, faults


def _other(line: CommandLine) -> Ledger:
    return Ledger.open(f"sqlite:///{line.path}", daemon=False, now=lambda: line.now)


def test_wait_prints_each_change_once_and_then_the_keys(line: CommandLine, simulator: KlingSimulator) -> None:
    """The daemon's part is played between two looks of the command."""

    def daemon() -> None:
        ledger = _other(line)
        ledger.daemons.beat("d", version="1", started_at=line.now)
        task_id = sent(simulator).task_id
        if len(line.pauses) == 3:
            ledger.records.record(
                [api_task(task_id)], account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=0.5
            )
        if len(line.pauses) == 5:
            archive(ledger, task_id)
        ledger.close()

    line.on_pause = daemon
    result = line.run(*FOX, "--wait", **PUBLIC)

    task_id = sent(simulator).task_id
    folder = f"kling/{FAMILY}/2026/11/20/{task_id}"
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"{folder}/0.png", f"{folder}/manifest.json"]
    assert result.stderr.splitlines() == [
        f"kling-archiver: {task_id} is being generated",
        f"kling-archiver: {task_id} has succeeded: 0 of 1 file in the bucket",
    ]
    assert set(line.pauses) == {0.5}


@pytest.mark.parametrize("state", [State.FAILED, State.BURIED])
def test_wait_ends_with_status_1_if_the_task_fails_or_is_buried(
    line: CommandLine, simulator: KlingSimulator, state: State
) -> None:
    def daemon() -> None:
        ledger, task_id = _other(line), sent(simulator).task_id
        status = Status.FAILED if state is State.FAILED else Status.SUCCEEDED
        ledger.records.record(
            [api_task(task_id, status, message="unsafe")],
            account=ACCOUNT,
            discovered_by=DiscoveredBy.SWEEP,
            rand=0.5,
        )
        if state is State.BURIED:
            bury(ledger, task_id, NotMedia("0 is HTML"))
        ledger.close()

    line.on_pause = daemon
    result = line.run(*FOX, "--wait", "--json")

    printed = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (printed["outcome"], printed["state"], printed["keys"]) == ("created", state, [])
    assert ("unsafe" if state is State.FAILED else "0 is HTML") in result.stderr
    assert printed["reason"] == ("failed_upstream" if state is State.FAILED else "not_media")


def test_wait_ends_with_status_1_once_the_task_is_forgotten(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    def forget() -> None:
        ledger = _other(line)
        ledger.tombstones.forget(sent(simulator).task_id, account=ACCOUNT)
        ledger.close()

    line.on_pause = forget
    result = line.run(*FOX, "--wait", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["reason"] == "task_forgotten"
    assert len(line.pauses) == 1


def test_wait_gives_up_at_the_timeout_and_says_how_to_go_on(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    result = line.run(*FOX, "--wait", "--timeout", "30")

    task_id = sent(simulator).task_id
    assert result.exit_code == 1
    assert "the results are not there yet." in result.stderr
    assert f"kling-archiver show {task_id}" in result.stderr
    assert 29 <= sum(line.pauses) <= 31


def test_wait_says_when_the_daemon_has_gone(line: CommandLine) -> None:
    result = line.run(*FOX, "--wait", "--timeout", "150")

    assert result.stderr.count("No kling-receiver has been seen on this ledger") == 1
    assert len(line.pauses) > 100


def test_an_existing_archived_task_prints_its_keys_at_once(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    line.run(*FOX, "--external-task-id", "order-1")
    task_id = sent(simulator).task_id
    with line.ledger() as ledger:
        ledger.records.record(
            [api_task(task_id)], account=ACCOUNT, discovered_by=DiscoveredBy.SWEEP, rand=0.5
        )
        archive(ledger, task_id)
    again = line.run(*FOX, "--external-task-id", "order-1", "--wait")

    assert again.exit_code == 0
    assert again.stdout.splitlines()[-1].endswith(f"{task_id}/manifest.json")
    assert line.pauses == []


def test_a_callback_before_the_answer_makes_no_second_task(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    def call_back() -> None:
        ledger = _other(line)
        ledger.callbacks.record([Callback(ACCOUNT, sent(simulator).task_id, Status.SUCCEEDED, FAMILY)])
        ledger.close()

    simulator.fault("create", faults.Cut(kept=0), times=1)
    line.on_pause = call_back
    simulator.fault("query", faults.ErrorCode(400, 1201, "task not found"), times=1)
    line.run(*FOX)

    states = json.loads(line.run("status", "--json").stdout)["states"]
    assert sum(states.values()) == 1
    assert request_of(line, sent(simulator).task_id) == {"prompt": "a red fox"}
