"""The ledger: the only package that executes SQL. Each public method of a part is one transaction.

Two promises:

1. When a writing method returns, its changes are on the disk. When it raises, it changed nothing. `LedgerUnavailable`
   means "not now": locked, full, read-only. Only where a server's answer to COMMIT was lost may it all be changed: the
   caller goes on as after a crash.
2. The end of a lease is fenced by its token; `LeaseLost` means that another worker holds the lease now.

Functions that parts share take a connection and never open one. A second database implements `databases.protocol`.
"""

from collections.abc import Callable
from typing import Self

from archiver.ledger.accounts import Accounts
from archiver.ledger.audits import Audits
from archiver.ledger.availability import EndpointRefusals
from archiver.ledger.callbacks import Callbacks
from archiver.ledger.claims import Claims
from archiver.ledger.daemons import Daemons, begin_daemon
from archiver.ledger.databases.errors import LedgerMissing, LedgerOld
from archiver.ledger.databases.opening import open_database
from archiver.ledger.databases.protocol import Database
from archiver.ledger.databases.sqlite import BUSY_SECONDS
from archiver.ledger.databases.wal import BYTES_MAX as LOG_BYTES_MAX
from archiver.ledger.deadlines import UNCONFIRMED_MAX, Deadlines
from archiver.ledger.duties import Duties, Duty, FencedDatabase
from archiver.ledger.ended_sessions import EndedSessions
from archiver.ledger.files import Files
from archiver.ledger.folder_work import FolderWork
from archiver.ledger.forwards import ForwardOrders, Forwards, ForwardUpkeep
from archiver.ledger.gateway_creates.creates import GatewayCreates
from archiver.ledger.holds import Holds
from archiver.ledger.migrations import comparison, upgrade
from archiver.ledger.outcomes import Outcomes
from archiver.ledger.rebuilding import Rebuilding
from archiver.ledger.records import Records
from archiver.ledger.recounts import Recounts
from archiver.ledger.registrations import Registrations
from archiver.ledger.second_looks import MissingObjects, Restores, SecondLooks, Trust
from archiver.ledger.status.acknowledgements import Acknowledgements
from archiver.ledger.status.alerts import Alerts
from archiver.ledger.status.trends import Trends
from archiver.ledger.sweep_requests import SweepRequests
from archiver.ledger.sweeps import Sweeps
from archiver.ledger.tables.unconfirmed import DropCount
from archiver.ledger.tombstones import Tombstones
from archiver.ledger.views import Views


