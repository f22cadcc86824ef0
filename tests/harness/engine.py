"""The archive stage on a desk: real ledger, real fetcher, real API client, the simulator, and a store that complains.

Time is the test's: `clock` moves the ledger and the leases, and nothing here waits for it. Every effect of an attempt
goes through `Effects`, where a test makes it fail, or fail but happen, or be the last thing that this process did.
"""

import concurrent.futures
import json
import pathlib
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from archiver.archive.second_look import SecondLook
from archiver.archive.transfer import TransferLimits
from archiver.engine.stages import Account, Clock, Stages, build_stages
from archiver.failures import LeaseLost, Outside, PartlyDone
from archiver.fetch.connecting import Resolver, resolve
from archiver.fetch.fetcher import SECONDS_MAX, FetchedFile, Fetcher
from archiver.fetch.spool import Space, Spool, disk_space
from archiver.fetch.urls import EgressPolicy
from archiver.kling.client import KlingClient
from archiver.kling.credentials import ApiKey, KeyPair
from archiver.kling.limiter import Priority, RateLimiter
from archiver.ledger import Ledger
from archiver.ledger.claims import Claims
from archiver.ledger.databases.protocol import Database
from archiver.ledger.outcomes import Outcomes
from archiver.metrics import Metrics
from archiver.model import Callback, DiscoveredBy, Lane, Lease, LeasedAsset, Stage, Status, StoredAsset
from tests.harness.by_hand import PostgresByHand, SqliteByHand
from tests.harness.fake_store import FakeStore
from tests.simulator import KlingSimulator

ACCOUNT = "default"
FAMILY = "images/generations"
_SSL_CONTEXT = ssl.create_default_context()
"""Made once: reading the certificates takes longer than a whole attempt."""
LIMITS = TransferLimits(image_bytes_max=1024 * 1024, video_bytes_max=4 * 1024 * 1024)


TRANSFERS = 8


class EngineClock:
    """Unix milliseconds for the ledger and seconds for the leases, moved by the test only."""

    def __init__(self) -> None:
        self._wall_ms = time.time_ns() // 1_000_000
        self._passed_ms = 0

    def now(self) -> int:
        return self._wall_ms

    def monotonic(self) -> float:
        return self._passed_ms / 1000

    def advance(self, *, seconds: float) -> None:
        """Time passes."""
        self._passed_ms += int(seconds * 1000)
        self._wall_ms += int(seconds * 1000)

    def set_ahead(self, *, seconds: float) -> None:
        """An operator sets the machine's clock; no time passes."""
        self._wall_ms += int(seconds * 1000)


class Died(BaseException):
    """The process ends here: no handler catches it, no lease is ended, and the next process finds what is there."""


