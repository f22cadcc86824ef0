"""What others break and others repair: the daemon stays up, says what to do, loses nothing, and goes on by itself.

A hold is probed every 30 s of real time. So all outages happen at once, to a daemon each: the first test to ask for
them starts everything, sees each daemon hold, posts callbacks meanwhile, and repairs; then each waits for its own.
"""

import contextlib
import dataclasses
import pathlib
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import sqlalchemy as sa

from archiver.ledger.tables import schema
from tests.harness.daemons import Daemon, Site, until
from tests.s3_servers import FaultyProxy, S3Server, faulty
from tests.simulator import faults

WORDS: Mapping[str, tuple[str, str, str]] = {
    # outage: stage, reason, what the sentence for the operator must name
    "bucket missing": ("archive", "bucket_missing", "KLING_S3_BUCKET"),
    "bucket read-only": ("archive", "bucket_forbidden", "policy"),
    "store out of space": ("archive", "store_full", "out of space"),
    "keys wrong": ("verify", "api_credentials_refused", "KLING_SECRET_KEY"),
    "pack used up": ("verify", "api_pack_used_up", "resource pack"),
    "address not allowed": ("verify", "api_address_not_allowed", "IP address"),
    "disk full": ("archive", "spool_full", "KLING_SPOOL_DIR"),
}


@dataclasses.dataclass
class Outage:
    """One daemon in trouble, and what it said of it."""

    site: Site
    repair: Callable[[], None]
    daemon: Daemon | None = None
    hold: dict[str, Any] = dataclasses.field(default_factory=dict)
    answers: list[int | None] = dataclasses.field(default_factory=list)
    """To callbacks posted before and while it was held."""
    ids: list[str] = dataclasses.field(default_factory=list)
    stored_meanwhile: set[str] = dataclasses.field(default_factory=set)

    def begin(self) -> None:
        self.daemon = self.site.start()

    def call_back(self, count: int = 2) -> None:
        for _ in range(count):
            task_id = self.site.create_task(images=2)
            self.ids.append(task_id)
            self.answers.append(self.site.call_back(task_id))


def no_bucket(site: Site) -> Callable[[], None]:
    def create() -> None:
        site.s3.client.create_bucket(Bucket=site.bucket)

    return create


def proxied(site: Site, proxy: FaultyProxy, status: int, code: str) -> Callable[[], None]:
    """The store refuses every put."""
    site.environment["KLING_S3_ENDPOINT_URL"] = proxy.endpoint_url
    proxy.on("PUT", faulty.answering(status, code))

    def repair() -> None:
        proxy.rule = lambda _: None

    return repair


def refusing(site: Site, status: int, code: int) -> Callable[[], None]:
    """The API answers every question with this code."""
    site.sim.fault("query", faults.ErrorCode(status, code))
    site.sim.fault("list", faults.ErrorCode(status, code))
    return site.sim.clear_faults


def full_disk(site: Site) -> Callable[[], None]:
    """A small file system for the spool, all of it taken, and images that are too large to stay in memory.

    Raises CalledProcessError where one cannot be mounted.
    """
    site.sim.switches.image_size = (1280, 1280)
    command = ["mount", "-t", "tmpfs", "-o", "size=48m", "spool", str(site.spool)]
    subprocess.run(command, check=True, capture_output=True)
    filler = site.spool / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(65536)):
            pass
    return filler.unlink


@pytest.fixture(scope="module")
def outages(
    tmp_path_factory: pytest.TempPathFactory, rclone_server: S3Server
) -> Iterator[Mapping[str, Outage]]:
    with contextlib.ExitStack() as opened:

        def site(bucket: str | None = None) -> Site:
            return opened.enter_context(Site(tmp_path_factory.mktemp("site"), rclone_server, bucket=bucket))

        def proxy() -> FaultyProxy:
            return opened.enter_context(FaultyProxy(rclone_server.port).serving())

        # A name of its own each time: the server outlives this fixture, and with it the bucket that the repair makes.
        missing = f"not-there-yet-{uuid.uuid4().hex[:8]}"
        sites = {name: site(missing if name == "bucket missing" else None) for name in WORDS}
        repairs = {
            "bucket missing": no_bucket(sites["bucket missing"]),
            "bucket read-only": proxied(sites["bucket read-only"], proxy(), 403, "AccessDenied"),
            "store out of space": proxied(sites["store out of space"], proxy(), 507, "InsufficientStorage"),
            "keys wrong": refusing(sites["keys wrong"], 401, 1002),
            "pack used up": refusing(sites["pack used up"], 429, 1102),
            "address not allowed": refusing(sites["address not allowed"], 429, 1304),
        }
        try:
            repairs["disk full"] = full_disk(sites["disk full"])
            opened.callback(subprocess.run, ["umount", str(sites["disk full"].spool)], check=True)
        except (OSError, subprocess.CalledProcessError):
            del sites["disk full"]  # its test says what is missing
        yield suffered({name: Outage(sites[name], repairs[name]) for name in sites})
        for outage in sites.values():
            for daemon in outage.daemons:
                daemon.kill()


