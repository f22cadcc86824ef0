"""Two doors and three workers on one PostgreSQL ledger, under load: any of them killed at any time, and PostgreSQL too.

Their connections are cut, hang and are ended by the server, the server only reads for a while, and their clocks are
minutes apart. One door and one worker go through PgBouncer where it is installed. Judged from outside, as `kills` is;
the puts of all workers are counted before the bucket.
"""

import contextlib
import dataclasses
import enum
import functools
import itertools
import math
import random
import threading
import time

import sqlalchemy as sa

from tests.harness.daemons import Daemon, Load, until
from tests.postgres import BadNetwork, PostgresServer, running_postgres
from tests.postgres.pooler import find_pooler, running_pooler
from tests.s3_servers import FaultyProxy, RcloneServer, running
from tests.s3_servers.process import free_port
from tests.simulator import faults
from tests.torture.counting import PATIENCE_SECONDS, compare, not_archived
from tests.torture.figures import Figure, none_of
from tests.torture.fleet.clock import clock_environment
from tests.torture.fleet.puts import PutCount
from tests.torture.fleet.site import DOORS_AHEAD_SECONDS, QUERY_RATE, WORKERS_AHEAD_SECONDS, Fleet
from tests.torture.options import Options
from tests.torture.watch import ManifestWatch

ROUND_TASKS = 6
"""Maximum of new tasks a round, on average."""
TAKEOVERS = 3
TAKEOVER_SECONDS_MAX = 60
LOOK_SECONDS = 0.5
"""Between two looks at what is archived."""


class Victim(enum.Enum):
    """What suffers in a round."""

    DOOR = "kill -9 of a door"
    WORKER = "kill -9 of a worker"
    SERVER = "kill -9 of PostgreSQL"
    CUT = "all connections cut"
    HUNG = "nothing answered for a while"
    ENDED = "sessions ended by the server"
    READ_ONLY = "a server that only reads for a while"
    TERMINATED = "SIGTERM to a worker"


ORDER = (
    Victim.WORKER,
    Victim.CUT,
    Victim.DOOR,
    Victim.ENDED,
    Victim.SERVER,
    Victim.WORKER,
    Victim.HUNG,
    Victim.READ_ONLY,
    Victim.ENDED,
    Victim.TERMINATED,
)


@dataclasses.dataclass
class Tally:
    """What was counted."""

    hits: dict[Victim, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(Victim, 0))
    interrupted: int = 0
    """Leases at the moments of the faults."""
    ended_by_themselves: int = 0
    starts_refused: int = 0
    exits_wrong: int = 0
    is_pooled: bool = False
    takeover_seconds: list[float] = dataclasses.field(default_factory=list)


def measure(options: Options) -> list[Figure]:
    """`options.rounds` rounds, then the takeovers."""
    tally = Tally()
    with contextlib.ExitStack() as opened:
        s3 = opened.enter_context(running(RcloneServer))
        server = opened.enter_context(running_postgres())
        network = opened.enter_context(BadNetwork(server.folder).working())
        proxy = opened.enter_context(FaultyProxy(s3.port).serving())
        puts = PutCount(proxy)
        fleet = opened.enter_context(Fleet(options.folder, s3, server, proxy, network))
        opened.callback(fleet.dispose)
        pooler_port = opened.enter_context(running_pooler(server)) if find_pooler() else None
        tally.is_pooled = pooler_port is not None
        fleet.sim.fault("cdn", faults.Drip(piece_bytes=400, pause_seconds=0.05))
        siege = _Siege(fleet, server, network, puts, tally, random.Random(options.seed), pooler_port)
        load = Load(fleet, seed=options.seed, tasks_most=options.rounds * ROUND_TASKS)
        watch = opened.enter_context(ManifestWatch(s3.store(fleet.bucket, attempts_max=1)))
        with load:
            for done, victim in enumerate(itertools.islice(itertools.cycle(ORDER), options.rounds), start=1):
                siege.hit(victim)
                options.on_progress(done, options.rounds + TAKEOVERS)
            for done in range(1, TAKEOVERS + 1):
                siege.take_over()
                options.on_progress(options.rounds + done, options.rounds + TAKEOVERS)
        siege.finish(load)
        fleet.assert_silent_on_secrets()
        return [*_figures(tally, options), *_outcome(fleet, load, watch), *puts.figures(tally.interrupted)]


