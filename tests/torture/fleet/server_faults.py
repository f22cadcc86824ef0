"""What happens to PostgreSQL, its network and its disk. Each ends well: the fleet has to go on by itself."""

import random
import threading

from tests.harness.disks import fill
from tests.postgres import PostgresPair
from tests.torture.fleet.rude import locking_backwards, taking_all_connections
from tests.torture.fleet.site import Fleet, Networks
from tests.torture.fleet.victims import Tally


class ServerFaults:
    """One method a victim."""

    def __init__(
        self, fleet: Fleet, pair: PostgresPair, networks: Networks, tally: Tally, choose: random.Random
    ) -> None:
        self._fleet = fleet
        self._pair = pair
        self._networks = networks
        self._tally = tally
        self._choose = choose

    def _wait(self, least: float, most: float) -> None:
        """The random moment is the point, so this waits for time only."""
        threading.Event().wait(self._choose.uniform(least, most))

    def kill(self) -> None:
        self._fleet.dispose()
        self._pair.primary.kill()
        self._wait(0.0, 3.0)
        self._pair.primary.start()

    def fail_over(self) -> None:
        """The address first gives no answer, then leads to a read-only server, then to one that writes."""
        self._fleet.dispose()
        self._pair.primary.kill()
        self._wait(0.0, 2.0)
        self._pair.point_at(self._pair.standby)
        self._wait(0.5, 4.0)
        self._pair.promote()
        self._wait(0.0, 3.0)
        self._pair.add_standby()

    def lose_standby(self) -> None:
        self._pair.standby.kill()
        self._wait(1.0, 12.0)
        self._pair.start_standby()

    def fill_disk(self) -> None:
        filler = fill(self._pair.primary.folder)
        self._wait(3.0, 10.0)
        filler.unlink()
        if not self._pair.primary.is_running:
            self._fleet.dispose()
            self._pair.primary.start()
            self._tally.servers_ended += 1

    def cut(self) -> None:
        for network in self._networks.all:
            network.cut()

    def hang(self) -> None:
        for network in self._networks.all:
            network.hang()
        self._wait(0.5, 12.0)
        for network in self._networks.all:
            network.flow()

    def end_sessions(self) -> None:
        self._fleet.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database() AND random() < 0.6"
        )

    def crowd(self) -> None:
        with taking_all_connections(self._pair.url("postgres")):
            self.end_sessions()
            self._wait(2.0, 6.0)

    def lock_backwards(self) -> None:
        with locking_backwards(self._fleet.direct_url):
            self._wait(4.0, 8.0)
        self._tally.deadlocks = self._pair.count_logged("deadlock detected")

    def set_for_others(self) -> None:
        """As an operator may, who thinks of other programs."""
        with (
            self._fleet.set("default_transaction_isolation = 'serializable'"),
            self._fleet.set("statement_timeout = '50ms'"),
            self._fleet.set("idle_session_timeout = '50ms'"),
        ):
            self._wait(2.0, 5.0)
