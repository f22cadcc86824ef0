"""The power fails: what is on the disk at that moment is enough to bring home whatever was answered 200 before it.

The short version of the part "power" of `make torture`.
"""

import pathlib

from tests.s3_servers import RcloneServer, running
from tests.torture import power
from tests.torture.options import Options

COPIES = 3
SEED = 20_261_120


def test_a_daemon_on_a_snapshot_of_any_moment_archives_everything(tmp_path: pathlib.Path) -> None:
    with running(RcloneServer) as server:
        tally = power.fail(Options(tmp_path, rounds=COPIES, seed=SEED), server, copies=COPIES)

    assert [figure for figure in tally.figures(copies=COPIES) if not figure.holds] == []