class _Siege:
    """One fleet under attack."""

    def __init__(
        self,
        fleet: Fleet,
        server: PostgresServer,
        network: BadNetwork,
        puts: PutCount,
        tally: Tally,
        choose: random.Random,
        pooler_port: int | None,
    ) -> None:
        self._fleet = fleet
        self._server = server
        self._network = network
        self._puts = puts
        self._tally = tally
        self._choose = choose
        self._pooler_port = pooler_port
        self._doors = [self._start_door(place) for place in range(len(DOORS_AHEAD_SECONDS))]
        self._workers = [self._start_worker(place) for place in range(len(WORKERS_AHEAD_SECONDS))]
        self._deeds = {
            Victim.DOOR: self._kill_door,
            Victim.WORKER: self._kill_worker,
            Victim.SERVER: self._kill_server,
            Victim.CUT: network.cut,
            Victim.HUNG: self._hang,
            Victim.ENDED: self._end_sessions,
            Victim.READ_ONLY: self._only_read,
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
        return self._fleet.start(changes, program=program)

    def hit(self, victim: Victim) -> None:
        """Wait for a random moment, then do it."""
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

    def _kill_server(self) -> None:
        self._wait_started()
        self._fleet.dispose()
        self._server.kill()
        threading.Event().wait(self._choose.uniform(0.0, 3.0))
        self._server.start()

    def _hang(self) -> None:
        self._network.hang()
        threading.Event().wait(self._choose.uniform(0.5, 12.0))
        self._network.flow()

    def _end_sessions(self) -> None:
        self._fleet.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database() AND random() < 0.5"
        )

    def _only_read(self) -> None:
        self._wait_started()
        self._fleet.set_read_only("on")
        threading.Event().wait(self._choose.uniform(0.5, 3.0))
        self._fleet.set_read_only("off")
        self._fleet.dispose()

    def _supervise(self) -> None:
        """Start those again that met no server at their start, and ended with a sentence; no other may have ended."""
        for daemons, start in ((self._doors, self._start_door), (self._workers, self._start_worker)):
            for place, daemon in enumerate(daemons):
                if daemon.is_running:
                    continue
                if daemon.events("daemon.started"):
                    self._tally.ended_by_themselves += 1
                else:
                    assert "KLING_LEDGER_URL" in daemon.output, daemon.output
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


def _figures(tally: Tally, options: Options) -> list[Figure]:
    return [
        Figure("rounds", sum(tally.hits.values()), minimum=options.rounds),
        *(Figure(f"  {victim.value}", count) for victim, count in tally.hits.items()),
        Figure("PgBouncer in transaction mode before a door and a worker (1: yes)", tally.is_pooled),
        Figure("tasks at work at the faults", tally.interrupted, minimum=options.rounds // 4),
        none_of("processes that ended by themselves", tally.ended_by_themselves),
        Figure("processes that met no server at their start, and were started again", tally.starts_refused),
        none_of("SIGTERMs that did not end in exit status 0", tally.exits_wrong),
        Figure(
            "seconds until another process asks for a killed one's account, at most",
            round(max(tally.takeover_seconds, default=math.nan), 1),
            maximum=TAKEOVER_SECONDS_MAX,
        ),
    ]


def _outcome(fleet: Fleet, load: Load, watch: ManifestWatch) -> list[Figure]:
    found = compare(fleet, load.created)
    unarchived = found.incomplete | not_archived(fleet, load.created)
    acknowledged = load.acknowledged
    questions = [
        asked.at for asked in list(fleet.sim.log) if asked.kind in ("query", "list", "tasks", "solutions")
    ]
    return [
        Figure("callbacks answered 200", len(load.answered_200), minimum=1),
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
