"""Two doors and three workers on one PostgreSQL ledger, under load: any of them killed at any time, and PostgreSQL too.

The server has a standby, for which COMMIT waits. Their connections are cut, hang and are ended by the server, its disk
is full, others lock its rows and take its connections, and the processes' clocks are minutes apart. One door and one
worker go through PgBouncer where it is installed; one of each is told both servers, the others an address that moves at
a failover. Judged from outside, as `kills` is; the puts of all workers are counted before the bucket.
"""

import contextlib
import functools
import itertools
import math
import random
import subprocess
import threading
import time
from collections.abc import Iterator

import sqlalchemy as sa

from tests.harness.daemons import Daemon, Load, until
from tests.postgres import PostgresPair, running_pair
from tests.postgres.pooler import find_pooler, running_pooler
from tests.s3_servers import FaultyProxy, RcloneServer, running
from tests.s3_servers.process import free_port
from tests.simulator import faults
from tests.torture.counting import PATIENCE_SECONDS, compare, not_archived
from tests.torture.figures import Figure, none_of
from tests.torture.fleet.clock import clock_environment
from tests.torture.fleet.puts import PutCount
from tests.torture.fleet.server_faults import ServerFaults
from tests.torture.fleet.site import DOORS_AHEAD_SECONDS, QUERY_RATE, WORKERS_AHEAD_SECONDS, Fleet, Networks
from tests.torture.fleet.victims import ANSWER_SECONDS_MAX, ORDER, Tally, Victim
from tests.torture.options import Options
from tests.torture.watch import ManifestWatch

ROUND_TASKS = 6
"""Maximum of new tasks a round, on average."""
TAKEOVERS = 3
LOAD_THREADS = 6
LOOK_SECONDS = 0.5
"""Between two looks at what is archived."""
DISK_MEGABYTES = 300


def measure(options: Options) -> list[Figure]:
    """`options.rounds` rounds, then the takeovers."""
    with contextlib.ExitStack() as opened:
        s3 = opened.enter_context(running(RcloneServer))
        pair, tally = opened.enter_context(_pair())
        networks = opened.enter_context(Networks(pair).working())
        proxy = opened.enter_context(FaultyProxy(s3.port).serving())
        puts = PutCount(proxy)
        fleet = opened.enter_context(Fleet(options.folder, s3, pair, proxy, networks))
        opened.callback(fleet.dispose)
        pooler_port = opened.enter_context(running_pooler(pair.folder)) if find_pooler() else None
        tally.is_pooled = pooler_port is not None
        fleet.sim.fault("cdn", faults.Drip(piece_bytes=400, pause_seconds=0.05))
        choose = random.Random(options.seed)
        server_faults = ServerFaults(fleet, pair, networks, tally, choose)
        siege = _Siege(fleet, server_faults, puts, tally, choose, pooler_port)
        load = Load(fleet, threads=LOAD_THREADS, seed=options.seed, tasks_most=options.rounds * ROUND_TASKS)
        watch = opened.enter_context(ManifestWatch(s3.store(fleet.bucket, attempts_max=1)))
        victims = [victim for victim in ORDER if victim is not Victim.FULL or tally.has_small_disks]
        with load:
            for done, victim in enumerate(
                itertools.islice(itertools.cycle(victims), options.rounds), start=1
            ):
                siege.hit(victim)
                options.on_progress(done, options.rounds + TAKEOVERS)
            for done in range(1, TAKEOVERS + 1):
                siege.take_over()
                options.on_progress(options.rounds + done, options.rounds + TAKEOVERS)
        siege.finish(load)
        fleet.assert_silent_on_secrets()
        return [*tally.figures(options), *_outcome(fleet, load, watch), *puts.figures(tally.interrupted)]


@contextlib.contextmanager
def _pair() -> Iterator[tuple[PostgresPair, Tally]]:
    """On small disks where they can be mounted."""
    with contextlib.ExitStack() as opened:
        try:
            pair = opened.enter_context(running_pair(disk_megabytes=DISK_MEGABYTES))
            has_small_disks = True
        except subprocess.CalledProcessError:
            pair = opened.enter_context(running_pair())
            has_small_disks = False
        yield pair, Tally(has_small_disks=has_small_disks)


