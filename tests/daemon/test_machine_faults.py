"""A machine that runs short: of disk for the ledger, of file descriptors, of memory. On real daemons.

Whatever was answered 200 must end in the bucket; what cannot be committed is answered 503 or not at all; the process
stays alive and goes on by itself, without a restart, once it has again what it lacked. Limits are set on the running
process from outside (prlimit), as a container's runtime would.

A hold is probed every 30 s of real time, so all the trouble happens at once, to a daemon each.
"""

import contextlib
import dataclasses
import pathlib
import resource
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping

import pytest

from archiver.engine.pools import PrestartedPool
from archiver.failures import LedgerUnavailable
from archiver.fetch.connecting import PinnedBackend
from archiver.ledger.databases.sqlite import SqliteDatabase
from archiver.lookups import LOOKUPS_MAX
from archiver.model import Callback, Status
from tests.harness.daemons import FAMILY, Daemon, Site, until
from tests.harness.edge import Edge, legacy_body
from tests.harness.ledgers import ACCOUNT, Desk
from tests.s3_servers import S3Server

TASKS = {"disk for the ledger": 10, "file descriptors": 4, "memory": 30}
"""While it lasts. Without descriptors one fewer than hold a host, whose probe would be half a minute away; without
memory enough to ask for every thread there may be."""
PAGE_BYTES = resource.getpagesize()
NO_TMPFS = "no right to mount a small tmpfs for the ledger (run as root with CAP_SYS_ADMIN)"


def process_id(daemon: Daemon) -> int:
    return daemon.pid


@dataclasses.dataclass
class Shortage:
    """One daemon that lacks something, and what it answered meanwhile."""

    site: Site
    daemon: Daemon
    begin: Callable[[], Callable[[], object]]
    """Takes it away; returns how to give it back."""
    answers: dict[str, int | None] = dataclasses.field(default_factory=dict)
    """Task → what its callback was answered."""
    ready: list[int | None] = dataclasses.field(default_factory=list)

    def call_back(self, count: int) -> None:
        for _ in range(count):
            task_id = self.site.create_task(images=2)
            self.answers[task_id] = self.site.call_back(task_id)

    def acknowledged(self) -> list[str]:
        return [task_id for task_id, status in self.answers.items() if status == 200]


def short_of(daemon: Daemon, kind: int, most: Callable[[int], int]) -> Callable[[], Callable[[], object]]:
    """A limit of the running process, at what it has now; `most` says how much that is."""

    def begin() -> Callable[[], object]:
        process = process_id(daemon)
        soft, hard = resource.prlimit(process, kind)
        resource.prlimit(process, kind, (most(process), hard))
        return lambda: resource.prlimit(process, kind, (soft, hard))

    return begin


def open_files(process: int) -> int:
    return len(list(pathlib.Path(f"/proc/{process}/fd").iterdir()))


def address_space(process: int) -> int:
    pages = pathlib.Path(f"/proc/{process}/statm").read_text().split()[0]
    return int(pages) * PAGE_BYTES


def full(folder: pathlib.Path) -> Callable[[], Callable[[], object]]:
    """Every byte of the file system is taken, until it is given back."""

    def begin() -> Callable[[], object]:
        filler = folder / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        return filler.unlink

    return begin


NAMES = tuple(TASKS)


@pytest.fixture(scope="module")
def shortages(
    tmp_path_factory: pytest.TempPathFactory, rclone_server: S3Server
) -> Iterator[Mapping[str, Shortage]]:
    with contextlib.ExitStack() as opened:

        def start(name: str, **settings: str) -> tuple[Site, Daemon]:
            folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
            site = opened.enter_context(Site(folder, rclone_server, **settings))
            site.sim.switches.image_size = (300, 300)
            return site, site.start()

        made: dict[str, Shortage] = {}
        disk = tmp_path_factory.mktemp("ledger-disk")
        command = ["mount", "-t", "tmpfs", "-o", "size=32m", "ledger", str(disk)]
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            opened.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)
            site, daemon = start(NAMES[0], KLING_LEDGER_URL=f"sqlite:///{disk}/ledger.db")
            made[NAMES[0]] = Shortage(site, daemon, full(disk))
        site, daemon = start(NAMES[1])
        made[NAMES[1]] = Shortage(site, daemon, short_of(daemon, resource.RLIMIT_NOFILE, open_files))
        site, daemon = start(NAMES[2])
        made[NAMES[2]] = Shortage(site, daemon, short_of(daemon, resource.RLIMIT_AS, address_space))
        for name, shortage in made.items():
            suffer(shortage, count=TASKS[name])
        yield made
        for shortage in made.values():
            shortage.daemon.kill()


def suffer(shortage: Shortage, *, count: int) -> None:
    """Well, then short, then well again; callbacks all the time."""
    shortage.daemon.wait_ready()
    shortage.call_back(1)
    shortage.site.wait_archived(*shortage.answers)
    give_back = shortage.begin()
    try:
        shortage.call_back(count)
        found = shortage.daemon.readyz()
        shortage.ready.append(None if found is None else found[0])
    finally:
        give_back()


