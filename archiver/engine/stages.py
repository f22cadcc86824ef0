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
    """The time and the chance that stages go by; a test passes its own."""

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
    full_sweep_interval_ms: int = DAY_MS


@dataclasses.dataclass(frozen=True)
class Stages:
    """What the worker of one account runs."""

    account: Account
    ledger: Ledger
    asking: Ledger
    """The same for what asks the API: its writes are refused once another process asks for the account."""
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
    """The stages of one account. `asking` is the ledger of those that ask the API, where it is not the same.
    `transfer_pool`, of `transfers` threads, should be its own: in a common queue its
    files would wait behind those of another account's slow host. `accounts` share the transfers, and so what one
    failing host may take of them."""
    clock = clock or Clock()
    asking = asking or ledger
    keeper = LeaseKeeper(ledger, monotonic=clock.monotonic)
    availability = Availability(account=account.name, ledger=asking, now=clock.now_ms)
    lists = FamilyLists(account.name, account.client, asking, availability, metrics)
    recorder = Recorder(account.name, asking, metrics, clock.random)
    alarm = UnknownIdAlarm()
    outages = Outages(monotonic=clock.monotonic)
    hosts = HostWatch(transfers=max(1, transfers // accounts))
    adopter_accounts = frozenset({account.name, *account.former_names})
    folder_keeper = LeaseKeeper(ledger, monotonic=clock.monotonic, leases=ledger.folder_work)
    transfer = Transfer(
        fetcher=fetcher, store=store, keeper=keeper, limits=account.limits, hosts=hosts, now=clock.now_ms
    )
    folder_transfer = dataclasses.replace(transfer, keeper=folder_keeper)
    failure_handler = FailureHandler(
        ledger,
        metrics,
        hosts,
        outages,
        now=clock.now_ms,
        rand=clock.random,
        asking=asking,
        process_holds=process_holds,
    )
    verifier = Verifier(
        account=account.name,
        families=account.families,
        client=account.client,
        ledger=asking,
        lists=lists,
        own_paths=OwnPaths(account=account.name, ledger=asking, availability=availability),
        recorder=recorder,
        alarm=alarm,
        metrics=metrics,
        now=clock.now_ms,
        random=clock.random,
    )
    return Stages(
        account=account,
        ledger=ledger,
        asking=asking,
        availability=availability,
        keeper=keeper,
        list_matcher=ListMatcher(
            account=account.name,
            families=account.families,
            ledger=asking,
            lists=lists,
            recorder=recorder,
            alarm=alarm,
            now=clock.now_ms,
        ),
        verifier=verifier,
        batch_query=BatchQuery(families=account.families, client=account.client, availability=availability),
        archiver=Archiver(
            account=account.name,
            prefix=account.prefix,
            ledger=ledger,
            store=store,
            transfer=transfer,
            adopter=Adopter(transfer, adopter_accounts),
            keeper=keeper,
            transfers=TransferQueue(transfer_pool, threads=transfers, hosts=hosts),
            metrics=metrics,
            now=clock.now_ms,
        ),
        folder_worker=FolderWorker(
            account=account.name,
            prefix=account.prefix,
            ledger=ledger,
            store=store,
            transfer=folder_transfer,
            adopter=Adopter(folder_transfer, adopter_accounts),
            keeper=folder_keeper,
            metrics=metrics,
            now=clock.now_ms,
            random=clock.random,
            hold_in_outage=failure_handler.hold_in_outage,
            on_hold=functools.partial(log_hold, account=account.name, stage=Stage.ARCHIVE),
            is_of_process=functools.partial(
                failure_handler.is_of_process, account=account.name, stage=Stage.ARCHIVE
            ),
            is_stopped=functools.partial(_is_stopped, process_holds, account.name),
        ),
        restore_questions=RestoreQuestions(
            account=account.name,
            asking=asking,
            ledger=ledger,
            keeper=folder_keeper,
            ask=verifier.fresh_task,
            metrics=metrics,
            now=clock.now_ms,
            random=clock.random,
            hold_in_outage=failure_handler.hold_in_outage,
        ),
        sweeper=build_sweeper(
            account, ledger=asking, metrics=metrics, clock=clock, availability=availability
        ),
        failure_handler=failure_handler,
        hosts=hosts,
        outages=outages,
        store=store,
        metrics=metrics,
        process_holds=process_holds,
        swept_families=swept(account.families, has_api_key=account.client.has_api_key),
    )


def _is_stopped(holds: ProcessHolds | None, account: str) -> bool:
    return holds is not None and holds.stops(account, Stage.ARCHIVE)
