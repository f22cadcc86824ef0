"""kill -9 at random moments, under load, of the daemon and of the S3 server; now and then a SIGTERM.

Judged by counting ids from outside: every callback that was answered 200 ends in the bucket, with one set of objects
and the right bytes, whatever the daemon believes. While it goes on, a watch reads every manifest that turns up.
"""

import dataclasses
import enum
import itertools
import pathlib
import random
import threading
from collections.abc import Callable

from tests.harness.daemons import Load, Site, until
from tests.s3_servers import RcloneServer, S3Server, SwiftServer, running
from tests.simulator import faults
from tests.torture.counting import compare, not_archived, wait_archived
from tests.torture.figures import Figure, none_of
from tests.torture.options import Options
from tests.torture.watch import ManifestWatch

SIEGES: tuple[tuple[type[S3Server], int], ...] = ((RcloneServer, 60), (SwiftServer, 15))
"""Which server, and how many rounds against one ledger and one bucket of it; again and again until all rounds are done.
Swift takes longer to start than the daemon: after more rounds, tasks that met its absence each time would wait minutes
for their next try."""

ROUND_TASKS = 12
"""New tasks a round on average, at the most."""


class Victim(enum.Enum):
    """Who is hit in a round."""

    DAEMON = "kill -9 of the daemon"
    STORE = "kill -9 of the S3 server"
    BOTH = "kill -9 of both"
    ASKED = "SIGTERM to the daemon"


ORDER = (Victim.DAEMON, Victim.STORE, Victim.DAEMON, Victim.STORE, Victim.BOTH, Victim.DAEMON, Victim.ASKED)


