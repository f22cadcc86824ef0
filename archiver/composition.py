"""Wires the engine together from settings: the one place where settings become values, used by both entry points.

Nothing here does work or opens a connection, but for the ledger, which is locked and migrated when it is opened. An
API, a bucket or a network that is not there is found out by the stages, which then hold; it is no reason to be down.
"""

import concurrent.futures
import dataclasses
import importlib.metadata
import random
import threading
from collections.abc import Callable

from archiver import log
from archiver.adoption import Adopter
from archiver.archive import Archiver
from archiver.config import Settings, SettingsError
from archiver.discovery import Discoverer
from archiver.download import Fetcher
from archiver.egress import EgressPolicy
from archiver.failures import Failure
from archiver.kling import ApiKey, Credential, KeyPair, KlingClient
from archiver.leases import LeaseKeeper
from archiver.ledger import Ledger, new_daemon_id, unix_ms
from archiver.limiter import RateLimiter
from archiver.lookup import Lookup
from archiver.metrics import Metrics
from archiver.offers import Offers
from archiver.products import collection_of, swept
from archiver.setback import Setbacks
from archiver.spool import Spool
from archiver.store import S3Store
from archiver.sweep import Sweeper
from archiver.tend import Tender
from archiver.transfer import Transfer, TransferLimits
from archiver.verify import Verifier
from archiver.worker import Stages, Worker, WorkerLimits

VERSION = importlib.metadata.version("kling-archiver")

_STORE_CONNECTIONS_PER_TASK = 2
"""Each task that is archived may list or seal in its own thread, while another one's transfer fills the first."""


SPOOL_MEMORY_BYTES_MAX = 32 * 1024 * 1024
"""Small images that never touch the disk: sixteen at a time of a usual size."""


@dataclasses.dataclass(frozen=True)
class Engine:
    """Everything that `build_engine` has made and an entry point runs."""

    worker: Worker
    tender: Tender
    client: KlingClient
    ledger: Ledger
    _closes: tuple[Callable[[], None], ...]

    def close(self) -> None:
        """Close connections; after `worker.stop`."""
        for close in self._closes:
            close()


def build_client(settings: Settings, metrics: Metrics, *, stop: threading.Event) -> KlingClient:
    """The API client of the settings' account, with the limiter that all its questions share."""
    limiter = RateLimiter(settings.query_rate_per_second, wait=stop.wait)

    def observe(endpoint: str, code: str) -> None:
        metrics.api_requests_total.labels(endpoint=endpoint, code=code).inc()

    return KlingClient(settings.base_url, _credential(settings), limiter, observe=observe)


def build_sweeper(
    settings: Settings, ledger: Ledger, client: KlingClient, metrics: Metrics, *, offers: Offers | None = None
) -> Sweeper:
    """The sweep of the settings' account; `offers` where others know the same account."""
    return Sweeper(
        account=settings.account,
        client=client,
        ledger=ledger,
        offers=offers or Offers(account=settings.account, ledger=ledger, now=unix_ms),
        discoverer=Discoverer(
            account=settings.account,
            families=settings.families,
            client=client,
            ledger=ledger,
            metrics=metrics,
            now=unix_ms,
            rand=random.random,
        ),
        metrics=metrics,
        full_interval_ms=int(settings.sweep_full_interval_seconds * 1000),
        now=unix_ms,
        rand=random.random,
    )