@pytest.mark.parametrize("name", NAMES)
def test_a_machine_that_runs_short_loses_nothing_and_goes_on_by_itself(
    shortages: Mapping[str, Shortage], name: str
) -> None:
    if name not in shortages:
        pytest.skip(NO_TMPFS)
    shortage = shortages[name]
    site, daemon = shortage.site, shortage.daemon
    assert set(shortage.answers.values()) <= {200, 503, None}

    daemon.wait_ready()
    refused = [task_id for task_id, status in shortage.answers.items() if status != 200]
    assert [site.call_back(task_id) for task_id in refused] == [200] * len(refused)
    site.wait_archived(*shortage.answers, seconds=90)
    site.assert_archived(*shortage.answers)
    until(lambda: daemon.holds() == [], what="the holds to go")
    assert daemon.is_running
    assert daemon.stop() == 0
    assert site.sim.complaints == []


def test_a_ledger_without_disk_closes_the_door_with_503(shortages: Mapping[str, Shortage]) -> None:
    if NAMES[0] not in shortages:
        pytest.skip(NO_TMPFS)
    shortage = shortages[NAMES[0]]
    answers = list(shortage.answers.values())

    assert (answers[0], answers[-1], shortage.ready) == (200, 503, [503])


def test_without_memory_callbacks_are_committed_or_refused_and_the_health_checks_answer(
    shortages: Mapping[str, Shortage],
) -> None:
    assert shortages["memory"].ready in ([200], [503])


# --- a ledger that became read-only -----------------------------------------------------------------------


def test_a_ledger_that_became_read_only_closes_the_door_and_opens_it_again_by_itself(
    tmp_path: pathlib.Path,
) -> None:
    """What SQLite says of a file system that the kernel has made read-only, which no test can ask a kernel to do."""
    desk = Desk(tmp_path)

    def read_only(switched: bool) -> None:
        database = desk.ledger.database
        assert isinstance(database, SqliteDatabase)
        connection = database._writing.raw_connection()  # noqa: SLF001 -- only a fault switches this
        connection.cursor().execute(f"PRAGMA query_only={int(switched)}")
        connection.close()

    with contextlib.closing(desk), Edge(desk.ledger.callbacks.record) as edge:
        assert edge.post_callback(legacy_body("before")).status_code == 200
        read_only(True)
        refused = edge.post_callback(legacy_body("meanwhile"))
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        with pytest.raises(LedgerUnavailable, match="readonly"):
            desk.ledger.daemons.ping()
        with pytest.raises(LedgerUnavailable, match="readonly"):
            desk.ledger.callbacks.record([Callback(ACCOUNT, "meanwhile", Status.SUCCEEDED, FAMILY)])
        assert desk.ledger.records.states(account=ACCOUNT, task_ids=["meanwhile"]) == {}

        read_only(False)
        assert edge.post_callback(legacy_body("meanwhile")).status_code == 200
        assert len(desk.ledger.records.states(account=ACCOUNT, task_ids=["before", "meanwhile"])) == 2


def test_a_ledger_on_a_read_only_file_system_is_a_sentence_and_works_once_it_is_writable(
    tmp_path: pathlib.Path, rclone_server: S3Server
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "ledger", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip(NO_TMPFS)
    try:
        with Site(tmp_path, rclone_server, KLING_LEDGER_URL=f"sqlite:///{disk}/ledger.db") as site:
            site.start().wait_ready()
            task_id = site.create_task()
            assert site.call_back(task_id) == 200
            assert site.daemons[0].stop() == 0

            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            refused = site.start()
            assert refused.wait() == 1, "a supervisor tries again"
            assert f"cannot open the ledger {disk}/ledger.db: Read-only file system" in refused.output
            assert "Traceback" not in refused.output

            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            site.start().wait_ready()
            site.wait_archived(task_id)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


# --- threads that cannot be had ---------------------------------------------------------------------------


def test_a_pool_has_all_of_its_threads_before_there_is_any_work() -> None:
    before = set(threading.enumerate())

    def begun() -> int:
        return len(set(threading.enumerate()) - before)

    with PrestartedPool(5, name="early") as pool:
        assert begun() == 5
        assert [pool.submit(pow, 2, power).result() for power in range(3)] == [1, 2, 4]
        assert begun() == 5


def test_look_ups_whose_threads_never_began_do_not_use_up_the_number_of_look_ups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread that dies of want of memory in its first steps says nothing: it is as if it had never begun."""
    backend = PinnedBackend(resolver=lambda _host, _port: ["93.184.216.34"], private_allowed=False)
    with monkeypatch.context() as patched:
        patched.setattr("_thread.start_new_thread", lambda _function, _arguments: 0)
        for _ in range(LOOKUPS_MAX + 1):
            with pytest.raises(Exception, match="took too long"):
                backend.connect_tcp("cdn.klingai.com", 443, timeout=0.0)

    assert backend.vet("cdn.klingai.com", 443, 5.0) == ["93.184.216.34"]
