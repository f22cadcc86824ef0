"""The API refuses, has no free slot, or its answer is lost."""

import json

import pytest

from tests.harness.command_line import (
    FAMILY,
    CommandLine,
)
from tests.harness.submitting import FOX, PUBLIC, TOKEN, sent
from tests.simulator import KlingSimulator, faults


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (400, 1300, "Kling's platform policy does not allow this request (1300)"),
        (400, 1301, "Kling's content safety refuses this request (1301)"),
        (429, 1100, "marked abnormal (1100)"),
        (429, 1101, "in arrears (1101): pay in Kling's console."),
        (429, 1102, "used up or has expired (1102)"),
        (400, 1200, "HTTP 400: because"),
        (400, 1201, "HTTP 400: because"),
    ],
)
def test_a_refusal_is_the_apis_reason_and_status_1_and_nothing_is_registered(
    line: CommandLine, simulator: KlingSimulator, status: int, code: int, advice: str
) -> None:
    simulator.fault("create", faults.ErrorCode(status, code, "because"))
    result = line.run(*FOX, "--external-task-id", "order-1", "--json")

    printed = json.loads(result.stdout)
    assert result.exit_code == 1
    assert advice in result.stderr
    assert (
        f"nothing was created. The API answered a request to create a task of {FAMILY} with code {code}"
        in result.stderr
    )
    assert (printed["outcome"], printed["task_id"]) == ("refused", None)
    assert printed["message"] in result.stderr
    assert line.run("show", "order-1").exit_code == 1
    assert simulator.requests["create"] == 1


def test_an_api_that_repeats_the_callback_url_does_not_make_us_print_the_token(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    url = f"https://us.example/kling/callbacks/{TOKEN}/{FAMILY}"
    simulator.fault("create", faults.ErrorCode(400, 1200, f"bad callback_url {url}"))
    result = line.run(*FOX, "--json", **PUBLIC)

    assert "bad callback_url https://us.example/kling/callbacks/***" in result.stderr
    assert TOKEN not in result.output


def test_an_external_id_of_another_task_is_refused_by_name(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    line.run(*FOX, "--external-task-id", "order-1")
    other = line.run("submit", FAMILY, "--prompt", "a blue fox", "--external-task-id", "order-1")

    assert other.exit_code == 1
    assert (
        f"order-1 belongs to task {sent(simulator).task_id}, which was not created by this request."
        in other.stderr
    )
    assert "Choose another external id" in other.stderr


def test_the_same_command_twice_pays_once(line: CommandLine, simulator: KlingSimulator) -> None:
    line.run(*FOX, "--external-task-id", "order-1")
    again = line.run(*FOX, "--external-task-id", "order-1")

    task_id = sent(simulator).task_id
    assert again.exit_code == 0
    assert again.stdout == f"{task_id} existed already (running); see: kling-archiver show {task_id}\n"
    assert "nothing was created or paid now" in again.stderr


def test_without_free_slots_it_says_how_many_are_needed_and_when_it_tries_again(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    simulator.switches.slots_max = 4
    busy = simulator.create_task(images=2)

    def free_at_the_second() -> None:
        if len(line.pauses) == 2:
            simulator.succeed(busy)

    line.on_pause = free_at_the_second
    result = line.run(*FOX, "--n", "4")

    lines = [text for text in result.stderr.splitlines() if "1303" in text]
    assert result.exit_code == 0
    assert len(lines) == 2
    assert "the account does not have 4 slots free (1303): trying again in " in lines[0]
    assert line.pauses[0] >= 1
    assert line.pauses[1] > 1


def test_waiting_for_slots_ends_at_the_timeout_with_nothing_created(
    line: CommandLine, simulator: KlingSimulator
) -> None:
    simulator.fault("create", faults.over_concurrency())
    result = line.run(*FOX, "--timeout", "10", "--json")

    assert result.exit_code == 1
    assert "no slot became free in time. Nothing was created." in result.stderr
    assert json.loads(result.stdout)["outcome"] == "refused"
    assert sum(line.pauses) <= 10
    assert sum(json.loads(line.run("status", "--json").stdout)["states"].values()) == 0


def test_a_lost_answer_is_looked_for_and_found(line: CommandLine, simulator: KlingSimulator) -> None:
    simulator.fault("create", faults.Cut(kept=0), times=1)
    result = line.run(*FOX)

    assert result.exit_code == 0
    assert "Asking for the task by its external id." in result.stderr
    assert sent(simulator).task_id in result.stdout
    assert simulator.requests["create"] == 1


@pytest.mark.parametrize(
    ("happened", "said"),
    [
        (False, "The API knows no task with that external id so far, so probably none was created."),
        (True, "The API cannot be asked now whether it was created."),
    ],
)
def test_an_unknown_outcome_says_what_to_do_and_doing_it_is_safe(
    line: CommandLine, simulator: KlingSimulator, happened: bool, said: str
) -> None:
    simulator.fault("create", faults.Happened(faults.server_error()) if happened else faults.Drop(), times=1)
    if happened:
        simulator.fault("query", faults.Html(502))
    result = line.run(*FOX, "--json", "--wait")
    printed = json.loads(result.stdout)
    name = printed["external_task_id"]

    assert (result.exit_code, printed["outcome"]) == (1, "unknown")
    assert said in result.stderr
    assert f"kling-archiver show {name}" in result.stderr
    assert f"repeat the command with --external-task-id {name}" in result.stderr
    assert line.run("show", name).exit_code == 0

    simulator.clear_faults()
    again = line.run(*FOX, "--external-task-id", name)
    assert again.exit_code == 0
    assert sent(simulator).task_id in again.stdout
