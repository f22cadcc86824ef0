"""`submit` as a process beside a real daemon: to the keys in the bucket, and through every way of being ended."""

import contextlib
import json
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from archiver.ledger import Ledger
from tests.harness.command_line import CommandLine
from tests.harness.daemons import FAMILY, Site, until
from tests.harness.terminal import act_at_terminal, ended_in_time, wait_until_printed
from tests.s3_servers import S3Server
from tests.simulator import faults

LOST = faults.Happened(faults.Hang())
"""The task is created, and the answer never comes."""


@pytest.fixture
def site(tmp_path: pathlib.Path, rclone_server: S3Server) -> Iterator[Site]:
    with Site(tmp_path, rclone_server) as made:
        made.environment["KLING_PUBLIC_URL"] = f"http://127.0.0.1:{made.port}"
        Ledger.open(made.environment["KLING_LEDGER_URL"], daemon=False, create=True).close()
        yield made


@contextlib.contextmanager
def submitting(site: Site, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command as a process; killed when it does not end by itself."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "archiver",
            "submit",
            FAMILY,
            "--prompt",
            "a red fox",
            *options,
        ],
        env={**site.environment, "KLING_LOG_LEVEL": "warning"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with ended_in_time(process):
        yield process


def created(site: Site) -> str:
    """The id of the one task upstream, once it is there."""
    until(site.sim.task_ids, what="a created task")
    (task_id,) = site.sim.task_ids()
    return task_id


def request_in_the_manifest(site: Site, task_id: str) -> object:
    return json.loads(site.content(f"{site.folder_of(task_id)}manifest.json"))["request"]


def test_submit_and_wait_ends_with_the_keys_that_are_in_the_bucket(site: Site) -> None:
    daemon = site.start()
    daemon.wait_ready()
    with submitting(site, "--n", "4", "--aspect-ratio", "16:9", "--wait") as process:
        said = wait_until_printed(process, "is being generated")
        task_id = created(site)
        site.sim.process(task_id)
        site.sim.succeed(task_id)
        output, errors = process.communicate()

    folder = site.folder_of(task_id)
    assert process.returncode == 0, errors
    names = [*(f"{n}.png" for n in range(4)), "manifest.json"]
    assert output.splitlines() == [f"s3://{site.bucket}/{folder}{name}" for name in names]
    assert said == f"kling-archiver: {task_id} is being generated\n"
    site.assert_archived(task_id)
    assert request_in_the_manifest(site, task_id) == {"prompt": "a red fox", "n": 4, "aspect_ratio": "16:9"}
    site.sim.wait_callbacks()
    assert {delivery.http_status for delivery in site.sim.deliveries} == {200}
    assert site.sim.complaints == []
    assert daemon.stop() == 0
    site.assert_silent_on_secrets()


def test_a_kill_right_after_a_create_whose_answer_was_lost_costs_nothing(site: Site) -> None:
    """Nothing but the registration can bring the task: it is in no list, and no callback comes."""
    site.sim.fault("create", LOST)
    site.sim.switches.callback_drop = True
    with submitting(site, "--n", "2") as process:
        task_id = created(site)
        process.kill()
        process.communicate()
    site.sim.hide_from_list(task_id)
    site.sim.succeed(task_id)
    daemon = site.start()
    site.wait_archived(task_id)

    assert process.returncode == -signal.SIGKILL
    site.assert_archived(task_id)
    assert request_in_the_manifest(site, task_id) == {"prompt": "a red fox", "n": 2}
    shown = site.show(task_id)
    assert shown is not None
    assert shown["external_task_id"] == site.sim.task(task_id).external_task_id
    assert shown["discovered_by"] == "registration"
    assert site.sim.requests["create"] == 1
    assert daemon.stop() == 0


def counted(site: Site) -> dict[str, int]:
    """State → how many tasks are in it."""
    with site.ledger() as ledger:
        return {state: count for state, count in ledger.views.status().states.items() if count}


def test_a_kill_while_a_callback_is_on_its_way_ends_in_one_task(site: Site) -> None:
    site.sim.fault("create", LOST)
    daemon = site.start()
    daemon.wait_ready()
    with submitting(site) as process:
        task_id = created(site)
        site.sim.succeed(task_id)
        process.kill()
        process.communicate()
    site.wait_archived(task_id)

    until(lambda: (site.show(site.sim.task(task_id).external_task_id or "") or {}).get("task_id") == task_id)
    until(lambda: counted(site) == {"archived": 1}, what="one archived task")
    assert daemon.stop() == 0
    assert counted(site) == {"archived": 1}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupting_the_wait_loses_nothing_and_says_how_to_go_on(
    site: Site, number: signal.Signals, status: int
) -> None:
    with submitting(site, "--wait") as process:
        wait_until_printed(process, "No kling-receiver has been seen")
        wait_until_printed(process, "is being generated")
        process.send_signal(number)
        output, errors = process.communicate()

    task_id = created(site)
    assert (process.returncode, output) == (status, "")
    assert "goes on by itself" in errors
    assert f"kling-archiver show {task_id}" in errors
    assert "Traceback" not in errors
    site.sim.succeed(task_id)
    site.start()
    site.wait_archived(task_id)


def test_ending_it_while_the_create_is_under_way_says_that_the_task_may_exist(site: Site) -> None:
    site.sim.fault("create", LOST)
    with submitting(site) as process:
        external_id = site.sim.task(created(site)).external_task_id
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()

    assert process.returncode == 130
    assert f"The task may have been created. It stays registered as {external_id}" in errors
    assert f"repeat the command with --external-task-id {external_id}" in errors
    assert site.show(external_id or "") is not None


def test_ending_it_while_it_waits_for_slots_says_that_nothing_was_created(site: Site) -> None:
    site.sim.fault("create", faults.over_concurrency())
    with submitting(site, "--external-task-id", "order-1") as process:
        wait_until_printed(process, "trying again in")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()

    assert process.returncode == 130
    assert "interrupted. Nothing was created by this run." in errors
    assert site.show("order-1") is None


def test_at_a_terminal_the_countdown_and_the_state_are_one_line_and_the_keys_come_last(site: Site) -> None:
    site.sim.fault("create", faults.over_concurrency(), times=1)
    daemon = site.start()
    daemon.wait_ready()
    line = CommandLine(site.folder / "ledger.db")
    options = ("submit", FAMILY, "--prompt", "a red fox", "--wait")

    def generate(shown: str) -> None:
        """Once the operator sees that the task is being generated, it is."""
        if "is being generated" in shown and site.sim.task(created(site)).status != "succeed":
            site.sim.succeed(created(site))

    status, screen = act_at_terminal(line, *options, on_shown=generate, settings=site.environment)

    folder = site.folder_of(created(site))
    assert status == 0
    assert "the account does not have 1 slot free (1303): trying again in " in screen
    assert screen.rstrip().endswith(f"{folder}manifest.json")
    assert daemon.stop() == 0