class Effects:
    """Every effect by its label (`put 0.png`, `list #2`), what happened so far and what is to fail."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.plan: dict[str, tuple[bool, BaseException]] = {}
        """Label → (whether it happens all the same, what is raised)."""
        self._lock = threading.Lock()

    def __call__(self, operation: str, key: str = "") -> tuple[bool, BaseException | None]:
        name = key.rpartition("/")[2] if operation in ("put", "head", "read", "digest") else ""
        label = f"{operation} {name}".strip()
        with self._lock:
            before = sum(one.partition(" #")[0] == label for one in self.seen)
            self.seen.append(label if not before else f"{label} #{before + 1}")
            return self.plan.pop(self.seen[-1], (True, None))


class HookedClaims(Claims):
    """The real claims; reading the assets is an effect of an attempt."""

    effects = Effects()

    def assets(self, lease: Lease) -> tuple[LeasedAsset, ...] | None:
        apply, error = self.effects("assets")
        assets = super().assets(lease) if apply else None
        if error is not None:
            raise error
        return assets


class HookedOutcomes(Outcomes):
    """The real outcomes; archiving is an effect of an attempt."""

    effects = Effects()

    def archived(
        self,
        lease: Lease,
        *,
        manifest_key: str,
        archived_at: int,
        stored: Sequence[StoredAsset],
        amendment_keys: Sequence[str] = (),
        is_adopted: bool = False,
        external_task_id: str | None = None,
        request: Mapping[str, object] | None = None,
        updated_at: int | None = None,
    ) -> None:
        apply, error = self.effects("archived")
        if apply:
            super().archived(
                lease,
                manifest_key=manifest_key,
                archived_at=archived_at,
                stored=stored,
                amendment_keys=amendment_keys,
                is_adopted=is_adopted,
                external_task_id=external_task_id,
                request=request,
                updated_at=updated_at,
            )
        if error is not None:
            raise error


class HookedLedger(Ledger):
    """The real ledger, two of whose transactions are effects of an attempt."""

    def __init__(self, database: Database, *, now: Callable[[], int], **options: Any) -> None:
        super().__init__(database, now=now, **options)
        self.claims = HookedClaims(database, now=now)
        self.outcomes = HookedOutcomes(database, now=now)


class HookedFetcher(Fetcher):
    """The real fetcher. A fetch that fails but happens leaves a whole file in the spool, which must not stay."""

    effects = Effects()

    def fetch(
        self, url: str, *, bytes_max: int, seconds_max: float = SECONDS_MAX, suspect_sha256: str | None = None
    ) -> FetchedFile:
        apply, error = self.effects("fetch")
        if error is not None and not apply:
            raise error
        fetched = super().fetch(
            url, bytes_max=bytes_max, seconds_max=seconds_max, suspect_sha256=suspect_sha256
        )
        if error is not None:
            fetched.close()
            raise error
        return fetched


class Engine:
    """One process's archive stage. `restart` is what a new process after a kill -9 would be."""

    def __init__(
        self,
        sim: KlingSimulator,
        folder: pathlib.Path,
        *,
        store: FakeStore | None = None,
        limits: TransferLimits = LIMITS,
        ledger_class: type[HookedLedger] = HookedLedger,
        api_key: bool = False,
        families: Sequence[str] = (FAMILY,),
        clock: EngineClock | None = None,
        by_hand: SqliteByHand | PostgresByHand | None = None,
    ) -> None:
        """`clock` is the simulator's too, where it is given; else the simulator and the client keep real time.
        `by_hand` is where the ledger is; by default a file in `folder`."""
        self.sim = sim
        self.clock = clock or EngineClock()
        self._client_now = time.time if clock is None else lambda: self.clock.now() / 1000
        self.effects = Effects()
        self.store = store or FakeStore()
        self.store.hook = self.effects
        self.space: Space | None = None
        """What the spool's file system says it has; None: the truth."""
        self.metrics = Metrics()
        self.ledger_folder = folder
        self.by_hand = by_hand or SqliteByHand(folder / "ledger.db")
        self._limits = limits
        self._ledger_class = ledger_class
        self._families = tuple(families)
        self.asset_hosts: tuple[str, ...] = ()
        """KLING_ASSET_HOSTS besides the simulator, from the next restart on."""
        self.resolver: Resolver = resolve
        """Of the fetcher, from the next restart on."""
        self.former_names: tuple[str, ...] = ()
        """Of the account, from the next restart on."""
        self._credential = ApiKey(sim.api_key) if api_key else KeyPair(sim.access_key, sim.secret_key)
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def restart(self, *, ledger_lost: bool = False) -> None:
        """A new process; with `ledger_lost`, on a new ledger."""
        self._close()
        if ledger_lost:
            self.by_hand.lose()
        self.effects.plan.clear()
        self._open()

    def _open(self) -> None:
        sim, clock = self.sim, self.clock
        HookedClaims.effects = HookedOutcomes.effects = HookedFetcher.effects = self.effects
        self.ledger = self.by_hand.open(now=clock.now, kind=self._ledger_class)
        self.ledger.duties.take_part("engine", accounts=[ACCOUNT])
        self.client = KlingClient(
            sim.base_url,
            self._credential,
            RateLimiter(1000, wait=lambda _seconds: False),
            now=self._client_now,
        )
        self.spool_folder = self.ledger_folder / "spool"
        self.spool = Spool(self.spool_folder, space=lambda folder: self.space or disk_space(folder))
        self.fetcher = HookedFetcher(
            policy=EgressPolicy.parse([sim.origin, *self.asset_hosts]),
            spool=self.spool,
            resolver=self.resolver,
            ssl_context=_SSL_CONTEXT,
        )
        self._pool = concurrent.futures.ThreadPoolExecutor(TRANSFERS)
        self.stages = self.stages_for(self._families)
        self.second_look = SecondLook(
            self.ledger,
            self.store,
            self.metrics,
            {ACCOUNT: self.stages.outages.of(Outside.STORE).failed},
            pause=lambda: True,
        )
        self.keeper, self.archiver = self.stages.keeper, self.stages.archiver
        self.transfer, self.failure_handler = self.archiver.transfer, self.stages.failure_handler

    def stages_for(self, families: Sequence[str]) -> Stages:
        """The stages of this process, were these the families of its settings."""
        account = Account(
            name=ACCOUNT,
            families=tuple(families),
            client=self.client,
            limits=self._limits,
            prefix="kling/",
            former_names=self.former_names,
            full_sweep_interval_ms=10**12,
        )
        return build_stages(
            account,
            ledger=self.ledger,
            store=self.store,
            fetcher=self.fetcher,
            metrics=self.metrics,
            transfer_pool=self._pool,
            transfers=TRANSFERS,
            clock=Clock(self.clock.now, self.clock.monotonic, lambda: 0.5),
        )

    def _close(self) -> None:
        self._pool.shutdown()
        self.fetcher.close()
        self.client.close()
        self.ledger.close()

    # --- what a test does ---------------------------------------------------------------------------------

    def succeeded(self, *, family: str = FAMILY, **task: Any) -> str:
        """A task that has succeeded upstream, called back and verified; its id."""
        task_id = self.sim.create_task(family=family, **task)
        self.sim.succeed(task_id)
        self.ledger.callbacks.record([Callback(ACCOUNT, task_id, Status.SUCCEEDED, family)])
        self.verify(task_id, family=family)
        return task_id

    def verify(
        self,
        task_id: str,
        *,
        family: str = FAMILY,
        by: DiscoveredBy = DiscoveredBy.CALLBACK,
        listed: bool = False,
    ) -> None:
        """Ask the simulator, by the single query or by the list, and record what it says."""
        if listed:
            page = self.client.list_page(family, page=1, priority=Priority.VERIFY)
            tasks = [task for task in page.tasks if task.task_id == task_id]
        else:
            tasks = [self.client.query(family, task_id, priority=Priority.VERIFY)]
        self.ledger.records.record(tasks, account=ACCOUNT, discovered_by=by, rand=0.5)

    def due(self) -> int:
        """How many tasks the archive stage could take now; it takes none."""
        return int(self.ledger.claims.any_due(Stage.ARCHIVE, account=ACCOUNT))

    def claim(self) -> Lease:
        """Lease the one task that is due."""
        asked_at = self.keeper.asking()
        (lease,) = self.ledger.claims.archive(slots=dict.fromkeys(Lane, 1), count_max=1, account=ACCOUNT)
        self.keeper.keep([lease], asked_at=asked_at)
        return lease

    def attempt(self, lease: Lease | None = None) -> Exception | None:
        """One try as the worker makes it, settled; what it failed with, or None when it is archived."""
        lease = lease or self.claim()
        try:
            self.archiver.archive(lease)
        except LeaseLost as error:
            return error
        except Exception as error:  # noqa: BLE001 -- as the worker's: whatever it is, it is settled
            self.failure_handler.handle(lease, error)
            return error.cause if isinstance(error, PartlyDone) else error
        finally:
            self.keeper.drop(lease)
        return None

    def act_before(self, label: str, act: Callable[[], object]) -> None:
        """Do something right before the effect of this label on the store."""

        def acting(operation: str, key: str) -> tuple[bool, BaseException | None]:
            answer = self.effects(operation, key)
            if self.effects.seen[-1] == label:
                act()
            return answer

        self.store.hook = acting

    def refresh(self) -> bool:
        """Ask for fresh URLs as verification does, where a task wants them; whether one did."""
        asked_at = self.keeper.asking()
        leases = self.ledger.claims.fresh(account=ACCOUNT, count=1)
        self.keeper.keep(leases, asked_at=asked_at)
        for lease in leases:
            try:
                self.stages.verifier.refresh(lease)
            except Exception as error:  # noqa: BLE001 -- as the worker's: whatever it is, it is settled
                self.failure_handler.handle(lease, error)
            finally:
                self.keeper.drop(lease)
        return bool(leases)

    def attempt_again(self) -> Exception | None:
        """The next try, once it is due; verification has asked for fresh URLs where the last one wanted some."""
        self.clock.advance(seconds=16 * 60)
        self.refresh()
        return self.attempt()

    def use_api_key(self) -> None:
        """From the next restart on."""
        self._credential = ApiKey(self.sim.api_key)

    # --- what a test sees -----------------------------------------------------------------------------------

    def show(self, task_id: str) -> dict[str, Any]:
        shown = self.ledger.views.show(task_id, account=ACCOUNT)
        assert shown is not None
        return shown.as_json()

    def folder(self, task_id: str, family: str = FAMILY) -> str:
        created = time.gmtime(self.sim.task(task_id).created_at / 1000)
        return f"kling/{family}/{time.strftime('%Y/%m/%d', created)}/{task_id}/"

    def manifest(self, task_id: str, family: str = FAMILY) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(
            self.store.content(self.folder(task_id, family) + "manifest.json")
        )
        return content

    def names(self, task_id: str, family: str = FAMILY) -> list[str]:
        """What lies in the task's folder."""
        folder = self.folder(task_id, family)
        return sorted(key.removeprefix(folder) for key in self.store.all_keys() if key.startswith(folder))

    def failures(self) -> Mapping[str, float]:
        """`kling_failures_total` of the archive stage, by reason."""
        return {
            sample.labels["reason"]: sample.value
            for metric in self.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "kling_failures_total" and sample.labels["stage"] == "archive"
        }

    def assert_archived(self, task_id: str, family: str = FAMILY) -> None:
        """One whole set of right bytes, one manifest that names it, nothing else, and no complaint."""
        folder = self.folder(task_id, family)
        expected = self.sim.expected_names(task_id)

        names = self.names(task_id, family)
        amendments = [name for name in names if name.startswith("amendment-")]
        assert self.show(task_id)["state"] == "archived"
        assert names == sorted([*expected, "manifest.json", *amendments])
        assert self.show(task_id)["amendment_keys"] == [folder + name for name in amendments]
        for name in expected:
            assert self.store.content(folder + name) == self.sim.expected_bytes(task_id, name)
        documents = [json.loads(self.store.content(folder + name)) for name in ("manifest.json", *amendments)]
        named = [asset["name"] for document in documents for asset in document["assets"]]
        assert sorted(named) == expected
        assert [asset["stored"] for asset in self.show(task_id)["assets"]] == [True] * len(expected)
        self.assert_clean()

    def assert_clean(self) -> None:
        assert self.store.complaints == []
        assert self.sim.complaints == []
        assert self.spool.promised_bytes == 0
        assert not self.spool_folder.exists() or list(self.spool_folder.iterdir()) == []
