"""The stages of one account, and how they are wired: the product and the tests call the same `build_stages`."""

import concurrent.futures
import dataclasses
import random
import time
from collections.abc import Callable

from archiver.archive.adoption import Adopter
from archiver.archive.stage import Archiver
from archiver.archive.transfer import Transfer, TransferLimits
from archiver.engine.failure_handling import FailureHandler
from archiver.families import swept
from archiver.fetch.fetcher import Fetcher
from archiver.kling.client import KlingClient
from archiver.leases import LeaseKeeper
from archiver.ledger import Ledger, unix_ms
from archiver.metrics import Metrics
from archiver.model import DAY_MS
from archiver.record import Recorder
from archiver.store import Store
from archiver.sweep.stage import Sweeper
from archiver.verify.availability import Availability
from archiver.verify.new_standard import BatchQuery
from archiver.verify.stage import Verifier


@dataclasses.dataclass(frozen=True)
class Clock:
    """The time and the chance that stages go by; a test passes its own."""

    now_ms: Callable[[], int] = unix_ms
    """Unix ms by the wall clock."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds."""
    random: Callable[[], float] = random.random
    """Numbers in [0, 1), for jitter."""


@dataclasses.dataclass(frozen=True)
class Account:
    """What the stages need to know of one account. The client is the account's own, with its keys and its limiter."""

    name: str
    families: tuple[str, ...]
    client: KlingClient
    limits: TransferLimits
    prefix: str = ""
    """What each of its keys in the bucket begins with."""
    full_sweep_interval_ms: int = DAY_MS


@dataclasses.dataclass(frozen=True)
class Stages:
    """What the worker of one account runs."""

    account: Account
    ledger: Ledger
    keeper: LeaseKeeper
    """Holds this account's leases only: a stop gives back all that it holds."""
    verifier: Verifier
    batch_query: BatchQuery
    archiver: Archiver
    sweeper: Sweeper
    failure_handler: FailureHandler
    metrics: Metrics
    swept_families: tuple[str, ...]
    """The lists that the account's credentials can read."""


def build_sweeper(
    account: Account, *, ledger: Ledger, metrics: Metrics, clock: Clock, offers: Availability | None = None
) -> Sweeper:
    """The sweep of one account. `offers`: the availability that the account's other stages know of."""
    return Sweeper(
        account=account.name,
        families=account.families,
        client=account.client,
        ledger=ledger,
        availability=offers or Availability(account=account.name, ledger=ledger, now=clock.now_ms),
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
    clock: Clock | None = None,
) -> Stages:
    """The stages of one account. Its files are transferred in `transfer_pool`, which should be its own: in a common
    queue they would wait behind the files of another account's slow host.
    """
    clock = clock or Clock()
    keeper = LeaseKeeper(ledger, monotonic=clock.monotonic)
    offers = Availability(account=account.name, ledger=ledger, now=clock.now_ms)
    transfer = Transfer(fetcher=fetcher, store=store, keeper=keeper, limits=account.limits, now=clock.now_ms)
    return Stages(
        account=account,
        ledger=ledger,
        keeper=keeper,
        verifier=Verifier(
            account=account.name,
            families=account.families,
            client=account.client,
            ledger=ledger,
            offers=offers,
            metrics=metrics,
            now=clock.now_ms,
            rand=clock.random,
        ),
        batch_query=BatchQuery(families=account.families, client=account.client, offers=offers),
        archiver=Archiver(
            account=account.name,
            prefix=account.prefix,
            client=account.client,
            ledger=ledger,
            store=store,
            transfer=transfer,
            adopter=Adopter(transfer),
            keeper=keeper,
            pool=transfer_pool,
            metrics=metrics,
            now=clock.now_ms,
        ),
        sweeper=build_sweeper(account, ledger=ledger, metrics=metrics, clock=clock, offers=offers),
        failure_handler=FailureHandler(ledger=ledger, metrics=metrics, now=clock.now_ms, rand=clock.random),
        metrics=metrics,
        swept_families=swept(account.families, has_api_key=account.client.has_api_key),
    )