class Ledger:
    """One open ledger. Thread-safe. The parts, in the order of a task's life."""

    database: Database
    dropped: DropCount
    callbacks: Callbacks
    registrations: Registrations
    gateway_creates: GatewayCreates
    claims: Claims
    records: Records
    outcomes: Outcomes
    folder_work: FolderWork
    second_looks: SecondLooks
    missing_objects: MissingObjects
    restores: Restores
    trust: Trust
    forwards: Forwards
    forward_orders: ForwardOrders
    forward_upkeep: ForwardUpkeep
    holds: Holds
    sweeps: Sweeps
    sweep_requests: SweepRequests
    availability: EndpointRefusals
    ended_sessions: EndedSessions
    deadlines: Deadlines
    recounts: Recounts
    daemons: Daemons
    duties: Duties
    accounts: Accounts
    views: Views
    trends: Trends
    files: Files
    tombstones: Tombstones
    rebuilding: Rebuilding
    audits: Audits
    acknowledgements: Acknowledgements
    alerts: Alerts

    def __init__(
        self, database: Database, *, now: Callable[[], int], unconfirmed_max: int = UNCONFIRMED_MAX
    ) -> None:
        """`now` gives Unix ms."""
        self.database = database
        self.now = now
        self._unconfirmed_max = unconfirmed_max
        self.dropped = DropCount()
        self.callbacks = Callbacks(database, now=now, unconfirmed_max=unconfirmed_max, dropped=self.dropped)
        self.registrations = Registrations(database, now=now)
        self.gateway_creates = GatewayCreates(database, now=now)
        self.claims = Claims(database, now=now)
        self.records = Records(database, now=now)
        self.outcomes = Outcomes(database, now=now)
        self.folder_work = FolderWork(database, now=now)
        self.second_looks = SecondLooks(database, now=now)
        self.missing_objects = MissingObjects(database, now=now)
        self.restores = Restores(database, now=now)
        self.trust = Trust(database, now=now)
        self.forwards = Forwards(database, now=now)
        self.forward_orders = ForwardOrders(database, now=now)
        self.forward_upkeep = ForwardUpkeep(database, now=now)
        self.holds = Holds(database, now=now)
        self.sweeps = Sweeps(database, now=now)
        self.sweep_requests = SweepRequests(database, now=now)
        self.availability = EndpointRefusals(database, now=now)
        self.ended_sessions = EndedSessions(database, now=now)
        self.deadlines = Deadlines(database, now=now, unconfirmed_max=unconfirmed_max)
        self.recounts = Recounts(database, now=now)
        self.daemons = Daemons(database, now=now)
        self.duties = Duties(database, now=now)
        self.accounts = Accounts(database, now=now)
        self.views = Views(database, now=now)
        self.trends = Trends(database, now=now)
        self.files = Files(database, now=now)
        self.tombstones = Tombstones(database, now=now)
        self.rebuilding = Rebuilding(database, now=now)
        self.audits = Audits(database, now=now)
        self.acknowledgements = Acknowledgements(database, now=now)
        self.alerts = Alerts(database, now=now)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        daemon: bool,
        create: bool | None = None,
        direct_url: str | None = None,
        busy_seconds: float = BUSY_SECONDS,
        unconfirmed_max: int = UNCONFIRMED_MAX,
        log_bytes_max: int = LOG_BYTES_MAX,
        now: Callable[[], int] | None = None,
    ) -> Self:
        """Open the ledger at `url` (`sqlite:///…`); with `create` (by default: as `daemon`), create and migrate it.
        `direct_url` leads to the same PostgreSQL server past any pooler, for what a migration builds beside writers.

        On SQLite a daemon locks it against other daemons and frees the leases of dead ones. `now` is the database's
        clock unless a test gives another. Raises LedgerUnusable with a sentence for the operator (without `create` also
        for an older ledger, and LedgerMissing; LedgerAltered for a schema that is no version's), LedgerUnavailable when
        the ledger is busy.
        """
        create = daemon if create is None else create
        database = open_database(
            url,
            daemon=daemon,
            create=create,
            direct_url=direct_url,
            busy_seconds=busy_seconds,
            log_bytes_max=log_bytes_max,
        )
        now = now or database.now
        try:
            if create:
                upgrade.migrate(database)
            with database.read() as connection:
                if not create:
                    upgrade.require_current(connection, name=database.name)
                comparison.require_same(connection, name=database.name)
            if daemon:
                with database.write() as connection:
                    begin_daemon(database, connection, now=now())
        except BaseException:
            database.close()
            raise
        return cls(database, now=now, unconfirmed_max=unconfirmed_max)

    @classmethod
    def require_fit(cls, url: str) -> None:
        """Raises LedgerUnusable and LedgerUnavailable where a daemon would not open the ledger at `url`; changes
        nothing. Where there is none yet, or an older one, it would make it fit."""
        try:
            cls.open(url, daemon=False).close()
        except (LedgerMissing, LedgerOld):
            return

    def fenced(self, duty: Duty, token: Callable[[], str | None]) -> "Ledger":
        """The same ledger for the holder of a duty: its writes raise Deposed once another process has the duty.

        Leases of sweeps are fenced by their own tokens, and must be given back also by a process that was deposed.
        """
        database = FencedDatabase(self.database, duty, token)
        fenced = Ledger(database, now=self.now, unconfirmed_max=self._unconfirmed_max)
        fenced.sweeps = self.sweeps
        return fenced

    def close(self) -> None:
        """Close the database; leases that are still held end by themselves."""
        self.database.close()