@dataclasses.dataclass
class Tally:
    """What was counted."""

    hits: dict[Victim, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(Victim, 0))
    interrupted: int = 0
    """Tasks that somebody was at work on when the daemon was killed."""
    answered: int = 0
    """Callbacks answered 200."""
    acknowledged: int = 0
    """Tasks that these were about."""
    archived: int = 0
    objects: int = 0
    lost: int = 0
    extra: int = 0
    wrong: int = 0
    manifests_watched: int = 0
    manifests_unfounded: int = 0
    spooled: int = 0
    """Files that a dead daemon has left in its spool."""
    exits_wrong: int = 0
    """SIGTERMs that were not answered with exit status 0."""

    @property
    def rounds(self) -> int:
        return sum(self.hits.values())

    def add(self, other: "Tally") -> None:
        """Take the counts of another site."""
        for victim, count in other.hits.items():
            self.hits[victim] += count
        for field in dataclasses.fields(self):
            if field.name != "hits":
                setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def figures(self, *, rounds: int) -> list[Figure]:
        return [
            Figure("rounds", self.rounds, least=rounds),
            *(Figure(f"  {victim.value}", count) for victim, count in self.hits.items()),
            # Or the kills were too kind to prove anything.
            Figure("tasks at work when the daemon was killed", self.interrupted, least=rounds // 2),
            Figure("callbacks answered 200", self.answered, least=rounds),
            Figure("tasks acknowledged by them", self.acknowledged, least=rounds),
            none_of("acknowledged and lost", self.lost),
            Figure("tasks archived", self.archived, least=self.acknowledged),
            Figure("objects compared", self.objects, least=self.acknowledged),
            none_of("objects with wrong bytes", self.wrong),
            none_of("extra objects", self.extra),
            Figure("manifests read as they turned up", self.manifests_watched, least=rounds // 2),
            none_of("manifests without all their objects", self.manifests_unfounded),
            none_of("files left in the spool", self.spooled),
            none_of("SIGTERMs that did not end in exit status 0", self.exits_wrong),
        ]


def measure(options: Options) -> list[Figure]:
    """`options.rounds` rounds, on a new site after every siege."""
    tally = Tally()
    sieges = itertools.cycle(SIEGES)
    while tally.rounds < options.rounds:
        kind, rounds = next(sieges)
        done = tally.rounds
        folder = options.folder / f"after-{done}"
        folder.mkdir()
        with running(kind) as server:
            tally.add(
                besiege(
                    folder,
                    server,
                    rounds=min(rounds, options.rounds - done),
                    seed=options.seed + done,
                    tell=lambda more, done=done: options.tell(done + more, options.rounds),  # type: ignore[misc]  # mypy cannot type a lambda's default
                )
            )
    return tally.figures(rounds=options.rounds)


def besiege(
    folder: pathlib.Path,
    server: S3Server,
    *,
    rounds: int,
    seed: int,
    tell: Callable[[int], None] = lambda _done: None,
) -> Tally:
    """So many rounds against one site, and then the count. `server` must be nobody else's: it is killed too.

    Raises AssertionError when a daemon does not start, or writes a secret or a traceback.
    """
    tally = Tally()
    with Site(folder, server) as site:
        siege = _Siege(site, tally, random.Random(seed))
        site.sim.fault("cdn", faults.Drip(piece_bytes=400, pause_seconds=0.05))
        load = Load(site, seed=seed, tasks_most=rounds * ROUND_TASKS)
        with ManifestWatch(server.store(site.bucket, attempts_max=1)) as watch, load:
            for done, victim in enumerate(itertools.islice(itertools.cycle(ORDER), rounds), start=1):
                siege.hit(victim)
                tell(done)
            load.stop()
            site.sim.clear_faults()
            siege.settle(load)
        tally.answered, tally.acknowledged = len(load.answered_200), len(load.acknowledged)
        tally.manifests_watched, tally.manifests_unfounded = len(watch.seen), len(watch.unfounded)
        _count(site, load, tally)
        assert site.sim.complaints == []
        site.assert_silent_on_secrets()
    return tally


class _Siege:
    """One site, and whoever is hit there next."""

    def __init__(self, site: Site, tally: Tally, choose: random.Random) -> None:
        self._site = site
        self._tally = tally
        self._choose = choose
        self._daemon = site.start()

    def hit(self, victim: Victim) -> None:
        """Wait for a moment, from the first line of a start to the midst of the work, hit, and start again."""
        if victim is not Victim.DAEMON or self._choose.random() < 0.8:
            self._daemon.wait_ready()
        # The moment is the point here, so this one waits for time and for nothing else.
        threading.Event().wait(self._choose.uniform(0.0, 1.2))
        if victim in (Victim.STORE, Victim.BOTH):
            self._site.s3.kill()
        if victim is Victim.STORE:
            threading.Event().wait(self._choose.uniform(0.0, 0.5))
        elif victim is Victim.ASKED:
            self._tally.exits_wrong += self._daemon.stop() != 0
        else:
            self._daemon.kill()
            self._tally.interrupted += self._site.leases()
        if victim in (Victim.STORE, Victim.BOTH):
            self._site.s3.start()
        if victim is not Victim.STORE:
            self._tally.spooled += len(list(self._site.spool.iterdir()))
            self._daemon = self._site.start()
        self._tally.hits[victim] += 1

    def settle(self, load: Load) -> None:
        """Let what was acknowledged end by itself, then tell again what was not; stop the daemon.

        What does not end in time is left as it is, and counted.
        """
        site = self._site
        self._daemon.wait_ready()
        wait_archived(site, load.acknowledged)
        # Nobody was told that the others arrived, so their sender would try again.
        for task_id in set(load.created) - load.acknowledged:
            until(lambda: site.call_back(task_id) == 200, what="an answer")  # noqa: B023 -- called in this round only
        wait_archived(site, load.created)
        self._tally.exits_wrong += self._daemon.stop() != 0
        self._tally.spooled += len(list(site.spool.iterdir()))


def _count(site: Site, load: Load, tally: Tally) -> None:
    """Compare the bucket, object by object, with what the account has made."""
    found = compare(site, load.created)
    unarchived = found.incomplete | not_archived(site, load.created)
    tally.archived += len(load.created) - len(unarchived)
    tally.lost += len(unarchived & load.acknowledged)
    tally.objects += found.objects
    tally.wrong += found.wrong
    tally.extra += found.extra
