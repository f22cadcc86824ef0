"""Turns settings into the objects that both entry points run.

Each account has its own worker, client, limiter, sweep and threads. Accounts share ledger, bucket, spool and transfer
slots. Nothing here opens a connection: a missing API, bucket or network is found by the stages, which then hold. It is
no reason to be down.
"""

import contextlib
import dataclasses
import functools
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from archiver import log
from archiver.alerts.loop import AlertLoop
from archiver.alerts.sender import AlertSender
from archiver.archive.second_look import CALL_SECONDS, SecondLook, SecondLookLoop
from archiver.archive.transfer import TransferLimits
from archiver.clock import seconds_passed
from archiver.config import doubts
from archiver.config.roles import ProcessRole
from archiver.config.settings import Settings, SettingsError
from archiver.engine.api_clocks import ApiClocks
from archiver.engine.duties.keeper import DutyKeeper, Tenure, build_keeper
from archiver.engine.duties.loop import DutyLoop
from archiver.engine.forwarding.loop import FORWARD_THREADS, ForwardLoop
from archiver.engine.health import Health
from archiver.engine.looks.machine import MachineLook, MachineLoop
from archiver.engine.looks.sharing import SharedStore
from archiver.engine.pools import PrestartedPool
from archiver.engine.process_holds import ProcessHoldLoop, ProcessHolds
from archiver.engine.slots.transfer_slots import TransferSlots
from archiver.engine.stages import Account, Clock, build_stages
from archiver.engine.threads import Guard, Threads
from archiver.engine.upkeep import Upkeep, UpkeepLoop
from archiver.engine.wakeups import WakeUps
from archiver.engine.worker import Loop, Worker, WorkerLimits
from archiver.failures import Failure, LedgerUnavailable, Outside
from archiver.families import swept
from archiver.fetch.fetcher import Fetcher
from archiver.fetch.spool import Spool
from archiver.fetch.urls import ConsumerPolicy, EgressPolicy, vet_own
from archiver.forward.stage import ForwardAccount, Forwarder, Operator
from archiver.forward.urls import DurableUrls, UrlKind
from archiver.kling.client import KlingClient
from archiver.kling.credentials import ApiKey, Credential, KeyPair
from archiver.kling.limiter import RateLimiter
from archiver.ledger import UPKEEP, Ledger, asking, new_daemon_name, unix_ms
from archiver.ledger.databases.opening import is_postgres
from archiver.metrics import Metrics
from archiver.model import Stage
from archiver.problems import Expected
from archiver.store import S3Store, Store
from archiver.store.links import signer_of
from archiver.verify.stage import Verifier
from archiver.version import VERSION
from archiver.webhooks.sender import Signing, WebhookSender

_STORE_CONNECTIONS_PER_ACCOUNT = 1
"""For each transfer; as many again for all accounts, since each task may list and put its manifest meanwhile."""
_LINK_CONNECTIONS = 4
_LINK_CONNECT_SECONDS, _LINK_READ_SECONDS = 2.0, 4.0
_LAST_ROUND_SECONDS = 3.0
"""For a round of upkeep or alerts that is under way at a stop."""
SPOOL_MEMORY_BYTES_MAX = 32 * 1024 * 1024
"""Holds sixteen images of a usual size, which then never touch the disk."""


