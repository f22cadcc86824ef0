"""kill -9 at random moments, under load: whatever was answered 200 ends in the bucket, once and whole."""

import pathlib
import random
import threading

from tests.daemons import Load, Site, until
from tests.s3_servers import S3Server
from tests.simulator import faults

ROUNDS = 20
SEED = 20_261_120


def test_twenty_kills_lose_nothing_that_was_answered_200(
    tmp_path: pathlib.Path, rclone_server: S3Server
) -> None:
    choose = random.Random(SEED)
    with Site(tmp_path, rclone_server) as site:
        interrupted = 0
        site.sim.fault("cdn", faults.Drip(piece_bytes=400, pause_seconds=0.05))
        with Load(site, seed=SEED) as load:
            for _ in range(ROUNDS):
                daemon = site.start()
                if choose.random() < 0.8:
                    daemon.wait_ready()
                # The moment is the point here: from the first line of the start to the midst of the work.
                threading.Event().wait(choose.uniform(0.0, 1.2))
                daemon.kill()
                interrupted += site.leases()
        site.sim.clear_faults()
        daemon = site.start()
        daemon.wait_ready()
        site.wait_archived(*load.acknowledged)
        # Nobody was told that the others arrived, so their sender would try again.
        for task_id in set(load.created) - load.acknowledged:
            until(lambda: site.call_back(task_id) == 200, what="an answer")  # noqa: B023 -- called in this round only
        site.wait_archived(*load.created)

        assert daemon.stop() == 0
        assert interrupted > ROUNDS  # or the kills were too kind
        site.assert_archived(*load.created)
        assert site.sim.complaints == []
        assert list(site.spool.iterdir()) == []
        site.assert_silent_on_secrets()