def build_engine(
    settings: Settings,
    ledger: Ledger,
    metrics: Metrics,
    *,
    stop: threading.Event,
    on_death: Callable[[], None],
) -> Engine:
    """The whole engine. Raises SettingsError when boto3 can make nothing of its part of the settings."""
    client = build_client(settings, metrics, stop=stop)
    keeper = LeaseKeeper(ledger)
    store = build_store(settings)
    fetcher = Fetcher(policy=EgressPolicy.parse(settings.asset_hosts), spool=_spool(settings))
    transfer = Transfer(
        fetcher=fetcher, store=store, keeper=keeper, limits=_transfer_limits(settings), now=unix_ms
    )
    pool = concurrent.futures.ThreadPoolExecutor(settings.transfer_concurrency, thread_name_prefix="transfer")
    archiver = Archiver(
        account=settings.account,
        prefix=settings.s3_prefix,
        client=client,
        ledger=ledger,
        store=store,
        transfer=transfer,
        adopter=Adopter(store=store, transfer=transfer),
        keeper=keeper,
        pool=pool,
        metrics=metrics,
        now=unix_ms,
    )
    tender = _tender(settings, ledger, client, metrics)
    offers = Offers(account=settings.account, ledger=ledger, now=unix_ms)
    _warn_of_unreadable(settings.families, has_api_key=client.has_api_key)
    stages = Stages(
        ledger=ledger,
        keeper=keeper,
        verifier=Verifier(
            account=settings.account,
            families=settings.families,
            client=client,
            ledger=ledger,
            offers=offers,
            metrics=metrics,
            now=unix_ms,
            rand=random.random,
        ),
        lookup=Lookup(families=settings.families, client=client, offers=offers),
        archiver=archiver,
        sweeper=build_sweeper(settings, ledger, client, metrics, offers=offers),
        tender=tender,
        setbacks=Setbacks(ledger=ledger, metrics=metrics, now=unix_ms, rand=random.random),
        metrics=metrics,
        families=swept(settings.families, has_api_key=client.has_api_key),
    )
    limits = WorkerLimits(
        transfer_concurrency=settings.transfer_concurrency,
        sweep_interval_seconds=settings.sweep_interval_seconds,
    )
    worker = Worker(stages, limits, stop=stop, on_death=on_death)

    def close_pool() -> None:
        pool.shutdown(wait=False, cancel_futures=True)

    return Engine(worker, tender, client, ledger, (close_pool, fetcher.close, client.close))


def _warn_of_unreadable(families: tuple[str, ...], *, has_api_key: bool) -> None:
    unreadable = [family for family in families if collection_of(family) is not None]
    if unreadable and not has_api_key:
        what = f"KLING_FAMILIES names {', '.join(unreadable)}, which can be read with KLING_API_KEY only."
        log.get().warning("setting.unknown", message=what)


def build_store(settings: Settings) -> S3Store:
    """The bucket of the settings. Raises SettingsError."""
    try:
        return S3Store.from_settings(
            bucket=settings.s3_bucket,
            endpoint_url=settings.s3_endpoint_url,
            region=settings.s3_region,
            addressing_style=settings.s3_addressing_style,
            max_pool_connections=settings.transfer_concurrency * _STORE_CONNECTIONS_PER_TASK,
        )
    except Failure as error:
        raise SettingsError([f"KLING_S3_… or the AWS configuration: {error}"]) from error


def _credential(settings: Settings) -> Credential:
    if settings.api_key is not None:
        return ApiKey(settings.api_key.get_secret_value())
    access_key, secret_key = settings.access_key, settings.secret_key
    if access_key is None or secret_key is None:
        raise SettingsError(["KLING_ACCESS_KEY and KLING_SECRET_KEY (or KLING_API_KEY) are missing"])
    return KeyPair(access_key.get_secret_value(), secret_key.get_secret_value())


def _spool(settings: Settings) -> Spool:
    return Spool(settings.spool_dir, memory_bytes_max=SPOOL_MEMORY_BYTES_MAX)


def _transfer_limits(settings: Settings) -> TransferLimits:
    return TransferLimits(image_bytes_max=settings.asset_bytes_max, video_bytes_max=settings.video_bytes_max)


def _tender(settings: Settings, ledger: Ledger, client: KlingClient, metrics: Metrics) -> Tender:
    return Tender(
        account=settings.account,
        client=client,
        ledger=ledger,
        metrics=metrics,
        sweep_interval_ms=int(settings.sweep_interval_seconds * 1000),
        daemon_id=new_daemon_id(),
        version=VERSION,
        started_at=unix_ms(),
        now=unix_ms,
    )
