"""kill -9 at random moments, under load: whatever was answered 200 ends in the bucket, once and whole.

The short version of the part "kills" of `make torture`, which does the same 300 times and on several servers.
"""

import pathlib

from tests.s3_servers import RcloneServer, running
from tests.torture import kills
from tests.torture.kills import Victim

ROUNDS = 8
SEED = 20_261_120


def test_eight_kills_of_daemon_and_store_lose_nothing_that_was_answered_200(tmp_path: pathlib.Path) -> None:
    with running(RcloneServer) as server:
        tally = kills.besiege(tmp_path, server, rounds=ROUNDS, seed=SEED)

    assert [figure for figure in tally.figures(rounds=ROUNDS) if not figure.holds] == []
    assert tally.hits[Victim.STORE] + tally.hits[Victim.BOTH] >= 3
