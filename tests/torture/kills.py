"""kill -9 at random moments, under load, of the daemon and of the S3 server; now and then a SIGTERM.

Judged from outside, by counting ids: every callback answered 200 ends in the bucket, with one set of objects and the
right bytes. Meanwhile a watch reads every manifest as it appears.
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
"""Which server, and how many rounds against one ledger and one bucket; repeated until all rounds are done. Swift starts
more slowly than the daemon: after more rounds, tasks that failed each time would wait minutes for their next try."""

ROUND_TASKS = 12
"""Maximum of new tasks a round, on average."""


class Victim(enum.Enum):
    """What is killed in a round."""

    DAEMON = "kill -9 of the daemon"
    STORE = "kill -9 of the S3 server"
    BOTH = "kill -9 of both"
    TERMINATED = "SIGTERM to the daemon"


ORDER = (
    Victim.DAEMON,
    Victim.STORE,
    Victim.DAEMON,
    Victim.STORE,
    Victim.BOTH,
    Victim.DAEMON,
    Victim.TERMINATED,
)


@dataclasses.dataclass
class Tally:
    """What was counted."""

    hits: dict[Victim, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(Victim, 0))
    interrupted: int = 0
    """Tasks under lease when the daemon was killed."""
    answered: int = 0
    """Callbacks answered 200."""
    acknowledged: int = 0
    """Tasks in these callbacks."""
    archived: int = 0
    objects: int = 0
    lost: int = 0
    extra: int = 0
    wrong: int = 0
    manifests_watched: int = 0
    manifests_unfounded: int = 0
    spooled: int = 0
    """Files that a killed daemon left in its spool."""
    exits_wrong: int = 0
    """SIGTERMs that did not end in exit status 0."""

    @property
    def rounds(self) -> int:
        return sum(self.hits.values())

    def add(self, other: "Tally") -> None:
        """Add the counts of another site."""
        for victim, count in other.hits.items():
            self.hits[victim] += count
        for field in dataclasses.fields(self):
            if field.name != "hits":
                setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def figures(self, *, rounds: int) -> list[Figure]:
        return [
            Figure("rounds", self.rounds, minimum=rounds),
            *(Figure(f"  {victim.value}", count) for victim, count in self.hits.items()),
            # Fewer would prove nothing.
            Figure("tasks at work when the daemon was killed", self.interrupted, minimum=rounds // 2),
            Figure("callbacks answered 200", self.answered, minimum=rounds),
            Figure("tasks acknowledged by them", self.acknowledged, minimum=rounds),
            none_of("acknowledged and lost", self.lost),
            Figure("tasks archived", self.archived, minimum=self.acknowledged),
            Figure("objects compared", self.objects, minimum=self.acknowledged),
            none_of("objects with wrong bytes", self.wrong),
            none_of("extra objects", self.extra),
            Figure("manifests read as they turned up", self.manifests_watched, minimum=rounds // 2),
            none_of("manifests without all their objects", self.manifests_unfounded),
            none_of("files left in the spool", self.spooled),
            none_of("SIGTERMs that did not end in exit status 0", self.exits_wrong),
        ]


def measure(options: Options) -> list[Figure]:
    """Run `options.rounds` rounds; every siege has a new site."""
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
                    on_progress=lambda more, done=done: options.on_progress(done + more, options.rounds),  # type: ignore[misc]  # mypy cannot type a lambda's default
                )
            )
    return tally.figures(rounds=options.rounds)


def besiege(
    folder: pathlib.Path,
    server: S3Server,
    *,
    rounds: int,
    seed: int,
    on_progress: Callable[[int], None] = lambda _done: None,
) -> Tally:
    """Run `rounds` against one site, then count. `server` is killed too, so no other test may use it.

    Raises AssertionError if a daemon does not start, or writes a secret or a traceback.
    """
    tally = Tally()
    with Site(folder, server) as site:
        siege = _Siege(site, tally, random.Random(seed))
        site.sim.fault("cdn", faults.Drip(piece_bytes=400, pause_seconds=0.05))
        load = Load(site, seed=seed, tasks_most=rounds * ROUND_TASKS)
        with ManifestWatch(server.store(site.bucket, attempts_max=1)) as watch, load:
            for done, victim in enumerate(itertools.islice(itertools.cycle(ORDER), rounds), start=1):
                siege.hit(victim)
                on_progress(done)
            load.stop()
            site.sim.clear_faults()
            siege.finish(load)
        tally.answered, tally.acknowledged = len(load.answered_200), len(load.acknowledged)
        tally.manifests_watched, tally.manifests_unfounded = len(watch.seen), len(watch.unfounded)
        _count(site, load, tally)
        assert site.sim.complaints == []
        site.assert_silent_on_secrets()
    return tally


class _Siege:
    """One site under attack."""

    def __init__(self, site: Site, tally: Tally, choose: random.Random) -> None:
        self._site = site
        self._tally = tally
        self._choose = choose
        self._daemon = site.start()

    def hit(self, victim: Victim) -> None:
        """Wait for a random moment, during the start or the work; kill; start again."""
        if victim is not Victim.DAEMON or self._choose.random() < 0.8:
            self._daemon.wait_ready()
        # The random moment is the point, so this waits for time only.
        threading.Event().wait(self._choose.uniform(0.0, 1.2))
        if victim in (Victim.STORE, Victim.BOTH):
            self._site.s3.kill()
        if victim is Victim.STORE:
            threading.Event().wait(self._choose.uniform(0.0, 0.5))
        elif victim is Victim.TERMINATED:
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

    def finish(self, load: Load) -> None:
        """Wait for acknowledged tasks, call back the others again, wait for those, and stop the daemon.

        Tasks that are late are left to the count.
        """
        site = self._site
        self._daemon.wait_ready()
        wait_archived(site, load.acknowledged)
        # The sender got no 200 for the others, so it would try again.
        for task_id in set(load.created) - load.acknowledged:
            until(lambda: site.call_back(task_id) == 200, what="an answer")  # noqa: B023 -- called in this round only
        wait_archived(site, load.created)
        self._tally.exits_wrong += self._daemon.stop() != 0
        self._tally.spooled += len(list(site.spool.iterdir()))


def _count(site: Site, load: Load, tally: Tally) -> None:
    """Compare the bucket, object by object, with what the account made."""
    found = compare(site, load.created)
    unarchived = found.incomplete | not_archived(site, load.created)
    tally.archived += len(load.created) - len(unarchived)
    tally.lost += len(unarchived & load.acknowledged)
    tally.objects += found.objects
    tally.wrong += found.wrong
    tally.extra += found.extra
