"""The stages of one account, and how they are wired: the product and the tests call the same `build_stages`."""

import concurrent.futures
import dataclasses
import functools
import random
from collections.abc import Callable

from archiver.archive.adoption import Adopter
from archiver.archive.folder_work import FolderWorker
from archiver.archive.stage import Archiver
from archiver.archive.transfer import Transfer, TransferLimits
from archiver.archive.transfers import TransferQueue
from archiver.clock import seconds_passed
from archiver.engine.failure_handling import FailureHandler, log_hold
from archiver.engine.host_watch import HostWatch
from archiver.engine.looks.outage import Outages
from archiver.engine.process_holds import ProcessHolds
from archiver.families import swept
from archiver.fetch.fetcher import Fetcher
from archiver.kling.client import KlingClient
from archiver.leases import LeaseKeeper
from archiver.ledger import Ledger, unix_ms
from archiver.metrics import Metrics
from archiver.model import DAY_MS, Stage
from archiver.record import Recorder
from archiver.store import Store
from archiver.sweep.stage import Sweeper
from archiver.sweep.unswept import UnsweptFamilies, known_to, unswept
from archiver.verify.availability import Availability
from archiver.verify.lists import FamilyLists
from archiver.verify.matching import ListMatcher
from archiver.verify.new_standard import BatchQuery
from archiver.verify.own_paths import OwnPaths
from archiver.verify.restores import RestoreQuestions
from archiver.verify.stage import Verifier
from archiver.verify.unknown_ids import UnknownIdAlarm

TRANSFERS = 16
"""The default of KLING_TRANSFER_CONCURRENCY."""


@dataclasses.dataclass(frozen=True)
class Clock:
    """The clocks and the random numbers that the stages use; a test passes its own."""

    now_ms: Callable[[], int] = unix_ms
    """Unix ms by the wall clock."""
    monotonic: Callable[[], float] = seconds_passed
    """Seconds, by which leases end."""
    random: Callable[[], float] = random.random
    """Numbers in [0, 1), for jitter."""


@dataclasses.dataclass(frozen=True)
class Account:
    """What the stages need to know of one account."""

    name: str
    families: tuple[str, ...]
    client: KlingClient
    limits: TransferLimits
    prefix: str = ""
    """What each of its keys in the bucket begins with."""
    former_names: tuple[str, ...] = ()
    """Manifests that bear one of these are its own."""
    ignored_families: tuple[str, ...] = ()
    """The operator does not want their results."""
    full_sweep_interval_ms: int = DAY_MS


@dataclasses.dataclass(frozen=True)
class Stages:
    """What the worker of one account runs."""

    account: Account
    ledger: Ledger
    asking: Ledger
    """The same ledger for everything that queries the API: it refuses writes once another process has the account."""
    keeper: LeaseKeeper
    """For this account only: a stop gives back all leases that it holds."""
    availability: Availability
    list_matcher: ListMatcher
    verifier: Verifier
    batch_query: BatchQuery
    archiver: Archiver
    folder_worker: FolderWorker
    restore_questions: RestoreQuestions
    sweeper: Sweeper
    unswept: UnsweptFamilies
    failure_handler: FailureHandler
    hosts: HostWatch
    outages: Outages
    store: Store
    metrics: Metrics
    process_holds: ProcessHolds | None
    """Where other processes may work on the same ledger."""
    swept_families: tuple[str, ...]
    """The lists that the account's credentials can read."""


def build_sweeper(
    account: Account,
    *,
    ledger: Ledger,
    metrics: Metrics,
    clock: Clock,
    availability: Availability | None = None,
) -> Sweeper:
    """The sweep of one account. `availability` is the one that the account's other stages know."""
    return Sweeper(
        account=account.name,
        families=account.families,
        client=account.client,
        ledger=ledger,
        availability=availability or Availability(account=account.name, ledger=ledger, now=clock.now_ms),
        recorder=Recorder(account.name, ledger, metrics, clock.random),
        metrics=metrics,
        full_interval_ms=account.full_sweep_interval_ms,
        now=clock.now_ms,
    )