_OF_ALL = frozenset(
    (Victim.SERVER, Victim.FAILOVER, Victim.STANDBY, Victim.FULL, Victim.CROWDED, Victim.SERIALIZABLE)
)
"""All processes are to be at work when these begin."""


class _Siege:
    """One fleet under attack."""

    def __init__(
        self,
        fleet: Fleet,
        server_faults: ServerFaults,
        puts: PutCount,
        tally: Tally,
        choose: random.Random,
        pooler_port: int | None,
    ) -> None:
        self._fleet = fleet
        self._puts = puts
        self._tally = tally
        self._choose = choose
        self._pooler_port = pooler_port
        self._doors = [self._start_door(place) for place in range(len(DOORS_AHEAD_SECONDS))]
        self._workers = [self._start_worker(place) for place in range(len(WORKERS_AHEAD_SECONDS))]
        self._deeds = {
            Victim.DOOR: self._kill_door,
            Victim.WORKER: self._kill_worker,
            Victim.SERVER: server_faults.kill,
            Victim.FAILOVER: server_faults.fail_over,
            Victim.STANDBY: server_faults.lose_standby,
            Victim.FULL: server_faults.fill_disk,
            Victim.CUT: server_faults.cut,
            Victim.HUNG: server_faults.hang,
            Victim.ENDED: server_faults.end_sessions,
            Victim.CROWDED: server_faults.crowd,
            Victim.LOCKED: server_faults.lock_backwards,
            Victim.SERIALIZABLE: server_faults.set_for_others,
            Victim.TERMINATED: self._terminate_worker,
        }
        self._wait_started()

    def _start_door(self, place: int) -> Daemon:
        changes = {"KLING_PORT": str(self._fleet.door_ports[place])}
        return self._start(place, changes, DOORS_AHEAD_SECONDS[place], ("receiver", "--edge-only"))

    def _start_worker(self, place: int) -> Daemon:
        spool = self._fleet.folder / f"spool-{place}"
        spool.mkdir(exist_ok=True)
        changes = {"KLING_PORT": str(free_port()), "KLING_SPOOL_DIR": str(spool)}
        return self._start(place, changes, WORKERS_AHEAD_SECONDS[place], ("archiver", "work"))

    def _start(self, place: int, changes: dict[str, str], ahead: int, program: tuple[str, ...]) -> Daemon:
        changes |= clock_environment(self._fleet.folder, ahead_seconds=ahead)
        if place == 0 and self._pooler_port is not None:
            url = f"postgresql://postgres@127.0.0.1:{self._pooler_port}/{self._fleet.database}"
            changes["KLING_LEDGER_URL"] = url
        elif place == 1:
            changes["KLING_LEDGER_URL"] = self._fleet.url_of_both
        return self._fleet.start(changes, program=program)

    def hit(self, victim: Victim) -> None:
        """Wait for a random moment, then do it."""
        if victim in _OF_ALL:
            self._wait_started()
        # The random moment is the point, so this waits for time only.
        threading.Event().wait(self._choose.uniform(0.2, 2.0))
        with contextlib.suppress(sa.exc.DBAPIError):
            self._tally.interrupted += self._fleet.leases()
        self._puts.fault_begins()
        self._deeds[victim]()
        self._puts.fault_ends()
        self._tally.hits[victim] += 1
        self._supervise()

    def _kill_door(self) -> None:
        place = self._choose.randrange(len(self._doors))
        self._doors[place].kill()
        self._doors[place] = self._start_door(place)

    def _kill_worker(self) -> None:
        place = self._choose.randrange(len(self._workers))
        self._workers[place].kill()
        self._workers[place] = self._start_worker(place)

    def _terminate_worker(self) -> None:
        place = self._choose.randrange(len(self._workers))
        self._wait_started()  # a process that starts has no handler yet
        self._tally.exits_wrong += self._workers[place].stop() != 0
        self._workers[place] = self._start_worker(place)

    def _supervise(self) -> None:
        """Start those again that met no server at their start, and ended with a sentence; no other may have ended."""
        for daemons, start in ((self._doors, self._start_door), (self._workers, self._start_worker)):
            for place, daemon in enumerate(daemons):
                if daemon.is_running:
                    continue
                if daemon.events("daemon.started"):
                    self._tally.ended_by_themselves += 1
                else:
                    assert "ledger postgresql://" in daemon.output, daemon.output
                    self._tally.starts_refused += 1
                daemons[place] = start(place)

    def _wait_started(self) -> None:
        """Return once all of them are ready."""

        def all_are_ready() -> bool:
            self._supervise()
            found = [daemon.readyz() for daemon in [*self._doors, *self._workers]]
            return all(each is not None and each[0] == 200 for each in found)

        until(all_are_ready, seconds=PATIENCE_SECONDS, what="all processes to be ready")

    def take_over(self) -> None:
        """Kill the asker, and start nothing until another one asks."""
        until(
            lambda: self._place_of_asker() is not None, seconds=PATIENCE_SECONDS, what="an asker that lives"
        )
        place = self._place_of_asker()
        if place is None:  # it has changed meanwhile
            return
        asker = self._workers[place].pid
        self._workers[place].kill()
        began = time.monotonic()
        until(
            lambda: self._fleet.asker() not in (None, asker), seconds=PATIENCE_SECONDS, what="another asker"
        )
        self._tally.takeover_seconds.append(time.monotonic() - began)
        self._workers[place] = self._start_worker(place)

    def _place_of_asker(self) -> int | None:
        asker = self._fleet.asker()
        return next((place for place, each in enumerate(self._workers) if each.pid == asker), None)

    def finish(self, load: Load) -> None:
        """As `kills` does: all acknowledged tasks, then the others called back again, then an orderly end."""
        self._wait_started()
        self._wait_archived(load.acknowledged)
        for task_id in set(load.created) - load.acknowledged:
            until(functools.partial(self._is_taken, task_id), what="an answer")
        self._wait_archived(set(load.created))
        for daemon in [*self._doors, *self._workers]:
            self._tally.exits_wrong += daemon.stop() != 0

    def _is_taken(self, task_id: str) -> bool:
        return self._fleet.call_back(task_id) == 200

    def _wait_archived(self, task_ids: set[str]) -> None:
        """What is late is left to the count."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not_archived(self._fleet, task_ids) and time.monotonic() < deadline:
            threading.Event().wait(LOOK_SECONDS)


def _outcome(fleet: Fleet, load: Load, watch: ManifestWatch) -> list[Figure]:
    found = compare(fleet, load.created)
    unarchived = found.incomplete | not_archived(fleet, load.created)
    acknowledged = load.acknowledged
    questions = [
        asked.at for asked in list(fleet.sim.log) if asked.kind in ("query", "list", "tasks", "solutions")
    ]
    return [
        Figure("callbacks answered 200", len(load.answered_200), minimum=1),
        Figure("callbacks answered 503", fleet.refused),
        Figure(
            "seconds until a door answered, at most",
            round(fleet.answer_seconds_max, 2),
            maximum=ANSWER_SECONDS_MAX,
        ),
        Figure("tasks acknowledged by them", len(acknowledged), minimum=1),
        none_of("acknowledged and lost", len(unarchived & acknowledged)),
        Figure("tasks archived", len(load.created) - len(unarchived), minimum=len(acknowledged)),
        Figure("objects compared", found.objects),
        none_of("objects with wrong bytes", found.wrong),
        none_of("extra objects", found.extra),
        none_of("manifests without all their objects", len(watch.unfounded)),
        Figure("questions to the API", len(questions)),
        none_of("questions beyond the account's budget", beyond_budget(questions, per_second=QUERY_RATE)),
        none_of("complaints of the API", len(fleet.sim.complaints)),
    ]


def beyond_budget(times: list[float], *, per_second: float) -> int:
    """How many came without a token: they come back with time, at most two seconds' worth, since a question that waits
    for the network comes later than it was sent."""
    burst = tokens = 2 * per_second
    beyond, before = 0, -math.inf
    for at in sorted(times):
        tokens = min(burst, tokens + (at - before) * per_second)
        before = at
        beyond += tokens < 1
        tokens = max(0.0, tokens - 1)
    return beyond
