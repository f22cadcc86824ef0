"""What suffers in a round, and what was counted."""

import dataclasses
import enum
import math

from tests.torture.figures import Figure, none_of
from tests.torture.options import Options

TAKEOVER_SECONDS_MAX = 60
ANSWER_SECONDS_MAX = 10
_LOCKED_ROUNDS = 8
"""Chance leaves fewer of them without any deadlock."""


class Victim(enum.Enum):
    """What suffers in a round."""

    DOOR = "kill -9 of a door"
    WORKER = "kill -9 of a worker"
    SERVER = "kill -9 of PostgreSQL, started again"
    FAILOVER = "kill -9 of PostgreSQL, its standby reads for a while and is promoted"
    STANDBY = "kill -9 of the standby that COMMIT waits for"
    FULL = "the server's disk is full"
    CUT = "all connections cut"
    HUNG = "nothing answered for a while"
    ENDED = "sessions ended by the server"
    CROWDED = "others take all connections"
    LOCKED = "another program locks rows in the opposite order"
    SERIALIZABLE = "serializable by default, and time-outs of 50 ms"
    TERMINATED = "SIGTERM to a worker"


ORDER = (
    Victim.WORKER,
    Victim.FAILOVER,
    Victim.CUT,
    Victim.LOCKED,
    Victim.DOOR,
    Victim.FULL,
    Victim.ENDED,
    Victim.SERVER,
    Victim.CROWDED,
    Victim.WORKER,
    Victim.STANDBY,
    Victim.HUNG,
    Victim.SERIALIZABLE,
    Victim.FAILOVER,
    Victim.TERMINATED,
)


@dataclasses.dataclass
class Tally:
    """What was counted."""

    has_small_disks: bool
    hits: dict[Victim, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(Victim, 0))
    interrupted: int = 0
    """Leases at the moments of the faults."""
    ended_by_themselves: int = 0
    starts_refused: int = 0
    exits_wrong: int = 0
    deadlocks: int = 0
    servers_ended: int = 0
    """That did not survive their full disk, and were started again."""
    is_pooled: bool = False
    takeover_seconds: list[float] = dataclasses.field(default_factory=list)

    def figures(self, options: Options) -> list[Figure]:
        return [
            Figure("rounds", sum(self.hits.values()), minimum=options.rounds),
            *(Figure(f"  {victim.value}", count) for victim, count in self.hits.items()),
            Figure("small disks for the servers, that can be full (1: yes, as root)", self.has_small_disks),
            Figure("servers that ended on a full disk, and were started again", self.servers_ended),
            Figure(
                "deadlocks that the server ended",
                self.deadlocks,
                minimum=self.hits[Victim.LOCKED] // _LOCKED_ROUNDS,
            ),
            Figure("PgBouncer in transaction mode before a door and a worker (1: yes)", self.is_pooled),
            Figure("tasks at work at the faults", self.interrupted, minimum=options.rounds // 4),
            none_of("processes that ended by themselves", self.ended_by_themselves),
            Figure(
                "processes that met no server at their start, and were started again", self.starts_refused
            ),
            none_of("SIGTERMs that did not end in exit status 0", self.exits_wrong),
            Figure(
                "seconds until another process asks for a killed one's account, at most",
                round(max(self.takeover_seconds, default=math.nan), 1),
                maximum=TAKEOVER_SECONDS_MAX,
            ),
        ]