def build_stages(
    account: Account,
    *,
    ledger: Ledger,
    store: Store,
    fetcher: Fetcher,
    metrics: Metrics,
    transfer_pool: concurrent.futures.Executor,
    transfers: int = TRANSFERS,
    accounts: int = 1,
    clock: Clock | None = None,
    asking: Ledger | None = None,
    process_holds: ProcessHolds | None = None,
) -> Stages:
    """The stages of one account.

    `asking` is the ledger for what asks the API, where it is not `ledger`. `transfer_pool` has `transfers` threads.
    Each account needs its own pool: in a common queue its files would wait behind another account's slow host.
    `accounts` is how many share the transfers, which limits how many of them one failing host may take.
    """
    shared = _build_shared(
        account,
        ledger=ledger,
        asking=asking or ledger,
        store=store,
        fetcher=fetcher,
        metrics=metrics,
        clock=clock or Clock(),
        hosts=HostWatch(transfers=max(1, transfers // accounts)),
        process_holds=process_holds,
    )
    verifier = _build_verifier(shared)
    return Stages(
        account=account,
        ledger=ledger,
        asking=shared.asking,
        availability=shared.availability,
        keeper=shared.keeper,
        list_matcher=_build_list_matcher(shared),
        verifier=verifier,
        batch_query=BatchQuery(
            families=account.families, client=account.client, availability=shared.availability
        ),
        archiver=_build_archiver(shared, TransferQueue(transfer_pool, threads=transfers, hosts=shared.hosts)),
        folder_worker=_build_folder_worker(shared),
        restore_questions=_build_restore_questions(shared, verifier),
        sweeper=build_sweeper(
            account,
            ledger=shared.asking,
            metrics=metrics,
            clock=shared.clock,
            availability=shared.availability,
        ),
        unswept=UnsweptFamilies(
            account.name,
            unswept(account.families, ignored=account.ignored_families),
            client=account.client,
            known=known_to(ledger, account=account.name),
            now=shared.clock.now_ms,
            monotonic=shared.clock.monotonic,
        ),
        failure_handler=shared.failure_handler,
        hosts=shared.hosts,
        outages=shared.outages,
        store=store,
        metrics=metrics,
        process_holds=process_holds,
        swept_families=swept(account.families, has_api_key=account.client.has_api_key),
    )


@dataclasses.dataclass(frozen=True)
class _Shared:
    """The parts that several stages of an account share."""

    account: Account
    ledger: Ledger
    asking: Ledger
    store: Store
    metrics: Metrics
    clock: Clock
    process_holds: ProcessHolds | None
    availability: Availability
    lists: FamilyLists
    recorder: Recorder
    alarm: UnknownIdAlarm
    keeper: LeaseKeeper
    folder_keeper: LeaseKeeper
    """Renews leases on folder work."""
    transfer: Transfer
    hosts: HostWatch
    outages: Outages
    failure_handler: FailureHandler


def _build_shared(
    account: Account,
    *,
    ledger: Ledger,
    asking: Ledger,
    store: Store,
    fetcher: Fetcher,
    metrics: Metrics,
    clock: Clock,
    hosts: HostWatch,
    process_holds: ProcessHolds | None,
) -> _Shared:
    availability = Availability(account=account.name, ledger=asking, now=clock.now_ms)
    keeper = LeaseKeeper(ledger, monotonic=clock.monotonic)
    outages = Outages(monotonic=clock.monotonic)
    return _Shared(
        account=account,
        ledger=ledger,
        asking=asking,
        store=store,
        metrics=metrics,
        clock=clock,
        process_holds=process_holds,
        availability=availability,
        lists=FamilyLists(account.name, account.client, asking, availability, metrics),
        recorder=Recorder(account.name, asking, metrics, clock.random),
        alarm=UnknownIdAlarm(),
        keeper=keeper,
        folder_keeper=LeaseKeeper(ledger, monotonic=clock.monotonic, leases=ledger.folder_work),
        transfer=Transfer(
            fetcher=fetcher, store=store, keeper=keeper, limits=account.limits, hosts=hosts, now=clock.now_ms
        ),
        hosts=hosts,
        outages=outages,
        failure_handler=FailureHandler(
            ledger,
            metrics,
            hosts,
            outages,
            now=clock.now_ms,
            rand=clock.random,
            asking=asking,
            process_holds=process_holds,
        ),
    )


def _build_verifier(shared: _Shared) -> Verifier:
    account = shared.account
    return Verifier(
        account=account.name,
        families=account.families,
        client=account.client,
        ledger=shared.asking,
        lists=shared.lists,
        own_paths=OwnPaths(account=account.name, ledger=shared.asking, availability=shared.availability),
        recorder=shared.recorder,
        alarm=shared.alarm,
        metrics=shared.metrics,
        now=shared.clock.now_ms,
        random=shared.clock.random,
    )


def _build_list_matcher(shared: _Shared) -> ListMatcher:
    return ListMatcher(
        account=shared.account.name,
        families=shared.account.families,
        ledger=shared.asking,
        lists=shared.lists,
        recorder=shared.recorder,
        alarm=shared.alarm,
        now=shared.clock.now_ms,
    )


def _build_archiver(shared: _Shared, transfers: TransferQueue) -> Archiver:
    return Archiver(
        account=shared.account.name,
        prefix=shared.account.prefix,
        ledger=shared.ledger,
        store=shared.store,
        transfer=shared.transfer,
        adopter=_build_adopter(shared.account, shared.transfer),
        keeper=shared.keeper,
        transfers=transfers,
        metrics=shared.metrics,
        now=shared.clock.now_ms,
    )


def _build_folder_worker(shared: _Shared) -> FolderWorker:
    name = shared.account.name
    handler = shared.failure_handler
    transfer = dataclasses.replace(shared.transfer, keeper=shared.folder_keeper)
    return FolderWorker(
        account=name,
        prefix=shared.account.prefix,
        ledger=shared.ledger,
        store=shared.store,
        transfer=transfer,
        adopter=_build_adopter(shared.account, transfer),
        keeper=shared.folder_keeper,
        metrics=shared.metrics,
        now=shared.clock.now_ms,
        random=shared.clock.random,
        hold_in_outage=handler.hold_in_outage,
        on_hold=functools.partial(log_hold, account=name, stage=Stage.ARCHIVE),
        is_of_process=functools.partial(handler.is_of_process, account=name, stage=Stage.ARCHIVE),
        is_stopped=functools.partial(_is_stopped, shared.process_holds, name),
    )


def _build_adopter(account: Account, transfer: Transfer) -> Adopter:
    return Adopter(transfer, frozenset({account.name, *account.former_names}))


def _build_restore_questions(shared: _Shared, verifier: Verifier) -> RestoreQuestions:
    return RestoreQuestions(
        account=shared.account.name,
        asking=shared.asking,
        ledger=shared.ledger,
        keeper=shared.folder_keeper,
        ask=verifier.fresh_task,
        metrics=shared.metrics,
        now=shared.clock.now_ms,
        random=shared.clock.random,
        hold_in_outage=shared.failure_handler.hold_in_outage,
    )


def _is_stopped(holds: ProcessHolds | None, account: str) -> bool:
    return holds is not None and holds.stops(account, Stage.ARCHIVE)