def suffered(outages: Mapping[str, Outage]) -> Mapping[str, Outage]:
    """All of them, from the start to the hold; with callbacks before and after it, and then repaired."""
    for outage in outages.values():
        outage.begin()
    for outage in outages.values():
        assert outage.daemon is not None
        outage.daemon.wait_ready()
        outage.call_back()
    for name, outage in outages.items():
        assert outage.daemon is not None
        stage, reason, _ = WORDS[name]
        outage.hold = outage.daemon.wait_hold(stage, reason)
        outage.call_back()
        outage.stored_meanwhile = set() if name == "bucket missing" else outage.site.keys()
    for outage in outages.values():
        outage.repair()
    return outages


@pytest.mark.parametrize("name", WORDS)
def test_an_outage_is_a_hold_that_says_what_to_do_and_ends_by_itself(
    outages: Mapping[str, Outage], name: str
) -> None:
    if name not in outages:
        pytest.skip("no right to mount a small tmpfs for the spool (run as root with CAP_SYS_ADMIN)")
    outage, (stage, reason, named) = outages[name], WORDS[name]
    daemon = outage.daemon
    assert daemon is not None

    # while it lasted
    assert (outage.hold["stage"], outage.hold["reason"]) == (stage, reason)
    assert named in outage.hold["what_to_do"]
    assert outage.answers == [200] * 4
    assert outage.stored_meanwhile == set()
    until(lambda: daemon.events("hold.set"), what="the hold in the log")
    assert {event["level"] for event in daemon.events("hold.set")} == {"error"}

    # and after
    outage.site.wait_archived(*outage.ids, seconds=120)
    until(lambda: daemon.holds() == [], what="the hold to go")
    ready = daemon.readyz()
    assert ready is not None
    assert (daemon.is_running, ready[0]) == (True, 200)
    until(
        lambda: reason in {event["reason"] for event in daemon.events("hold.released")},
        what="its end in the log",
    )
    outage.site.assert_archived(*outage.ids)
    until(lambda: len(daemon.events("task.archived")) == len(outage.ids), what="every task in the log")
    assert {event["attempt"] for event in daemon.events("task.archived")} == {1}  # no task lost an attempt
    assert daemon.stop() == 0
    assert outage.site.sim.complaints == []
    outage.site.assert_silent_on_secrets()


def let_no_probe_come(site: Site) -> None:
    """Every hold is probed an hour later than it would be."""
    with site.ledger() as ledger, ledger.database.write() as connection:
        later = sa.update(schema.holds).values(probe_at=schema.holds.c.probe_at + 3_600_000)
        assert connection.execute(later).rowcount


def test_settings_that_are_repaired_by_a_restart_wait_for_no_probe(
    tmp_path: pathlib.Path, rclone_server: S3Server
) -> None:
    with Site(tmp_path, rclone_server) as site:
        daemon = site.start({"KLING_SECRET_KEY": "the-secret-key-of-another-region"})
        daemon.wait_ready()
        task_id = site.create_task()
        assert site.call_back(task_id) == 200
        daemon.wait_hold("verify", "api_credentials_refused")
        assert daemon.stop() == 0

        let_no_probe_come(site)
        daemon = site.start()
        site.wait_archived(task_id)
        assert daemon.stop() == 0
        assert "the-secret-key-of-another-region" not in site.daemons[0].output
        site.assert_silent_on_secrets()
