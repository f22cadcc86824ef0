"""A daemon whose event loop hangs, and nothing outside that would end it: as in Docker."""

import pathlib
import signal
import time
from collections.abc import Iterator

import pytest

from tests.harness.daemons import Site, until
from tests.s3_servers import S3Server

PROGRAM = ("tests.harness.hanging_receiver",)


@pytest.fixture
def site(tmp_path: pathlib.Path, rclone_server: S3Server) -> Iterator[Site]:
    with Site(tmp_path, rclone_server) as made:
        yield made


def test_a_daemon_whose_event_loop_hangs_ends_itself_and_the_next_one_archives_what_it_had(
    site: Site,
) -> None:
    daemon = site.start({"HANG_ROUNDS": "20"}, program=PROGRAM)
    daemon.wait_ready()
    task_id = site.sim.create_task(callback_url=site.callback_url)
    site.sim.process(task_id)
    until(lambda: (site.show(task_id) or {}).get("state") == "running", what="the task to be known")

    daemon.send_signal(signal.SIGUSR1)
    assert daemon.wait() == 1
    (line,) = daemon.events("daemon.aborted")
    assert any(frame.endswith(" hang_here") for frame in line["frames"])
    assert any("sweep-loop" in place for place in line["threads"])
    site.assert_silent_on_secrets()

    site.sim.succeed(task_id)
    heir = site.start()
    site.wait_archived(task_id)
    assert heir.stop() == 0


def test_a_daemon_that_was_stopped_for_longer_goes_on_when_it_wakes(site: Site) -> None:
    """SIGSTOP here; a suspended machine and a debugger stop all threads too."""
    daemon = site.start({"HANG_ROUNDS": "20"}, program=PROGRAM)
    daemon.wait_ready()
    begun_at = time.monotonic()
    with daemon.frozen():
        until(lambda: time.monotonic() - begun_at > 2.5, what="more than 20 rounds of 0.1 s to pass")
    daemon.wait_ready()

    assert daemon.events("daemon.aborted") == []
    assert daemon.stop() == 0