@dataclasses.dataclass(frozen=True)
class Engine:
    """What an entry point runs."""

    workers: Mapping[str, Worker]
    """By account."""
    duties: DutyKeeper | None
    """Of a process that may ask."""
    upkeep: Upkeep
    health: Health
    ledger: Ledger
    spool: Spool | None
    """Of a process that fetches files or takes large bodies."""
    _threads: tuple[threading.Thread, ...]
    """Of the process: its duties, its upkeep, the look at the machine, second looks, and alerts where an operator wants
    them."""
    _closes: tuple[Callable[[], None], ...]
    _tell: Callable[[Stage, Iterable[str]], None] | None = None
    """Wakes other processes."""
    _forwards: ForwardLoop | None = None
    """Its tries under way are waited for as the loops are."""

    def start(self) -> None:
        """Start every worker, and the process's own loops. The first sign of life is given before the door opens, by
        one that has taken its duties already."""
        with contextlib.suppress(LedgerUnavailable):
            if self.duties is not None:
                self.duties.step()
            self.upkeep.beat()
        for worker in self.workers.values():
            worker.start()
        for thread in self._threads:
            thread.start()

    def wake(self, stage: Stage, accounts: Iterable[str]) -> None:
        """There is something new for `stage` of these accounts; cheap, from any thread."""
        _wake(self.workers, stage, accounts)
        if self._tell is not None:
            self._tell(stage, accounts)

    def stop(self, *, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> bool:
        """Stop every worker as `Worker.stop` does, all within `seconds`: they share one stop event. False when some
        work goes on: once its duties are others', the ledger refuses what it would write of them."""
        until = monotonic() + seconds
        ended = [worker.stop(seconds=max(0.0, until - monotonic())) for worker in self.workers.values()]
        for thread in self._threads:
            # A consumer of alerts that hangs is not waited for.
            thread.join(max(0.0, min(_LAST_ROUND_SECONDS, until - monotonic())))
        if self._forwards is not None:  # a try that goes on hangs, and is sent again
            self._forwards.stop(seconds=max(0.0, min(_LAST_ROUND_SECONDS, until - monotonic())))
        if self.duties is not None:
            with contextlib.suppress(LedgerUnavailable):  # then the leases end by themselves
                self.duties.leave()
        return all(ended) and not any(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Close connections; after `stop`."""
        for close in self._closes:
            close()


def _wake(workers: Mapping[str, Worker], stage: Stage, accounts: Iterable[str] | None) -> None:
    """Wake those of our workers; without `accounts`, all."""
    for account in workers.keys() & (workers.keys() if accounts is None else set(accounts)):
        workers[account].wake(stage)


def _listen_url(settings: Settings) -> str | None:
    """Where processes wake each other; None on a ledger that only one works on."""
    return (settings.ledger_listen_url or settings.ledger_url) if is_postgres(settings.ledger_url) else None


def build_client(
    account: Settings, metrics: Metrics, *, stop: threading.Event, now: Callable[[], int] = unix_ms
) -> KlingClient:
    """The API client of one account, with the limiter that all its questions share."""
    limiter = RateLimiter(account.query_rate_per_second, wait=stop.wait)

    def observe(endpoint: str, code: str) -> None:
        metrics.api_requests_total.labels(endpoint=endpoint, code=code).inc()

    return KlingClient(
        account.base_url,
        credential_of(account),
        limiter,
        observe=observe,
        now=lambda: now() / 1000,
        secrets=account.secrets(),
    )


def build_account(
    settings: Settings, metrics: Metrics, *, stop: threading.Event, now: Callable[[], int] = unix_ms
) -> Account:
    """What the stages need to know of one account; `settings` are those of this account alone."""
    return Account(
        name=settings.account,
        families=settings.families,
        client=build_client(settings, metrics, stop=stop, now=now),
        limits=TransferLimits(
            image_bytes_max=settings.asset_bytes_max, video_bytes_max=settings.video_bytes_max
        ),
        prefix=settings.s3_prefix,
        former_names=settings.account_former_names,
        full_sweep_interval_ms=int(settings.sweep_full_interval_seconds * 1000),
    )


def expected_of(settings: Settings, role: ProcessRole = ProcessRole.WHOLE) -> Expected:
    """What problems are measured by. A door knows the names of accounts only: what is swept, the workers say."""
    if not role.works:
        return Expected({account.name: () for account in settings.accounts}, 0)
    families = {
        account.name: swept(account.families, has_api_key=account.api_key is not None)
        for account in settings.accounts
    }
    return Expected(families, int(settings.sweep_interval_seconds * 1000))


def require_account(ledger: Ledger, settings: Settings) -> None:
    """Raises SettingsError where the ledger knows accounts, and the settings name none of them: a second history would
    begin beside the first, and no worker would serve the first."""
    known, ours = ledger.accounts.names(), [account.name for account in settings.accounts]
    if not known or not set(known).isdisjoint(ours):
        return
    old, new = (names[0] if len(names) == 1 else word for names, word in ((known, "OLD"), (ours, "NEW")))
    where = "[[accounts]]" if settings.several else "KLING_ACCOUNT"
    problem = (
        f"the ledger {ledger.database.name} knows only the account {' and '.join(known)}, not {' or '.join(ours)}, as "
        f"{where} has it. Where it is the same account by another name, run: kling-archiver rename-account {old} {new} "
        "(the bucket stays as it is). For an account of its own, name another ledger in KLING_LEDGER_URL."
    )
    raise SettingsError([problem])


def build_engine(
    settings: Settings,
    ledger: Ledger,
    metrics: Metrics,
    *,
    role: ProcessRole = ProcessRole.WHOLE,
    stop: threading.Event,
    on_death: Callable[[], None],
) -> Engine:
    """The engine of a process: of one that only answers others, its sign of life. Raises SettingsError when boto3
    refuses its part of the settings."""
    if not role.works:
        return _build_idle(settings, ledger, metrics, role=role, stop=stop, on_death=on_death)
    accounts = [build_account(account, metrics, stop=stop, now=ledger.now) for account in settings.accounts]
    clients = {account.name: account.client for account in accounts}
    spool = build_spool(settings)
    policy = EgressPolicy.parse(settings.asset_hosts)
    fetcher = Fetcher(policy=policy, spool=spool, proxy=settings.proxy)
    machine_loop = MachineLoop(MachineLook(spool, settings.ledger_url), stop=stop)
    clocks = ApiClocks(clients, int(settings.sweep_interval_seconds * 1000), now=ledger.now)
    store = build_store(settings)
    workers: dict[str, Worker] = {}
    wake_ups = WakeUps.build(_listen_url(settings), functools.partial(_wake, workers), stop=stop)
    outages: dict[str, Callable[[Failure], object]] = {}
    verifiers: list[Verifier] = []
    duties = build_keeper(ledger, clients, clocks, workers)
    process_holds = _build_process_holds(settings, ledger, duties)
    kept = ledger.fenced(UPKEEP, functools.partial(duties.token, UPKEEP))
    upkeep = Upkeep(
        ledger,
        metrics,
        clocks,
        daemon_name=duties.name,
        version=VERSION,
        started_at=ledger.now(),
        serves=role.serves(settings),
        kept=kept,
        keeps_up=duties.keeps_up,
        asks_for=duties.accounts,
        leases=lambda: sum(worker.leases() for worker in workers.values()),
        warnings=(
            functools.partial(doubts.problems, settings),
            machine_loop.problems,
            lambda: itertools.chain.from_iterable(verifier.problems() for verifier in verifiers),
            *(loop.problems for loop in wake_ups.loops),
            *(
                [process_holds.problems, SharedStore(ledger, store).problems]
                if process_holds is not None
                else []
            ),
        ),
    )
    # The upkeep is the process's. With one account its log lines name it; with several they would name a wrong one.
    bound = {"account": accounts[0].name} if len(accounts) == 1 else None
    guard = Guard(stop=stop, on_death=on_death, bound=bound)
    slots = TransferSlots(settings.transfer_concurrency)
    pools: list[PrestartedPool] = []
    for account in accounts:
        pools.append(_transfer_pool(account, threads=settings.transfer_concurrency))
        stages = build_stages(
            account,
            ledger=ledger,
            store=store,
            fetcher=fetcher,
            metrics=metrics,
            transfer_pool=pools[-1],
            transfers=settings.transfer_concurrency,
            accounts=len(accounts),
            clock=Clock(now_ms=ledger.now),
            asking=ledger.fenced(asking(account.name), Tenure(duties, account.name).token),
            process_holds=process_holds,
        )
        verifiers.append(stages.verifier)
        outages[account.name] = stages.outages.of(Outside.STORE).failed
        workers[account.name] = Worker(
            stages,
            _worker_limits(settings),
            stop=stop,
            on_death=on_death,
            slots=slots,
            may_ask=Tenure(duties, account.name).may_ask,
        )

    def close_pools() -> None:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)

    second_look = SecondLook(kept, store, metrics, outages, pause=lambda: not stop.wait(CALL_SECONDS))
    second_look_loop = SecondLookLoop(second_look, stop=stop, is_ours=duties.keeps_up)
    forward_loop = _forward_loop(settings, ledger, store, metrics, guard)
    loops: list[Loop] = [
        DutyLoop(duties, stop=stop),
        UpkeepLoop(upkeep, stop=stop),
        machine_loop,
        forward_loop,
        second_look_loop,
        *wake_ups.loops,
    ]
    if process_holds is not None:
        loops.append(ProcessHoldLoop(process_holds, ledger.daemons, name=duties.name, stop=stop))
    if settings.alert_url is not None:
        loops.append(
            AlertLoop(
                kept,
                expected_of(settings),
                _alert_sender(settings),
                now=ledger.now,
                stop=stop,
                is_ours=duties.keeps_up,
            )
        )
    closes = (close_pools, fetcher.close, wake_ups.close, *(client.close for client in clients.values()))
    return Engine(
        workers,
        duties,
        upkeep,
        Health(ledger, metrics, clocks, expected_of(settings)),
        ledger,
        spool,
        tuple(guard.thread(Threads(), loop.name, loop.step) for loop in loops),
        closes,
        wake_ups.tell,
        forward_loop,
    )


def _forward_loop(
    settings: Settings, ledger: Ledger, store: Store, metrics: Metrics, guard: Guard
) -> ForwardLoop:
    operator = None
    if settings.forward_url is not None:
        secrets = [secret.get_secret_value() for secret in settings.forward_secret]
        operator = Operator(vet_own(settings.forward_url.get_secret_value()), Signing(secrets))
    forwarder = Forwarder(
        ledger=ledger,
        store=store,
        sender=WebhookSender(proxy=settings.proxy),
        accounts={
            account.name: ForwardAccount(
                durable_urls(account, store),
                Signing([secret.get_secret_value() for secret in account.signing_secret]),
            )
            for account in settings.accounts
        },
        operator=operator,
        policy=ConsumerPolicy.parse(settings.forward_hosts),
        bucket=settings.s3_bucket,
        metrics=metrics,
        now=ledger.now,
        monotonic=seconds_passed,
        random=random.random,
        retries=log.Sparing(),
    )
    pool = PrestartedPool(FORWARD_THREADS, name="forward")
    return ForwardLoop(forwarder, pool, guard, wake=threading.Event())


def durable_urls(account: Settings, store: Store) -> DurableUrls:
    """What stands in forwards of this account in place of the API's URLs."""
    signer = signer_of(account.link_secrets(), account.public_url)
    chosen = account.forward_links or (UrlKind.S3 if signer is None else UrlKind.LINKS)
    is_prefix = chosen.startswith("https://")
    return DurableUrls(
        kind=UrlKind.PREFIX if is_prefix else UrlKind(chosen),
        bucket=account.s3_bucket,
        store=store,
        signer=signer,
        prefix=chosen if is_prefix else "",
    )


def _build_process_holds(settings: Settings, ledger: Ledger, duties: DutyKeeper) -> ProcessHolds | None:
    """None on a ledger that only one process works on: all that holds it holds for all."""
    if not is_postgres(settings.ledger_url):
        return None
    holds = ProcessHolds(ledger.daemons, name=duties.name, for_all=ledger.holds, now=ledger.now)
    duties.shunned = holds.shunned
    return holds


def _build_idle(
    settings: Settings,
    ledger: Ledger,
    metrics: Metrics,
    *,
    role: ProcessRole,
    stop: threading.Event,
    on_death: Callable[[], None],
) -> Engine:
    clocks = ApiClocks({}, 0, now=ledger.now)
    wake_ups = WakeUps.build(_listen_url(settings), functools.partial(_wake, {}), stop=stop)
    sender = wake_ups.loops[:1]  # no loop of ours is woken
    upkeep = Upkeep(
        ledger,
        metrics,
        clocks,
        daemon_name=new_daemon_name(),
        version=VERSION,
        started_at=ledger.now(),
        serves=role.serves(settings),
        warnings=(functools.partial(doubts.problems, settings), *(loop.problems for loop in sender)),
    )
    loops: list[Loop] = [UpkeepLoop(upkeep, stop=stop), *sender]
    guard = Guard(stop=stop, on_death=on_death)
    threads = tuple(guard.thread(Threads(), loop.name, loop.step) for loop in loops)
    health = Health(ledger, metrics, clocks, expected_of(settings, role))
    spool = build_spool(settings) if role.relays(settings) else None
    return Engine({}, None, upkeep, health, ledger, spool, threads, (wake_ups.close,), wake_ups.tell)


def _transfer_pool(account: Account, *, threads: int) -> PrestartedPool:
    return PrestartedPool(threads, name="transfer", begin=functools.partial(log.bind, account=account.name))


def build_store(settings: Settings) -> S3Store:
    """The bucket of the settings, for all accounts. Raises SettingsError."""
    return _open_store(
        settings,
        connections=settings.transfer_concurrency
        * (1 + len(settings.accounts) * _STORE_CONNECTIONS_PER_ACCOUNT),
    )


def build_link_store(settings: Settings) -> S3Store:
    """The same bucket, for those who wait for a link: each call ends within seconds. Raises SettingsError."""
    return _open_store(
        settings,
        connections=_LINK_CONNECTIONS,
        attempts_max=1,
        connect_timeout_seconds=_LINK_CONNECT_SECONDS,
        read_timeout_seconds=_LINK_READ_SECONDS,
    )


def _open_store(settings: Settings, *, connections: int, **limits: Any) -> S3Store:
    try:
        return S3Store.from_settings(
            bucket=settings.s3_bucket,
            endpoint_url=settings.s3_endpoint_url,
            region=settings.s3_region,
            addressing_style=settings.s3_addressing_style,
            max_pool_connections=connections,
            **limits,
        )
    except Failure as error:
        raise SettingsError([f"KLING_S3_… or the AWS configuration: {error}"]) from error


def _alert_sender(settings: Settings) -> AlertSender:
    url = settings.alert_url.get_secret_value() if settings.alert_url else ""
    secrets = [secret.get_secret_value() for secret in settings.alert_secret]
    return AlertSender(url, WebhookSender(proxy=settings.proxy), secrets=secrets)


def credential_of(settings: Settings) -> Credential:
    """What the account asks Kling with: the API Key where there is one, since it opens all paths."""
    if settings.api_key is not None:
        return ApiKey(settings.api_key.get_secret_value())
    access_key, secret_key = settings.access_key, settings.secret_key
    if access_key is None or secret_key is None:
        raise SettingsError(["KLING_ACCESS_KEY and KLING_SECRET_KEY (or KLING_API_KEY) are missing"])
    return KeyPair(access_key.get_secret_value(), secret_key.get_secret_value())


def build_spool(settings: Settings) -> Spool:
    """Where this process's downloads wait."""
    return Spool(settings.spool_dir, memory_bytes_max=SPOOL_MEMORY_BYTES_MAX)


def _worker_limits(settings: Settings) -> WorkerLimits:
    return WorkerLimits(
        transfer_concurrency=settings.transfer_concurrency,
        sweep_interval_seconds=settings.sweep_interval_seconds,
    )
